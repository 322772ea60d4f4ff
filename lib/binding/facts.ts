/**
 * What the kernel says of a bound loop device.
 *
 * @module
 */
import { blkGetDiskseq, blkGetSize64, blkSszGet } from "../kernel/block.ts";
import { unlessRefused } from "../base/errors.ts";
import { decodeDev, ifExists, type OpenFile, readLink } from "../kernel/file.ts";
import {
  LO_FLAGS_DIRECT_IO,
  LO_FLAGS_PARTSCAN,
  LO_FLAGS_READ_ONLY,
  loop_info64,
  loopGetStatus64,
} from "../kernel/loop.ts";
import { sysfsBoundFile } from "../kernel/sysfs.ts";

/**
 * A bound loop device as the kernel describes it; bytes. Beside each field losetup's column.
 *
 * @example
 * ```ts
 * import { list, type LoopStatus } from "@loopdev/loopdev";
 * const isFragile = ({ autoclear }: LoopStatus) => autoclear;
 * console.log((await list()).filter(isFragile).map(({ path }) => path));
 * ```
 */
export interface LoopStatus {
  /** NAME: "/dev/loop4". */
  readonly path: string;
  /** 4. */
  readonly number: number;
  /** MAJ:MIN: "7:4". */
  readonly dev: string;
  /** BACK-FILE: the whole path, with " (deleted)" behind it if the file has no name any more. */
  readonly backingFile: string;
  /** BACK-MAJ:MIN; undefined without permission to open the device. */
  readonly backingDev: string | undefined;
  /** BACK-INO; undefined without permission to open the device. */
  readonly backingInode: bigint | undefined;
  /** REF: lo_file_name; undefined without permission to open the device. */
  readonly reference: string | undefined;
  /** OFFSET; Infinity if it is no safe integer. */
  readonly offset: number;
  /** SIZELIMIT; 0: none. Infinity if it is no safe integer. */
  readonly sizelimit: number;
  /** Of the device. */
  readonly size: number;
  /** LOG-SEC. */
  readonly sectorSize: number;
  /** AUTOCLEAR. */
  readonly autoclear: boolean;
  /** PARTSCAN. */
  readonly partscan: boolean;
  /** RO. */
  readonly readOnly: boolean;
  /** DIO. */
  readonly directIo: boolean;
  /** Tells this use of the device from others; undefined before Linux 5.15. */
  readonly diskseq: number | undefined;
}

type Backing = "backingDev" | "backingInode";

/** What an open device says of itself: nothing is hidden for lack of permission, as in a LoopStatus. */
export type LoopFacts =
  & Omit<LoopStatus, "path" | "dev" | "reference" | "autoclear" | Backing>
  & { readonly [Field in Backing]: NonNullable<LoopStatus[Field]> };

/**
 * Asks the kernel, whatever we told it before. `backing`: the bound file if it is open here; reading its
 * name in /proc is faster than in sysfs.
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
const IDENTITY = [
  ...["number", "diskseq", "backingDev", "backingInode", "offset", "sizelimit"] as const,
];

/** Whether two looks at a device saw the same use of it. */
export function isSameUse(a: LoopFacts, b: LoopFacts | LoopStatus): boolean {
  return IDENTITY.every((field) => a[field] === b[field]);
}

/** Whether an open device is still in the use in which it was seen. */
export function isStill(device: OpenFile, seen: LoopFacts): boolean {
  // ENXIO: unbound by somebody else.
  return unlessRefused(() => isSameUse(readFacts(device), seen), "ENXIO") ?? false;
}

/** As sysfs writes it, and faster; undefined where /proc is not mounted. */
function nameOf(file: OpenFile): string | undefined {
  const read = () => file.call((fd) => readLink(`/proc/self/fd/${fd}`));
  // ENAMETOOLONG: longer than PATH_MAX with the working directory before it; nobody can say it.
  return ifExists(() => unlessRefused(read, "ENAMETOOLONG") ?? file.path);
}
