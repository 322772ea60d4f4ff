/** A line that the host takes for a result; all other output of the guest goes to its log. */
export function report(event: Record<string, unknown>): void {
  console.log("#guest " + JSON.stringify(event));
}

let nextProgress = 0;

/** At most one line a second: the console is an emulated serial port, and slow. */
export function progress(done: number, total: number): void {
  if (Date.now() < nextProgress && done < total) return;
  nextProgress = Date.now() + 1000;
  report({ event: "progress", done, total });
}
