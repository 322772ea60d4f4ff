/**
 * What the kernel says of a bound loop device.
 *
 * @module
 */
import { blkGetDiskseq, blkGetSize64, blkSszGet } from "./blkpg.ts";
import type { OpenFile } from "./file.ts";
import { LO_FLAGS_DIRECT_IO, LO_FLAGS_READ_ONLY, loopGetStatus64 } from "./loop.ts";
import { sysfsBackingFile } from "./sysfs.ts";

/** What the kernel says of a bound loop device; bytes. */
export interface LoopFacts {
  readonly backingFile: string;
  /** lo_device and lo_inode: which file it is, whatever its name. */
  readonly backingIdentity: string;
  readonly offset: number;
  readonly sizelimit: number;
  readonly size: number;
  readonly sectorSize: number;
  readonly readOnly: boolean;
  readonly directIo: boolean;
  readonly diskseq: number | undefined;
}

/** Asks the kernel, not our memory of what we told it. */
export function readFacts(device: OpenFile, number: number): LoopFacts {
  const { lo_offset, lo_sizelimit, lo_flags, lo_device, lo_inode } = loopGetStatus64(device);
  return {
    backingFile: sysfsBackingFile(number) ?? "",
    backingIdentity: `${lo_device} ${lo_inode}`,
    offset: Number(lo_offset),
    sizelimit: Number(lo_sizelimit),
    size: blkGetSize64(device),
    sectorSize: blkSszGet(device),
    readOnly: (lo_flags & LO_FLAGS_READ_ONLY) !== 0,
    directIo: (lo_flags & LO_FLAGS_DIRECT_IO) !== 0,
    diskseq: blkGetDiskseq(device),
  };
}
