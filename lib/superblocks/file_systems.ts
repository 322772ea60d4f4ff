/**
 * What a disk holds: what its superblocks say, and nothing on a guess.
 *
 * @module
 */
import { type Steps, wanted } from "../table/steps.ts";
import { ISO9660, UDF } from "./discs.ts";
import { EXFAT, VFAT } from "./fat.ts";
import { CONTAINERS, FILE_SYSTEMS } from "./rows.ts";
import { type FileSystem, hasBytes, type Row, type SteppedImage } from "./superblock.ts";

export type { FileSystem } from "./superblock.ts";

/** All that can be found, in the order of blkid as far as that matters. */
export const ROWS: readonly Row[] = [...CONTAINERS, VFAT, ...FILE_SYSTEMS, UDF, ISO9660, EXFAT];

/** Bytes: there all superblocks end that do not stand at the end of the disk. */
const BEGINNING = 68 * 1024;
/** Bytes: arrays have theirs in the last whole 64 KiB, or behind them. */
const LAST = 64 * 1024;

/**
 * All that a disk of `size` bytes shows. A member of an array or of a volume group, and what is
 * encrypted, is that alone, whatever else it shows: the half of a mirror shows a whole file system. More
 * than one is a disk that was formatted again, and what it holds is anybody's guess; except a bridge disc,
 * with UDF and ISO 9660 of the same files: it is given as `"udf"`. All of that as blkid has it.
 *
 * The type is what a superblock's magic number and its own fields say. Whether it is sound, and the
 * disk long enough for it, is for the driver to say.
 */
export function* findFileSystems(size: number): Steps<FileSystem[]> {
  const disk = yield* withEnds(size);
  const found: FileSystem[] = [];
  for (const row of ROWS) {
    const one = yield* findBy(row, disk);
    if (one?.usage === "raid" || one?.usage === "crypto") return [one];
    if (one) found.push(one);
  }
  const isBridge = found.some(({ type }) => type === "udf");
  return isBridge ? found.filter(({ type }) => type !== "iso9660") : found;
}

function* findBy(row: Row, disk: SteppedImage): Steps<FileSystem | undefined> {
  const { type, usage = "filesystem", start: place, length = 512, magic } = row;
  const start = typeof place === "number" ? place : place(disk.size);
  if (start < 0) return undefined;
  const raw = yield* disk.read(start, Math.max(length, BEGINNING - start));
  const hasMagic = magic.some(([offset, value]) => hasBytes(raw, offset, value));
  if (raw.length < length || !hasMagic || row.isOne?.(raw, start) === false) return undefined;
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

/** A disk of which both ends were read; no more is read than it has. */
function* withEnds(size: number): Steps<SteppedImage> {
  const last = Math.max(0, size - size % LAST - LAST);
  const pieces: { offset: number; bytes: Uint8Array }[] = [];
  // Of a disk that ends in a part of a sector the kernel cannot read the last page.
  for (const [offset, end] of [[0, BEGINNING], [last, size - 4096]]) {
    const length = Math.max(0, Math.min(end, size) - offset);
    pieces.push({ offset, bytes: yield* wanted(offset, length) });
  }
  return {
    size,
    *read(offset, length) {
      const end = Math.min(offset + length, size);
      if (!(offset >= 0 && offset < end)) return new Uint8Array();
      for (const piece of pieces) {
        const [from, to] = [offset - piece.offset, end - piece.offset];
        if (from >= 0 && to <= piece.bytes.length) return piece.bytes.subarray(from, to);
      }
      return yield* wanted(offset, end - offset);
    },
  };
}
