/**
 * docs/machines.md: on which machines and runtimes loopdev has run, and what. Runs write their own
 * rows; those of other machines stay.
 */
import { readFileSync, writeFileSync } from "node:fs";

const PAGE = new URL("../docs/machines.md", import.meta.url);

/** One machine with one runtime, and what was run there. */
export interface Row {
  /** As uname -m says. */
  readonly machine: string;
  readonly kernel: string;
  readonly libc: string;
  readonly runtime: string;
  readonly ran: string;
  readonly result: string;
  readonly failed: boolean;
  readonly commit: string;
}

const COLUMNS = ["machine", "libc", "runtime", "ran", "result", "kernel", "commit"] as const;
const TITLES = ["machine", "libc", "runtime", "what was run", "result", "kernel", "commit"];

type Cells = string[];

/** The same machine, libc, runtime and kind of run: a newer run replaces the older one. */
const key = (cells: Cells) => [cells[0], cells[1].split(" ")[0], cells[2], cells[3]].join("|");

/** The table's rows, without its head. */
export function readRows(text = readFileSync(PAGE, "utf8")): Cells[] {
  return text.split("\n").filter((line) => line.startsWith("| ")).slice(2)
    .map((line) => line.slice(2, -2).split(" | "));
}

/** Adds rows to the page, or replaces those of the same machine, libc, runtime and kind of run. */
export function writeRows(rows: readonly Row[]): void {
  const text = readFileSync(PAGE, "utf8");
  const fresh = rows.map((row) => COLUMNS.map((column) => row[column]));
  const keys = new Set(fresh.map(key));
  const all = [...readRows(text).filter((cells) => !keys.has(key(cells))), ...fresh];
  const line = (cells: Cells) => `| ${cells.join(" | ")} |`;
  const table = [TITLES, TITLES.map(() => "---"), ...all.toSorted(compare)].map(line).join("\n");
  const head = text.slice(0, text.indexOf("\n| ") + 1);
  const tail = text.slice(text.lastIndexOf(" |\n") + 2);
  writeFileSync(PAGE, head + table + tail);
}

/** x86-64 first, then by name; versions by their numbers. */
function compare(a: Cells, b: Cells): number {
  const order = (cells: Cells) => [cells[0] === "x86_64" ? "0" : "1", ...cells].join(" ");
  return order(a).localeCompare(order(b), "en", { numeric: true });
}
