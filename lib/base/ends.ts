/**
 * Waits until all promises have ended, and gives what they resolved to. One rejection is passed on as it
 * is, several as an AggregateError.
 *
 * @module
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
