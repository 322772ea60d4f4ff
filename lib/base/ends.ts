/**
 * What becomes of several things that end at once.
 *
 * @module
 */

/**
 * Waits until all of them have ended, and gives what they resolved to. Rejects with what one of them
 * rejected with, and if there are more with an AggregateError that has them all: none stays unsaid.
 */
export async function allEnded<T>(ends: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(ends);
  const errors = settled.flatMap((end) => end.status === "rejected" ? [end.reason] : []);
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) {
    throw new AggregateError(errors, errors.map((error) => error?.message ?? error).join("; "));
  }
  return settled.flatMap((end) => end.status === "fulfilled" ? [end.value] : []);
}
