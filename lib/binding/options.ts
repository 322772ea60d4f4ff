/**
 * What a caller may ask of attach(), checked before any system call.
 *
 * @module
 */
import {
  checkBoolean,
  checkByteCount,
  checkFunction,
  checkSignal,
  checkText,
  checkTimeout,
  checkWholeNumber,
  show,
} from "../base/checks.ts";
import type { Holder } from "../holders/holders.ts";
import { checkAgainst, type Checked, oneOf, type Rows } from "../base/options.ts";
import { SECTOR_SIZES, type SectorSize } from "../table/sectors.ts";

/**
 * Options of {@linkcode attach}; their names are losetup's long options.
 *
 * @example
 * ```ts
 * import { type AttachOptions } from "@loopdev/loopdev";
 * const options: AttachOptions = { partscan: true, readOnly: true, offset: 2 ** 20 };
 * ```
 */
export interface AttachOptions {
  /**
   * Make the image's partitions usable. `true`: the kernel scans (what it cannot read is added for
   * it); `"userspace"`: the kernel never scans, partitions are added one by one, which spares the two
   * steps' wait on a kernel with {@linkcode PARTSCAN_RACE}; but BLKRRPART (fdisk, sfdisk) is EINVAL
   * on the device then. Default `false`.
   */
  partscan?: boolean | "userspace";
  /**
   * The detour around {@linkcode PARTSCAN_RACE}: by the kernel's release (`"auto"`, the default); by
   * {@linkcode probePartscanRace}, once a process (`"probe"`, for vendor kernels whose release hides
   * a backport); `"always"`; or `"never"`.
   */
  workaround?: "auto" | "probe" | "always" | "never";
  /**
   * `true`: the device refuses writes. `false`: fail if the file cannot be written. Left out: writable
   * if the file is, as losetup does.
   */
  readOnly?: boolean;
  /** Where the device begins in the file, in bytes. Default 0. */
  offset?: number;
  /** The most bytes the device may have; 0, the default: up to the end of the file. */
  sizelimit?: number;
  /**
   * Logical sector size in bytes: a power of two from 512 to 4096. `"auto"`: the one that the image's
   * GPT is made for, or else the kernel's. Default: the kernel's, 512; with `partscan` an image whose
   * GPT is made for another size is refused then, since it would look empty.
   */
  sectorSize?: SectorSize | "auto";
  /** Bypass the backing file's page cache; rejects if the kernel cannot. Default `false`. */
  directIo?: boolean;
  /**
   * What if the file is attached already, at a range that overlaps this one? `"allow"`, the default;
   * `"refuse"`: reject; `"reuse"`: resolve to the device with just this range, which the handle then
   * does not own, and reject for any other overlap. All processes that attach the file so decide one after
   * the other (by a lock of the file, for which attach() waits `timeout` ms); losetup, and attach() with
   * `"allow"`, do not take that lock. `"refuse"` also rejects, with EBUSY, a block device that is mounted, or
   * that another device holds.
   */
  overlap?: "allow" | "refuse" | "reuse";
  /** The wanted device: 4 for /dev/loop4, made if it does not exist. Default: any free one. */
  number?: number;
  /** lo_file_name, `losetup --loop-ref`: at most 63 bytes. Default: the file's path, cut to fit. */
  reference?: string;
  /**
   * Where a node does not appear in /dev (a container's static one): `"auto"`, the default, makes it
   * and removes it at detach; `"kernel"` only waits; `"never"` does not look.
   */
  nodes?: "auto" | "kernel" | "never";
  /**
   * `"shared"`: locks the device's node with flock(2) from before the bind to the detach, so that udevd
   * before systemd 259 never has the kernel drop its partitions and add them again, whoever opens and
   * closes the device. udevd goes on looking at it. Programs that want the lock exclusively (sfdisk
   * with `--lock`, mtools, systemd-repart) wait for the detach or fail. Default: no lock.
   */
  lock?: "shared";
  /**
   * How many ms partitions may take to be ready, and how many another's lock of the wanted device, or
   * another attach of the file with `overlap`, may be in the way. Default 10 000.
   */
  timeout?: number;
  /**
   * Stops attach(), which then undoes what it did and rejects with the signal's reason. It does not wait
   * longer than 250 ms for a call that hangs: what that has done is undone when it ends.
   */
  signal?: AbortSignal;
  /**
   * Called if the device stays attached when an `await using` block ends, because others hold it: it
   * detaches when they close it. By default a warning on the console says so. Not called after
   * {@linkcode LoopDevice.detach}, which has an `onDeferred` of its own.
   */
  onDeferred?: (path: string, holders: readonly Holder[]) => void;
}

