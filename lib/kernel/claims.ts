/**
 * Devices that this process is about to take for itself by another thread. Whoever opens one of them
 * with O_EXCL meanwhile, be it for a microsecond, takes it away from that thread: EBUSY.
 *
 * @module
 */

/** How many threads are at each. */
const underWay = new Map<string, number>();

/** Makes `claim`, which takes the node at `path` for itself. */
export async function whileClaiming<T>(path: string, claim: () => Promise<T>): Promise<T> {
  underWay.set(path, (underWay.get(path) ?? 0) + 1);
  try {
    return await claim();
  } finally {
    const others = underWay.get(path)! - 1;
    if (others > 0) underWay.set(path, others);
    else underWay.delete(path);
  }
}

/** Whether this device is being claimed, its disk, or, if it is a disk, one of its partitions. */
export function isBeingClaimed(path: string): boolean {
  return [...underWay.keys()].some((other) => {
    return other === path || diskOf(other) === path || other === diskOf(path);
  });
}

/** "/dev/loop4" of "/dev/loop4p1". */
function diskOf(path: string): string {
  return path.replace(/(\/loop\d+)p\d+$/, "$1");
}
