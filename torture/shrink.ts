/**
 * Delta debugging: a list without all that its failure does not need (Zeller, Hildebrandt: "Simplifying and
 * Isolating Failure-Inducing Input", 2002).
 */

/**
 * The shortest list found that still `fails`. Takes away halves first, then smaller parts, at last each one
 * alone, and begins again as long as that helps. `fails` may answer no where a race was not lost, so what is
 * left can be more than it takes; it is never less.
 */
export async function shrink<T>(
  all: readonly T[],
  fails: (list: readonly T[]) => Promise<boolean>,
): Promise<readonly T[]> {
  let list = all;
  for (let size = Math.ceil(all.length / 2); size > 0;) {
    const shorter = await withoutOne(list, size, fails);
    if (shorter) {
      list = shorter;
      size = Math.min(size, Math.ceil(list.length / 2));
    } else size = size === 1 ? 0 : Math.ceil(size / 2);
  }
  return list;
}

/** The list without one part of that size; from its end, since what was done last is needed least. */
async function withoutOne<T>(
  list: readonly T[],
  size: number,
  fails: (list: readonly T[]) => Promise<boolean>,
): Promise<readonly T[] | undefined> {
  for (let end = list.length; end > 0; end -= size) {
    const start = Math.max(0, end - size);
    const rest = [...list.slice(0, start), ...list.slice(end)];
    if (rest.length > 0 && await fails(rest)) return rest;
  }
  return undefined;
}

/** The same list with simpler elements, one after another: the first of `simplerOf` that still fails. */
export async function simplify<T>(
  all: readonly T[],
  simplerOf: (one: T) => readonly T[],
  fails: (list: readonly T[]) => Promise<boolean>,
): Promise<readonly T[]> {
  let list = all;
  for (let i = 0; i < list.length; i++) {
    for (const simpler of simplerOf(list[i])) {
      const tried = list.with(i, simpler);
      if (!await fails(tried)) continue;
      list = tried;
      break;
    }
  }
  return list;
}
