/**
 * What the kernel says of a bound loop device.
 *
 * @module
 */
import { blkGetDiskseq, blkGetSize64, blkSszGet } from "./blkpg.ts";
import { LoopError } from "./errors.ts";
import { ifExists, type OpenFile, readLink } from "./file.ts";
import {
  LO_FLAGS_DIRECT_IO,
  LO_FLAGS_PARTSCAN,
  LO_FLAGS_READ_ONLY,
  loop_info64,
  loopGetStatus64,
} from "./loop.ts";
import { sysfsBoundFile } from "./sysfs.ts";

/** What the kernel says of a bound loop device; bytes. */
export interface LoopFacts {
  /** lo_number: which device it is, whatever its node's name. */
  readonly number: number;
  readonly backingFile: string;
  /** lo_device and lo_inode: which file it is, whatever its name. */
  readonly backingIdentity: string;
  readonly offset: number;
  readonly sizelimit: number;
  readonly size: number;
  readonly sectorSize: number;
  readonly readOnly: boolean;
  readonly directIo: boolean;
  readonly partscan: boolean;
  readonly diskseq: number | undefined;
}

/**
 * Asks the kernel, not our memory of what we told it. `backing`: the bound file if it is still open,
 * whose name /proc knows faster than sysfs.
 */
export function readFacts(device: OpenFile, backing?: OpenFile): LoopFacts {
  const info = loop_info64.reader(loopGetStatus64(device));
  const [lo_number, lo_flags] = [info("lo_number"), info("lo_flags")];
  return {
    number: lo_number,
    backingFile: (backing && nameOf(backing)) ?? sysfsBoundFile(lo_number),
    backingIdentity: `${info("lo_device")} ${info("lo_inode")}`,
    offset: Number(info("lo_offset")),
    sizelimit: Number(info("lo_sizelimit")),
    size: blkGetSize64(device),
    sectorSize: blkSszGet(device),
    readOnly: (lo_flags & LO_FLAGS_READ_ONLY) !== 0,
    directIo: (lo_flags & LO_FLAGS_DIRECT_IO) !== 0,
    partscan: (lo_flags & LO_FLAGS_PARTSCAN) !== 0,
    diskseq: blkGetDiskseq(device),
  };
}

/** As sysfs writes it, and faster; undefined where /proc is not mounted. */
function nameOf(file: OpenFile): string | undefined {
  try {
    return ifExists(() => file.call((fd) => readLink(`/proc/self/fd/${fd}`)));
  } catch (error) {
    // ENAMETOOLONG: longer than PATH_MAX with the working directory before it; nobody can say it.
    if (error instanceof LoopError && error.code === "ENAMETOOLONG") return file.path;
    throw error;
  }
}
