/**
 * System calls by another thread, so that the event loop goes on: a chain of them in one turn, since
 * to wake a thread and be woken by it takes longer than most of them do.
 *
 * @module
 */
import { isErrno } from "../base/errors.ts";
import type { Argument, Step } from "../runtime/contract.ts";
import { libc } from "../runtime/libc.ts";
import { SYS, type SyscallName } from "./syscalls.ts";

const MOST_INTERRUPTIONS = 100;

/** A call that a signal interrupted has done nothing yet: it is made again. Never close(). */
export function isInterrupted(result: number, times: number): boolean {
  return isErrno(result, "EINTR") && times < MOST_INTERRUPTIONS;
}

/** A call of a chain. */
export interface NamedStep extends Omit<Step, "number"> {
  readonly name: SyscallName;
  /** Not made again after a signal: half of it may have been done. */
  readonly once?: boolean;
}

/**
 * Calls one after another by one turn of another thread, up to the first that fails; what each of them
 * returned. One that a signal of the system's interrupts is made again. `signal` takes back what no thread
 * has begun with.
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

/** The same, whatever becomes of each: in as few turns as it takes. */
export async function eachOnThread(steps: readonly NamedStep[]): Promise<number[]> {
  const results: number[] = [];
  while (results.length < steps.length) {
    results.push(...await chainOnThread(steps.slice(results.length)));
  }
  return results;
}

/** Makes a call until no signal interrupts it. */
export async function uninterruptedOnThread(
  name: SyscallName,
  ...args: Argument[]
): Promise<number> {
  return (await chainOnThread([{ name, args }]))[0];
}
