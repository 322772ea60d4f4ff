/**
 * The sizes that a disk's sectors can have, and the sectors of 512 bytes in which every table but GPT and
 * MBR counts.
 *
 * @module
 */
import { checkOneOf } from "../base/checks.ts";
import type { TablePartition } from "./disk.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

/**
 * A logical sector size in bytes: one that every kernel allows.
 *
 * @example
 * ```ts
 * import { attach, type SectorSize } from "@loopdev/loopdev";
 * const sizes: SectorSize[] = [512, 4096];
 * const attachAs = (file: string, size: string) =>
 *   attach(file, { sectorSize: sizes.find((known) => String(known) === size) });
 * ```
 */
export type SectorSize = 512 | 1024 | 2048 | 4096;

export const SECTOR_SIZES: readonly SectorSize[] = [512, 1024, 2048, 4096];

/** The kernel must not get a bad size: its EINVAL can leave a 6.x device half configured. */
export function checkSectorSize(size: unknown): void {
  checkOneOf("sectorSize", size, SECTOR_SIZES);
}

/** Bytes; the kernel's SECTOR_SIZE. */
export const SECTOR = 512;

/** The kernel numbers partitions 1 to DISK_MAX_PARTS − 1. */
export const MOST_PARTITIONS = 255;

/** Sector `n`; undefined if the disk does not have all of it. */
export function* readSector(disk: SteppedDisk, n: number): Steps<DataView | undefined> {
  if (!Number.isSafeInteger(n * SECTOR)) return undefined;
  const bytes = disk.kept?.(n * SECTOR, SECTOR) ?? (yield* disk.read(n * SECTOR, SECTOR));
  return bytes.length < SECTOR
    ? undefined
    : new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** A number that every table of a kind has, `at` so many bytes from the disk's beginning. */
export type Mark = readonly [at: number, bits: 16 | 32, value: number, isLittleEndian?: boolean];

/** Sectors; no mark stands behind them. */
const MARKED_SECTORS = 32;

/** The marks of a kind, of which each table has one; or whether there can be one, for a kind that has none. */
export type Marks = readonly Mark[] | ((marked: DataView) => boolean);

/** What stands where marks can stand; shorter on a smaller disk. */
export function* readMarked(disk: SteppedDisk): Steps<DataView> {
  const length = MARKED_SECTORS * SECTOR;
  const bytes = disk.kept?.(0, length) ?? (yield* disk.read(0, length));
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/**
 * Whether one of a kind's marks is there. Without its mark, its reader would find nothing and is not called: a
 * runtime compiles a function when it first runs, and most disks have no such table.
 */
export function isMarked(marked: DataView, marks: Marks): boolean {
  if (typeof marks === "function") return marks(marked);
  // By their indices: the iterators of a destructuring cost more than the rest of an attach's look.
  for (const mark of marks) {
    const at = mark[0];
    if (at + mark[1] / 8 > marked.byteLength) continue;
    const is = mark[1] === 32 ? marked.getUint32(at, mark[3]) : marked.getUint16(at, mark[3]);
    if (is === mark[2]) return true;
  }
  return false;
}

/** Start and size in sectors. */
export interface Extent {
  readonly start: number;
  readonly size: number;
}

/** A list of one partition; empty if it has no sectors, or a number that the kernel does not give. */
export function partition(
  number: number,
  { start, size }: Extent,
  rest: Pick<TablePartition, "type" | "name"> = {},
): TablePartition[] {
  if (size === 0 || number > MOST_PARTITIONS) return [];
  return [{ number, start: start * SECTOR, size: size * SECTOR, ...rest, attributes: [] }];
}

/** The notation of MBR types: "0x7". */
export const hexType = (type: number): string => `0x${type.toString(16)}`;

const latin1 = new TextDecoder("latin1");

/** Text of at most `length` bytes, up to a NUL. */
export function textAt(view: DataView, at: number, length: number): string {
  const bytes = new Uint8Array(view.buffer, view.byteOffset + at, length);
  const end = bytes.indexOf(0);
  return end === 0 ? "" : latin1.decode(end < 0 ? bytes : bytes.subarray(0, end));
}
