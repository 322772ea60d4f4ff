/**
 * Lets the event loop turn during a long chain of promises.
 *
 * @module
 */
import { libc } from "./libc.ts";

/** Timers, signal handlers and AbortSignals wait at most so long, and for one system call. */
const LONGEST_MS = 4;

let busySince: number | undefined;

/**
 * Lets the event loop turn if it has not for some ms: between promises that are settled already, no
 * timer and no signal handler runs.
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
