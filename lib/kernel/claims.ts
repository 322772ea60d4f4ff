/**
 * Devices that another thread of this process is about to claim exclusively, by a mount. If this thread
 * opened one with O_EXCL meanwhile, even for a microsecond, the mount would get EBUSY.
 *
 * @module
 */

/** The nodes being claimed; one entry for each claim in flight. */
const inFlight: string[] = [];

/** Runs `claim`, which claims the node at `path`. */
export async function whileClaiming<T>(path: string, claim: () => Promise<T>): Promise<T> {
  inFlight.push(path);
  try {
    return await claim();
  } finally {
    inFlight.splice(inFlight.indexOf(path), 1);
  }
}

/** Whether this device is being claimed, its disk, or, if it is a disk, one of its partitions. */
export function isBeingClaimed(path: string): boolean {
  return inFlight.some((other) =>
    other === path || diskOf(other) === path || other === diskOf(path)
  );
}

/** "/dev/loop4" of "/dev/loop4p1". */
function diskOf(path: string): string {
  return path.replace(/(\/loop\d+)p\d+$/, "$1");
}
