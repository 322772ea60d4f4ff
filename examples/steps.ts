/** Progress: one line a step, which on a terminal changes until the step is done. */
import process from "node:process";

const mib = (bytes: number) => `${Math.round(bytes / 1024 / 1024)} MiB`;
/** A terminal is not written to more often. */
const SHOWN_EVERY_MS = 100;

export class Steps implements Disposable {
  #number = 0;
  #text = "";
  #shown = 0;

  readonly total: number;

  /** `total`: how many there will be. */
  constructor(total: number) {
    this.total = total;
  }

  /** Runs one, and says how long it took. */
  async run<T>(name: string, step: () => Promise<T>): Promise<T> {
    this.#text = `[${++this.#number}/${this.total}] ${name}`;
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${this.#text}`);
    const start = performance.now();
    const result = await step();
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const again = process.stderr.isTTY ? "\r\x1b[K" : "";
    process.stderr.write(`${again}${this.#text}, ${seconds} s\n`);
    this.#text = "";
    return result;
  }

  /** How far the step is, in bytes; `total` is an estimate. */
  show(done: number, total: number): void {
    const now = performance.now();
    if (!process.stderr.isTTY || now - this.#shown < SHOWN_EVERY_MS) return;
    this.#shown = now;
    const percent = Math.min(99, Math.floor(100 * done / Math.max(1, total)));
    process.stderr.write(`\r\x1b[K${this.#text}: ${percent} %, ${mib(done)}`);
  }

  /** Ends the line of a step that failed. */
  [Symbol.dispose](): void {
    if (this.#text !== "" && process.stderr.isTTY) process.stderr.write("\n");
  }
}
