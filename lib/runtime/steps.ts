/**
 * A chain of system calls, made by this thread.
 *
 * @module
 */
import type { Step } from "./contract.ts";

/**
 * What each call returned, up to the first one that failed. Bun's Workers get this function as its
 * source text, so it refers to nothing outside itself.
 */
export function makeSteps<Arg>(
  steps: readonly Step<Arg>[],
  syscall: (number: number, ...args: NoInfer<Arg | number>[]) => number,
): number[] {
  const results: number[] = [];
  for (const { number, on, args } of steps) {
    const result = on === undefined
      ? syscall(number, ...args)
      : syscall(number, results[on], ...args);
    results.push(result);
    if (result < 0) break;
  }
  return results;
}
