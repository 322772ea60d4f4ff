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

/** An aligned table, line by line. `terminal` is the terminal's width; undefined: it is none. */
export function* listTable(
  columns: readonly Layout[],
  rows: Rows,
  { headings, terminal }: { headings: boolean; terminal: number | undefined },
): Generator<string> {
  if (rows.length === 0) return;
  const cells = rows.map((row) => row.map(encodeControls));
  const widths = columnWidths(columns, cells, headings);
  if (terminal !== undefined) fit(columns, cells, widths, headings, terminal);
  if (headings) yield formatLine(columns, columns.map(({ name }) => name), widths);
  for (const line of cells) yield formatLine(columns, line, widths);
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

/** Fits the widths to a terminal: the file's column shrinks if a line is too long, else columns grow. */
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
  let indent = 0;
  for (const [i, cell] of cells.entries()) {
    const isLast = i === cells.length - 1;
    const taken = width(cell);
    const padding = " ".repeat(Math.max(0, widths[i] - taken));
    if (columns[i].right && cell !== "") line += padding + cell;
    else line += isLast ? cell : cell + padding;
    if (isLast) break;
    // A value that is too wide breaks the line; the next column goes on below its heading.
    indent += widths[i] + 1;
    line += taken > widths[i] ? "\n" + " ".repeat(indent) : " ";
  }
  return line + "\n";
}

/** Values with a space between them, line by line. Blanks and all but printable ASCII are \xHH. */
export function* rawTable(
  columns: readonly Layout[],
  rows: Rows,
  headings: boolean,
): Generator<string> {
  if (rows.length === 0) return;
  if (headings) yield columns.map(({ name }) => name).join(" ") + "\n";
  for (const row of rows) yield row.map(encodeNonBlank).join(" ") + "\n";
}

/** libsmartcols's layouts, by LIBSMARTCOLS_JSON: indented; a row on each line; rows without a table. */
export type JsonLayout = "pretty" | "compact" | "lines";

/** `{"loopdevices": [{…}]}`, row by row. What is not known is null. */
export function* jsonTable(
  columns: readonly Layout[],
  rows: Rows,
  layout: JsonLayout,
): Generator<string> {
  const pretty = layout === "pretty";
  const [colon, comma, open, close] = pretty
    ? [": ", ",\n         ", "{\n         ", "\n      }"]
    : [":", ",", "{", "}"];
  const names = columns.map(({ name }) => JSON.stringify(name.toLowerCase()));
  const objects = rows.map((row) =>
    open + columns.map(({ json }, i) => names[i] + colon + jsonValue(json, row[i])).join(comma) +
    close
  );
  if (layout === "lines") return yield* objects.map((object) => `${object}\n`);
  yield pretty ? '{\n   "loopdevices": [\n' : '{"loopdevices":[';
  for (const [i, object] of objects.entries()) {
    yield (i > 0 ? "," : pretty ? "      " : "") + (pretty ? "" : "\n") + object;
  }
  yield pretty ? "\n   ]\n}\n" : "\n]}\n";
}

function jsonValue(type: Layout["json"], value: string): string {
  if (type === "boolean") return String(value !== "" && value !== "0");
  if (value === "") return "null";
  return type === "number" ? value : quoteJson(value);
}
