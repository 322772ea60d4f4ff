/** What bench, torture and vm print: a plain table, and on stderr a line that says how far they are. */
import process from "node:process";

/** Columns as wide as they need to be, those of numbers flush right; the first row is the header. */
export function table(rows: readonly (readonly string[])[]): string {
  const columns = rows[0].map((_, column) => rows.map((row) => row[column] ?? ""));
  const widths = columns.map((cells) => Math.max(...cells.map(({ length }) => length)));
  const isNumber = columns.map(([, ...cells]) => cells.every((cell) => /^-?[\d.]*$/.test(cell)));
  const line = (row: readonly string[]) =>
    row.map((cell, column) =>
      isNumber[column] ? cell.padStart(widths[column]) : cell.padEnd(widths[column])
    ).join("  ").trimEnd();
  return [
    line(rows[0]),
    widths.map((width) => "-".repeat(width)).join("  "),
    ...rows.slice(1).map(line),
  ]
    .join("\n");
}

/** A line that the next one replaces, if somebody looks. */
export function progress(text: string): void {
  const width = (process.stderr.columns ?? 80) - 1;
  if (process.stderr.isTTY) {
    process.stderr.write(`\r\x1b[K${text.slice(0, width)}`);
  }
}

/** A line that stays. */
export function say(text: string): void {
  process.stderr.write(`${process.stderr.isTTY ? "\r\x1b[K" : ""}${text}\n`);
}

/** "[3/20] text · about 12 min left": one line on a terminal, a line per change elsewhere. */
export class Progress {
  readonly #start = Date.now();
  #done = 0;
  #last = "";

  readonly total: number;

  constructor(total: number) {
    this.total = total;
  }

  show(text: string): void {
    const line = `[${this.#done + 1}/${this.total}] ${text}${this.#left()}`;
    if (process.stderr.isTTY) progress(line);
    // Counters would fill a log.
    else if (!/\d+\/\d+$/.test(text) && line !== this.#last) say(line);
    this.#last = line;
  }

  /** A line that stays. */
  log(text: string): void {
    say(text);
  }

  /** One cell is over. */
  finish(): void {
    this.#done++;
  }

  close(): void {
    progress("");
  }

  #left(): string {
    if (this.#done === 0) return "";
    const each = (Date.now() - this.#start) / this.#done;
    const seconds = each * (this.total - this.#done) / 1000;
    return seconds < 90
      ? ` · about ${Math.ceil(seconds)} s left`
      : ` · about ${Math.ceil(seconds / 60)} min left`;
  }
}