/** 20 bits of minor numbers. */
const MOST_DEVICES = 2 ** 20 - 1;

const checkDeviceNumber = (name: string, value: unknown) =>
  checkWholeNumber(name, value, 0, MOST_DEVICES);

/** The options of attach(), one a row. */
export const ATTACH = {
  partscan: { check: oneOf(false, true, "userspace"), default: false },
  workaround: { check: oneOf("auto", "probe", "always", "never"), default: "auto" },
  readOnly: { check: checkBoolean },
  offset: { check: checkByteCount, default: 0 },
  sizelimit: { check: checkSizelimit, default: 0 },
  sectorSize: { check: oneOf(...SECTOR_SIZES, "auto") },
  directIo: { check: checkBoolean, default: false },
  overlap: { check: oneOf("allow", "refuse", "reuse"), default: "allow" },
  number: { check: checkDeviceNumber },
  reference: { check: checkReference },
  nodes: { check: oneOf("auto", "kernel", "never"), default: "auto" },
  lock: { check: oneOf("shared") },
  timeout: { check: checkTimeout, default: 10_000 },
  signal: { check: checkSignal },
  onDeferred: { check: checkFunction },
} satisfies Rows<AttachOptions>;

/** Options of attach() with their defaults. */
export type CheckedOptions = Checked<AttachOptions, typeof ATTACH>;

/** Throws a TypeError or RangeError that names the option and what it takes. */
export function checkOptions(options: AttachOptions): CheckedOptions {
  return checkAgainst(options, ATTACH);
}

/**
 * Options of {@linkcode readPartitions}; they mean what they mean to {@linkcode attach}.
 *
 * @example
 * ```ts
 * import { type ReadPartitionsOptions } from "@loopdev/loopdev";
 * const options: ReadPartitionsOptions = { sectorSize: 4096 };
 * ```
 */
export interface ReadPartitionsOptions {
  /** Where the disk begins in the file, in bytes. Default 0. */
  offset?: number;
  /** The most bytes the disk may have; 0, the default: up to the end of the file. */
  sizelimit?: number;
  /**
   * The unit in which the table is read: 512, 1024, 2048 or 4096 bytes. Default `"auto"`: the size
   * that the GPT is made for; an MBR does not tell, so of a block device its own, of a file 512.
   */
  sectorSize?: SectorSize | "auto";
  /** Stops the reading: readPartitions() rejects with its reason. */
  signal?: AbortSignal;
}

/** The options of readPartitions(), one a row. */
export const READ = {
  offset: ATTACH.offset,
  sizelimit: ATTACH.sizelimit,
  sectorSize: { ...ATTACH.sectorSize, default: "auto" },
  signal: ATTACH.signal,
} satisfies Rows<ReadPartitionsOptions>;

/** The same for readPartitions(). */
export function checkReadOptions(
  options: ReadPartitionsOptions,
): Checked<ReadPartitionsOptions, typeof READ> {
  return checkAgainst(options, READ);
}

function checkSizelimit(name: string, value: unknown): void {
  checkByteCount(name, value);
  if (value === 0 || value as number >= 512) return;
  throw new RangeError(`sizelimit ${value} leaves no whole 512-byte sector (0: no limit)`);
}

function checkReference(name: string, value: unknown): void {
  if (typeof value !== "string") {
    throw new TypeError(`${name} must be a string, not ${show(value)}`);
  }
  checkText(name, value);
  const { length } = new TextEncoder().encode(value);
  if (length > 63) throw new RangeError(`${name} has ${length} bytes; lo_file_name holds 63`);
}
