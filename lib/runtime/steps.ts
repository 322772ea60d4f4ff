/**
 * Chains of system calls, on whichever thread.
 *
 * @module
 */
import type { Argument, PlainStep, Step } from "./contract.ts";

/** The steps with addresses for buffers. The caller must keep the buffers until the calls are over. */
export function plainSteps(
  steps: readonly Step[],
  plain: (argument: Argument) => number | bigint,
): PlainStep[] {
  return steps.map((step) => ({ ...step, args: step.args.map(plain) }));
}

/**
 * Makes the calls up to the first that fails; gives what each returned. Workers get this function as
 * its source text, so it refers to nothing outside itself.
 */
export function makeSteps<Arg>(
  steps: readonly Step<Arg>[],
  syscall: (
    number: number,
    a?: NoInfer<Arg | number>,
    b?: NoInfer<Arg>,
    c?: NoInfer<Arg>,
    d?: NoInfer<Arg>,
    e?: NoInfer<Arg>,
  ) => number,
): number[] {
  const results: number[] = [];
  for (const { number, on, args } of steps) {
    const result = on === undefined
      ? syscall(number, args[0], args[1], args[2], args[3], args[4])
      : syscall(number, results[on], args[0], args[1], args[2], args[3]);
    results.push(result);
    if (result < 0) break;
  }
  return results;
}
