/**
 * What the kernel says of a bound loop device.
 *
 * @module
 */
import { blkGetDiskseq, blkGetSize64, blkSszGet } from "./kernel/blkpg.ts";
import { isRefusal } from "./base/errors.ts";
import { decodeDev, ifExists, type OpenFile, readLink } from "./kernel/file.ts";
import {
  LO_FLAGS_DIRECT_IO,
  LO_FLAGS_PARTSCAN,
  LO_FLAGS_READ_ONLY,
  loop_info64,
  loopGetStatus64,
} from "./kernel/loop.ts";
import { sysfsBoundFile } from "./kernel/sysfs.ts";

/** What the kernel says of a bound loop device; bytes. */
export interface LoopFacts {
  /** lo_number: which device it is, whatever its node's name. */
  readonly number: number;
  readonly backingFile: string;
  /** lo_device and lo_inode: which file it is, whatever its name. */
  readonly backingDev: string;
  readonly backingInode: bigint;
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
    backingDev: decodeDev(info("lo_device")),
    backingInode: info("lo_inode"),
    offset: byteCount(info("lo_offset")),
    sizelimit: byteCount(info("lo_sizelimit")),
    size: blkGetSize64(device),
    sectorSize: blkSszGet(device),
    readOnly: (lo_flags & LO_FLAGS_READ_ONLY) !== 0,
    directIo: (lo_flags & LO_FLAGS_DIRECT_IO) !== 0,
    partscan: (lo_flags & LO_FLAGS_PARTSCAN) !== 0,
    diskseq: blkGetDiskseq(device),
  };
}

/** The kernel takes any 64 bits; what a number cannot hold exactly is Infinity, no rounded count. */
export function byteCount(bytes: bigint | string): number {
  const count = Number(bytes);
  return Number.isSafeInteger(count) ? count : Infinity;
}

/** What tells one use of a device from others: the bind (from Linux 5.15 on), the file, the range. */
export interface DeviceIdentity {
  readonly number: number;
  readonly backingDev: string | undefined;
  readonly backingInode: bigint | undefined;
  readonly offset: number;
  readonly sizelimit: number;
  readonly diskseq: number | undefined;
}

/** Whether two looks at a device saw the same use of it. */
export function isSameUse(a: DeviceIdentity, b: DeviceIdentity): boolean {
  return a.number === b.number && a.diskseq === b.diskseq && a.backingDev === b.backingDev &&
    a.backingInode === b.backingInode && a.offset === b.offset && a.sizelimit === b.sizelimit;
}

/** Whether an open device is still in the use in which it was seen. */
export function isStill(device: OpenFile, seen: LoopFacts): boolean {
  try {
    return isSameUse(readFacts(device), seen);
  } catch (error) {
    // Unbound by somebody else.
    if (isRefusal(error, "ENXIO")) return false;
    throw error;
  }
}

/** As sysfs writes it, and faster; undefined where /proc is not mounted. */
function nameOf(file: OpenFile): string | undefined {
  try {
    return ifExists(() => file.call((fd) => readLink(`/proc/self/fd/${fd}`)));
  } catch (error) {
    // ENAMETOOLONG: longer than PATH_MAX with the working directory before it; nobody can say it.
    if (isRefusal(error, "ENAMETOOLONG")) return file.path;
    throw error;
  }
}
