/** A plain table, and a progress line with an estimate. */
import process from "node:process";

/** Columns as wide as they need to be; the first row is the header. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? "").length))
  );
  const line = (row: readonly string[]) =>
    row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd();
  return [
    line(rows[0]),
    widths.map((width) => "-".repeat(width)).join("  "),
    ...rows.slice(1).map(line),
  ]
    .join("\n");
}

/** "[3/20] text · about 12 min left": one line on a terminal, a line per change elsewhere. */
export class Progress {
  readonly #start = Date.now();
  #done = 0;
  #last = "";

  constructor(readonly total: number) {}

  show(text: string): void {
    const line = `[${this.#done + 1}/${this.total}] ${text}${this.#left()}`;
    if (process.stderr.isTTY) {
      const width = (process.stderr.columns ?? 80) - 1;
      process.stderr.write(`\r\x1b[K${line.slice(0, width)}`);
    } else if (!/\d+\/\d+$/.test(text) && line !== this.#last) {
      process.stderr.write(line + "\n"); // counters would fill a log
    }
    this.#last = line;
  }

  /** A line that stays. */
  log(text: string): void {
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
    process.stderr.write(text + "\n");
  }

  /** One cell is over. */
  finish(): void {
    this.#done++;
  }

  close(): void {
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
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
