/**
 * What a disk holds, by its superblocks alone.
 *
 * @module
 */
import { type Steps, type Wanted, wanted } from "../table/steps.ts";
import { ISO9660, UDF } from "./discs.ts";
import { EXFAT, VFAT } from "./fat.ts";
import { CONTAINERS, FILE_SYSTEMS } from "./rows.ts";
import {
  type FileSystem,
  hasBytes,
  type Magic,
  type Row,
  type SteppedImage,
} from "./superblock.ts";

export type { FileSystem } from "./superblock.ts";

/** All kinds that are known. Two that a disk shows at once are given in this order, which is blkid's. */
export const ROWS: readonly Row[] = [...CONTAINERS, VFAT, ...FILE_SYSTEMS, UDF, ISO9660, EXFAT];

/** Those that are looked for at a disk's end, wherever that is. */
const ROWS_AT_END = ROWS.filter(({ start }) => typeof start !== "number");

/** Bytes: a superblock lies in these first ones, unless it lies at the disk's end. */
const BEGINNING = 68 * 1024;
/** Bytes: arrays have theirs in the last whole 64 KiB, or behind them. */
const LAST = 64 * 1024;

/**
 * All that a disk of `size` bytes shows. blkid has the same rules:
 *
 * - A member of an array or of a volume group, or an encrypted disk, is only that. One half of a mirror
 *   also shows the whole file system.
 * - A bridge disc has UDF and ISO 9660 of the same files, and is given as `"udf"`.
 * - Two others are a disk that was formatted a second time, where the first superblock is still there.
 *   Nothing tells which of them is in use.
 *
 * A type needs the magic number, and the fields that tell it from other data with the same bytes. The
 * driver says whether the rest is sound, and whether the disk is long enough.
 */
export function findFileSystems(size: number): Steps<FileSystem[]> {
  return findAmong(ROWS, size);
}

/** What is found by a superblock at the disk's end: nobody finds it any more once the disk is larger. */
export function* findAtEnd(size: number): Steps<FileSystem | undefined> {
  return (yield* findAmong(ROWS_AT_END, size))[0];
}

function* findAmong(rows: readonly Row[], size: number): Steps<FileSystem[]> {
  const pieces: Piece[] = [];
  for (const { offset, length } of endsOf(size)) {
    pieces.push({ offset, bytes: yield* wanted(offset, length) });
  }
  const disk = withPieces(size, pieces);
  const found: FileSystem[] = [];
  for (const row of rows) {
    const start = typeof row.start === "number" ? row.start : row.start(size);
    if (start < 0 || lacksMagic(row, start, pieces)) continue;
    const one = yield* findBy(row, start, disk);
    if (one?.usage === "raid" || one?.usage === "crypto") return [one];
    if (one) found.push(one);
  }
  const isBridge = found.some(({ type }) => type === "udf");
  return isBridge ? found.filter(({ type }) => type !== "iso9660") : found;
}

/** What has been read of a disk. */
interface Piece {
  /** Bytes from the disk's beginning. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** How much of a superblock without its row's `length` is looked at: bytes. */
const LENGTH = 512;

/** Whether what has been read shows that a row's magic number is not there: nearly always. */
function lacksMagic({ magic, length = LENGTH }: Row, start: number, pieces: readonly Piece[]) {
  for (const { offset, bytes } of pieces) {
    // No row begins between the two ends.
    const at = start - offset;
    if (at + length <= bytes.length) return !hasAny(magic, bytes, at);
  }
  return false;
}

function hasAny(magic: readonly Magic[], bytes: Uint8Array, at: number): boolean {
  // By their indices: the iterators of a destructuring cost more than the rest of a mount's look.
  for (const one of magic) if (hasBytes(bytes, at + one[0], one[1])) return true;
  return false;
}

function* findBy(row: Row, start: number, disk: SteppedImage): Steps<FileSystem | undefined> {
  const { usage = "filesystem", length = LENGTH, magic } = row;
  const raw = yield* disk.read(start, Math.max(length, BEGINNING - start));
  if (raw.length < length || !hasAny(magic, raw, 0)) return undefined;
  if (row.isOne?.(raw, start) === false) return undefined;
  const type = row.typeOf ? row.typeOf(raw) : row.type;
  if (type === undefined) return undefined;
  const names = row.names
    ? yield* row.names(raw, disk)
    : { label: row.label?.(raw), uuid: row.uuid?.(raw) };
  if (names === undefined) return undefined;
  const { label, uuid } = names;
  return {
    type,
    ...label === undefined ? {} : { label },
    ...uuid === undefined ? {} : { uuid },
    usage,
  };
}

/** The two ends of a disk, which {@linkcode findFileSystems} reads first; most rows need no more. */
export function endsOf(size: number): Wanted[] {
  const last = Math.max(0, size - size % LAST - LAST);
  // If the disk ends with a part of a sector, the kernel cannot read its last page.
  return [[0, BEGINNING], [last, size - 4096]].map(([offset, end]) => ({
    offset,
    length: Math.max(0, Math.min(end, size) - offset),
  }));
}

function withPieces(size: number, pieces: readonly Piece[]): SteppedImage {
  return {
    size,
    *read(offset, length) {
      const end = Math.min(offset + length, size);
      if (!(offset >= 0 && offset < end)) return new Uint8Array();
      for (const piece of pieces) {
        const from = offset - piece.offset;
        const to = end - piece.offset;
        if (from >= 0 && to <= piece.bytes.length) return piece.bytes.subarray(from, to);
      }
      return yield* wanted(offset, end - offset);
    },
  };
}
