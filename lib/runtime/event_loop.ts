/** How a long chain of promises lets the event loop turn. */
import { libc } from "./libc.ts";

/** Timers, signals and AbortSignals wait no longer than this, and one call of the kernel's. */
const LONGEST_MS = 4;

let busySince: number | undefined;

/**
 * Lets the event loop turn if it has not for some ms. A chain of promises that are settled already
 * never lets a timer or a signal handler in; only a macrotask does.
 */
export async function yieldToEventLoop(): Promise<void> {
  const now = performance.now();
  if (busySince === undefined) {
    busySince = now;
    libc().atNextTurn(() => busySince = undefined);
  } else if (now - busySince > LONGEST_MS) {
    await libc().turn();
    busySince = undefined;
  }
}
