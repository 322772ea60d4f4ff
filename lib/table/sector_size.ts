/**
 * The sector size that a disk's GPT is made for. Nothing in a table says it, and at any other size no
 * header is found; so a disk that is read in the wrong unit looks empty.
 *
 * A disk can have whole headers of two sizes: a table's writer leaves what lies outside its own. Then
 *
 * 1. a primary header beats any backup. Who writes a table, or copies an image onto a disk, begins at
 *    the beginning; what is left at the end is of an earlier time. And the kernel, without `gpt` on
 *    its command line, takes no partition from a backup.
 * 2. the wanted size's primary header beats the others': whoever named the size is believed, and the
 *    kernel, sfdisk and blkid look at no size but the device's.
 * 3. where no size is wanted, that primary header wins whose backup confirms it, since the backup of a
 *    later table overwrites that of an earlier one; if that decides nothing, the usual size, which is
 *    the kernel's default or the block device's own, or else the smallest. (systemd's probe_sector_size() looks at primary headers only, and
 *    refuses a disk with two.)
 *
 * An MBR does not tell its sector size, and without a protective MBR nobody believes in a GPT.
 *
 * @module
 */
import { isConfirmed } from "./gpt.ts";
import type { FoundTable, Image } from "./disk.ts";
import { tableSteps } from "./partition_table.ts";
import { SECTOR_SIZES } from "./sectors.ts";
import { runSteps, type SteppedDisk, type Steps, wanted } from "./steps.ts";

/** LOOP_CONFIGURE's, where block_size is 0. */
export const DEFAULT_SECTOR_SIZE = 512;

/**
 * The table of an image, read in sectors of the wanted size, or of another one if the image's GPT is
 * made for that: `sectorSize` says which. `"auto"`: `usual` where no GPT tells the size.
 */
export function findTable(
  image: Image,
  wanted: number | "auto",
  usual = DEFAULT_SECTOR_SIZE,
): FoundTable {
  const { size } = image;
  return runSteps(findTableSteps(size, wanted, usual), (at, length) => image.read(at, length));
}

/** The same for an image of `size` bytes, step by step. */
export function* findTableSteps(
  size: number,
  asked: number | "auto",
  usual = DEFAULT_SECTOR_SIZE,
): Steps<FoundTable> {
  const read = withEnds(size);
  const disk = (sectorSize: number): SteppedDisk => ({ size, read, sectorSize });
  const first = asked === "auto" ? usual : asked;
  const table = yield* tableSteps(disk(first), "primary");
  if (table.kind !== "gpt" || table.header && asked !== "auto") return table;

  const others = SECTOR_SIZES.filter((size) => size !== first);
  const tables = [table];
  for (const sectorSize of others) tables.push(yield* tableSteps(disk(sectorSize), "primary"));
  const primary = tables.filter(({ header }) => header !== undefined);
  if (primary.length > 1) {
    for (const each of primary) if (yield* isConfirmed(disk(each.sectorSize))) return each;
  }
  if (primary.length > 0) return primary[0];
  for (const sectorSize of [first, ...others]) {
    const backup = yield* tableSteps(disk(sectorSize), "backup");
    if (backup.header !== undefined) return backup;
  }
  const damages = tables.flatMap(({ damage }) => damage ?? []);
  const damage = damages.find(({ asks }) => asks !== undefined) ?? damages[0];
  return damage ? { ...table, damage } : table;
}

/** The primary headers of all sizes, and the usual 16 KiB of entries behind the last of them. */
const HEAD = 24 * 1024;
const LARGEST = Math.max(...SECTOR_SIZES);

/** Reads of an image of which both ends are read once, and the later one only if it is asked for. */
function withEnds(size: number): SteppedDisk["read"] {
  const tailStart = Math.max(0, size - size % LARGEST - LARGEST);
  let head: Uint8Array | undefined;
  let tail: Uint8Array | undefined;
  return function* (offset, length) {
    const end = offset + length;
    if (end <= HEAD) {
      head ??= yield* wanted(0, Math.min(HEAD, size));
      return head.subarray(offset, end);
    }
    if (offset < tailStart) return yield* wanted(offset, length);
    tail ??= yield* wanted(tailStart, size - tailStart);
    return tail.subarray(offset - tailStart, end - tailStart);
  };
}
