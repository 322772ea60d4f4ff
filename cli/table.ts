/**
 * Tables as libsmartcols prints them: aligned, raw, JSON.
 *
 * @module
 */
import { encodeControls, encodeNonBlank, quoteJson, width } from "./text.ts";

/** How a column is printed. */
export interface Layout {
  readonly name: string;
  readonly json: "string" | "number" | "boolean";
  readonly width: number;
  readonly right: boolean;
  readonly shrinks?: boolean;
}

/** Rows of cells, in the order of the columns. */
export type Rows = readonly (readonly string[])[];

/** An aligned table; `terminal` is the terminal's width, if it is one. Lines with their newline. */
export function listTable(
  columns: readonly Layout[],
  rows: Rows,
  { headings, terminal }: { headings: boolean; terminal: number | undefined },
): string {
  if (rows.length === 0) return "";
  const cells = rows.map((row) => row.map(encodeControls));
  const widths = columnWidths(columns, cells, headings);
  if (terminal !== undefined) fit(columns, cells, widths, headings, terminal);
  const lines = headings ? [columns.map(({ name }) => name), ...cells] : cells;
  return lines.map((line) => formatLine(columns, line, widths) + "\n").join("");
}

function columnWidths(columns: readonly Layout[], cells: Rows, headings: boolean): number[] {
  return columns.map((column, i) => {
    const widest = Math.max(...cells.map((row) => width(row[i])));
    const least = headings ? column.name.length : 1;
    if (widest === 0 && !headings) return 0;
    if (widest <= least) return least;
    return Math.max(widest, column.width);
  });
}

/** On a terminal: the file's column gives way if the line is too long; else there may be room. */
function fit(
  columns: readonly Layout[],
  cells: Rows,
  widths: number[],
  headings: boolean,
  terminal: number,
): void {
  let room = terminal - widths.reduce((sum, width) => sum + width, columns.length - 1);
  for (let i = columns.length - 1; i >= 0 && room < 0; i--) {
    if (!columns[i].shrinks) continue;
    const least = headings ? columns[i].name.length : 1;
    const less = Math.min(-room, widths[i] - least);
    widths[i] -= less;
    room += less;
  }
  for (let grew = true; grew && room > 0;) {
    grew = false;
    for (let i = columns.length - 1; i >= 0 && room > 0; i--) {
      if (widths[i] >= columns[i].width) continue;
      if (widths[i] === 0 && cells.every((row) => row[i] === "")) continue;
      widths[i]++;
      room--;
      grew = true;
    }
  }
}

function formatLine(columns: readonly Layout[], cells: readonly string[], widths: number[]) {
  let line = "";
  for (const [i, cell] of cells.entries()) {
    const isLast = i === cells.length - 1;
    const padding = " ".repeat(Math.max(0, widths[i] - width(cell)));
    if (columns[i].right && cell !== "") line += padding + cell;
    else line += isLast ? cell : cell + padding;
    if (isLast) break;
    // What does not fit breaks the line; the next column goes on below its heading.
    const indent = widths.slice(0, i + 1).reduce((sum, width) => sum + width + 1, 0);
    line += width(cell) > widths[i] ? "\n" + " ".repeat(indent) : " ";
  }
  return line;
}

/** One space between values; blanks and whatever is not printable ASCII as \xHH. */
export function rawTable(columns: readonly Layout[], rows: Rows, headings: boolean): string {
  if (rows.length === 0) return "";
  const names = headings ? [columns.map(({ name }) => name)] : [];
  return [...names, ...rows].map((row) => row.map(encodeNonBlank).join(" ") + "\n").join("");
}

/** `{"loopdevices": [{…}]}`; what is not known is null. */
export function jsonTable(columns: readonly Layout[], rows: Rows): string {
  const objects = rows.map((row) => {
    const members = columns.map(({ name, json }, i) =>
      `         ${JSON.stringify(name.toLowerCase())}: ${jsonValue(json, row[i])}`
    );
    return `{\n${members.join(",\n")}\n      }`;
  });
  const list = objects.length === 0 ? "" : `      ${objects.join(",")}`;
  return `{\n   "loopdevices": [\n${list}\n   ]\n}\n`;
}

function jsonValue(type: Layout["json"], value: string): string {
  if (type === "boolean") return String(value !== "" && value !== "0");
  if (value === "") return "null";
  return type === "number" ? value : quoteJson(value);
}
