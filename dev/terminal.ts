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

/** A log gets no more than a line in so many ms. */
const LOG_MS = 8000;
let lastLine = Date.now();

/** A line that the next one replaces, if somebody looks; into a log one now and then. */
export function progress(text: string): void {
  const width = (process.stderr.columns ?? 80) - 1;
  if (process.stderr.isTTY) {
    process.stderr.write(`\r\x1b[K${text.slice(0, width)}`);
  } else if (text !== "" && Date.now() - lastLine >= LOG_MS) say(text);
}

/** A line that stays. */
export function say(text: string): void {
  lastLine = Date.now();
  process.stderr.write(`${process.stderr.isTTY ? "\r\x1b[K" : ""}${text}\n`);
}

/** "[3/20] text · about 12 min left": one line on a terminal, a line per change elsewhere. */
export class Progress {
  readonly #start = Date.now();
  #done = 0;
  #last = "";
  /** Of what was done and passed over, in the estimates' seconds. */
  #doneSeconds = 0;
  #passedSeconds = 0;

  readonly total: number;
  readonly estimates: readonly number[];
  readonly atATime: number;

  /** What each may take in seconds, and how many run at a time. What the first ones take corrects it. */
  constructor(estimates: readonly number[], atATime: number) {
    this.total = estimates.length;
    this.estimates = estimates;
    this.atATime = atATime;
  }

  show(text: string): void {
    const line = `[${this.#done + 1}/${this.total}] ${text}`;
    const shown = `${line} · about ${minutes(this.#left())} left`;
    if (process.stderr.isTTY) progress(shown);
    // Counters would fill a log.
    else if (!/\d+\/\d+$/.test(text) && line !== this.#last) say(shown);
    this.#last = line;
  }

  /** A line that stays. */
  log(text: string): void {
    say(text);
  }

  /** One is over that took about so many seconds by its estimate. */
  finish(estimate: number): void {
    this.#done++;
    this.#doneSeconds += estimate;
  }

  /** One does not run. */
  pass(estimate: number): void {
    this.#done++;
    this.#passedSeconds += estimate;
  }

  close(): void {
    progress("");
  }

  /** What an estimate means here, in seconds, with as many at a time. */
  secondsOf(estimate: number): number {
    const elapsed = (Date.now() - this.#start) / 1000;
    const isMeasured = this.#doneSeconds > 0;
    return isMeasured ? estimate * elapsed * this.atATime / this.#doneSeconds : estimate;
  }

  #left(): number {
    const all = this.estimates.reduce((sum, each) => sum + each, 0);
    return this.secondsOf(all - this.#doneSeconds - this.#passedSeconds) / this.atATime;
  }
}

const minutes = (seconds: number) =>
  seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
