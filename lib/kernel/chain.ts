/**
 * System calls by another thread, so that the event loop goes on. A chain of them is sent at once, since
 * waking a thread and being woken by it takes longer than most calls.
 *
 * @module
 */
import { isErrno } from "../base/errors.ts";
import type { Argument, Step } from "../runtime/contract.ts";
import { libc } from "../runtime/libc.ts";
import { SYS, type SyscallName } from "./syscalls.ts";

const MOST_INTERRUPTIONS = 100;

/** Whether a call was interrupted by a signal before it did anything, and so is repeated. Never close(). */
export function isInterrupted(result: number, times: number): boolean {
  return isErrno(result, "EINTR") && times < MOST_INTERRUPTIONS;
}

export interface NamedStep extends Omit<Step, "number"> {
  readonly name: SyscallName;
  /** Not repeated after a signal, since half of it may have been done. */
  readonly once?: boolean;
}

/** Begins to start a thread, if there is none, for a chain that comes soon. */
export const startThread = (): void => libc().startThread();

/**
 * Makes the calls in order, up to the first that fails, and gives what each returned. A call that a signal
 * interrupts is repeated. `signal`, an AbortSignal, cancels the chain while no thread has begun with it.
 */
export async function chainOnThread(
  steps: readonly NamedStep[],
  signal?: AbortSignal,
): Promise<number[]> {
  const results: number[] = [];
  for (let times = 0;; times++) {
    const begin = results.length;
    const rest = steps.slice(begin).map(({ name, on, args }): Step => {
      const number = SYS(name);
      if (on === undefined) return { number, args };
      return on < begin
        ? { number, args: [results[on], ...args] }
        : { number, on: on - begin, args };
    });
    results.push(...await libc().chain(rest, signal));
    const last = results.length - 1;
    if (steps[last].once || !isInterrupted(results[last], times)) return results;
    results.pop();
  }
}

/** The same, but goes on after a call that fails. */
export async function eachOnThread(steps: readonly NamedStep[]): Promise<number[]> {
  const results: number[] = [];
  while (results.length < steps.length) {
    results.push(...await chainOnThread(steps.slice(results.length)));
  }
  return results;
}

/** One call, repeated while signals interrupt it. */
export async function uninterruptedOnThread(
  name: SyscallName,
  ...args: Argument[]
): Promise<number> {
  return (await chainOnThread([{ name, args }]))[0];
}
