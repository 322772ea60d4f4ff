/**
 * Whether the kernel has let go of a loop device.
 *
 * @module
 */
import { LoopError } from "./errors.ts";
import { ifExists } from "./file.ts";
import { removeStalePartitions } from "./partitions.ts";
import { sysfsBackingFile, sysfsDiskseq, sysfsIsBare, sysfsPartitions } from "./sysfs.ts";

/** One use of a loop device, from a bind to a detach. */
export interface DeviceUse {
  readonly number: number;
  readonly path: string;
  readonly backingFile: string | undefined;
  /** undefined before Linux 5.15. */
  readonly diskseq: number | undefined;
}

/**
 * Whether this use of the device is over: it may be free, gone, or somebody else's. `sweep`: unbound
 * with LOOP_CLR_FD, which on older kernels leaves partitions behind that somebody had open just then.
 */
export function isDetached(
  { number, path, backingFile, diskseq }: DeviceUse,
  sweep: boolean,
): boolean {
  if (ifExists(() => sysfsIsBare(number)) ?? true) return true;
  const now = sysfsBackingFile(number);
  if (now !== undefined) {
    return diskseq === undefined ? now !== backingFile : diskseq !== sysfsDiskseq(number);
  }
  // The backing file goes first; where another opener was the last, partitions follow a bit later.
  if (sweep) ifBusy(() => removeStalePartitions(path, number));
  return sysfsPartitions(number).length === 0;
}

/** A clean-up that somebody is in the way of, for now. */
function ifBusy(cleanUp: () => void): void {
  try {
    cleanUp();
  } catch (error) {
    if (!(error instanceof LoopError && ["EBUSY", "ENXIO"].includes(error.code))) throw error;
  }
}
