/**
 * The partition table in a file, or on a loop device.
 *
 * @module
 */
import { blkGetSize64 } from "../kernel/blkpg.ts";
import { type ErrorCode, isRefusal, LoopError } from "../base/errors.ts";
import { type OpenFile, readAt } from "../kernel/file.ts";
import type { FoundTable } from "../table/disk.ts";
import { findTable } from "../table/sector_size.ts";

/** Of x86-64 and aarch64. */
const PAGE_SIZES = [4096, 16_384, 65_536];

/** What a device is, or would be; bytes. */
export interface Geometry {
  readonly size: number;
  /** `"auto"`: the one that the GPT is made for, or else the kernel's default. */
  readonly sectorSize: number | "auto";
  /** Instead of the kernel's default. */
  readonly usual?: number;
  /** Where it begins in the file. */
  readonly offset?: number;
}

/**
 * The table of the device that begins at `offset` in `file`. It can be one of another sector size
 * than the wanted one: {@linkcode refuseUnreadable} says so.
 */
export function readTableIn(
  file: OpenFile,
  { size, sectorSize, usual, offset = 0 }: Geometry,
): FoundTable {
  const read = (from: number, length: number) =>
    readWhole(file, offset + from, Math.min(length, size - from));
  return findTable({ size, read }, sectorSize, usual);
}

/** A read that stops before the device's end must not pass for "no table". */
function readWhole(file: OpenFile, offset: number, length: number): Uint8Array {
  const wanted = Math.max(0, length);
  const bytes = readAt(file, offset, wanted);
  if (bytes.length === wanted) return bytes;
  const hint = `only ${bytes.length} of ${wanted} bytes at ${offset} could be read`;
  throw new LoopError({ code: "EIO", syscall: "pread", path: file.path, hint });
}

/**
 * The table of a bound device, whose sectors have that size. If it ends in a part of a sector, the
 * kernel can read nothing in the page around that, and its own scan takes it for "no table".
 */
export function readTable(device: OpenFile, sectorSize: number): FoundTable {
  const size = blkGetSize64(device);
  const end = size - size % sectorSize;
  const read = (from: number, length: number) => {
    let last = end;
    for (const page of end < size ? PAGE_SIZES : []) {
      try {
        return readWhole(device, from, Math.min(length, last - from));
      } catch (error) {
        if (!isRefusal(error, "EIO")) throw error;
        last = size - size % page;
      }
    }
    return readWhole(device, from, Math.min(length, last - from));
  };
  return findTable({ size: end, read }, sectorSize);
}

/**
 * Whether a table accounts for all partitions of its device: one that is not in it should not be there.
 * Where we see none, the kernel may see one of a kind that is not known here, or somebody added partitions
 * by hand.
 */
export function isComplete({ kind, header }: FoundTable): boolean {
  return kind === "gpt" ? header !== undefined : kind !== "none";
}

/** What a person can do, by what he wanted to do. */
const REMEDIES = {
  attach: {
    otherSize: (size: number) => `attach it with sectorSize: ${size}, or "auto"`,
    damaged: "repair it (gdisk), or attach it without partscan",
    ofOtherKind: "attach it without partscan",
  },
  read: {
    otherSize: (size: number) => `read it with sectorSize: ${size}, or "auto"`,
    damaged: "repair it (gdisk)",
    ofOtherKind: "attach() without partscan shows the whole of it",
  },
  rescan: {
    otherSize: (size: number) => `call setSectorSize(${size}) first`,
    damaged: "repair it (gdisk); no partition was touched",
    ofOtherKind: "no partition was touched",
  },
};

/**
 * Throws if there is a GPT that sectors of this size do not show, or a table of a kind that is not
 * read: a full disk must not pass for an empty one.
 */
export function refuseUnreadable(
  table: FoundTable,
  { path, sectorSize, call }: { path: string; sectorSize: number; call: keyof typeof REMEDIES },
): void {
  const { otherSize, damaged, ofOtherKind } = REMEDIES[call];
  const refuse = (code: ErrorCode, hint: string) =>
    new LoopError({ code, syscall: "pread", path, hint });
  if (table.unreadable !== undefined) {
    const what = `its partition table is ${table.unreadable}, a kind that loopdev cannot read`;
    throw refuse("EMEDIUMTYPE", `${what}; ${ofOtherKind}`);
  }
  if (table.kind === "gpt" && table.header === undefined) {
    const what = "its MBR announces a GPT (type 0xee), but at no sector size is a header whole, " +
      "neither the primary nor the backup: it is damaged or cut off";
    throw refuse("EUCLEAN", `${what}; ${damaged}`);
  }
  if (table.sectorSize !== sectorSize) {
    const what =
      `its GPT is made for sectors of ${table.sectorSize} bytes, and would look empty in ` +
      `sectors of ${sectorSize}`;
    throw refuse("EMEDIUMTYPE", `${what}; ${otherSize(table.sectorSize)}`);
  }
}
