/**
 * What happens when a program is interrupted: what it did is undone, and the exit code tells the signal.
 *
 * @module
 */
import type { Runtime, Signal } from "../runtime.ts";

/** Of the signals of {@linkcode Signal}. */
const NUMBERS: Record<Signal, number> = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 };

/** Why an operation was aborted. */
export class Interrupted extends Error {
  readonly exitCode: number;

  constructor(signal: Signal) {
    super(`interrupted by ${signal}`);
    this.exitCode = 128 + NUMBERS[signal];
  }
}

/** Aborts at the first signal that `counts`; from then on none ends the program by itself. */
export function abortOn(runtime: Runtime, counts: (signal: Signal) => boolean): AbortSignal {
  const controller = new AbortController();
  runtime.onSignal((signal) => {
    if (counts(signal)) controller.abort(new Interrupted(signal));
  });
  return controller.signal;
}
