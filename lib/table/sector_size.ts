/**
 * The sector size that a disk's GPT was made for. A GPT does not contain it, and with another size no
 * header is found, so that the disk looks empty.
 *
 * A disk can have valid headers of two sizes, since writing a table does not erase one of another size.
 * Then
 *
 * 1. a primary header beats any backup. A program that writes a table or copies an image starts at the
 *    beginning, so what is left at the end is older. And the kernel, without `gpt` on its command line,
 *    takes no partition from a backup.
 * 2. the primary header of the wanted size beats the others: the caller has named it, and the kernel,
 *    sfdisk and blkid look only at the device's size.
 * 3. if no size is wanted, the primary header with a matching backup wins, since a later table's backup
 *    overwrites that of an earlier one. If that decides nothing, the usual size wins, which is the
 *    kernel's default or the block device's own, and then the smallest. (systemd's probe_sector_size()
 *    looks at primary headers only, and refuses a disk with two.)
 *
 * An MBR does not tell its sector size. Without a protective MBR there is no GPT.
 *
 * @module
 */
import { isConfirmed } from "./gpt.ts";
import type { FoundTable, Image } from "./disk.ts";
import { tableSteps } from "./partition_table.ts";
import { SECTOR_SIZES } from "./sectors.ts";
import { runSteps, type SteppedDisk, type Steps, wanted } from "./steps.ts";

/** What LOOP_CONFIGURE takes a block_size of 0 for. */
export const DEFAULT_SECTOR_SIZE = 512;

/**
 * The table of an image, read with the wanted sector size, or with another if the image's GPT was made for
 * that; `sectorSize` says which. `"auto"`: the size of its GPT, or without one `usual`.
 */
export function findTable(
  image: Image,
  wanted: number | "auto",
  usual = DEFAULT_SECTOR_SIZE,
): FoundTable {
  const { size } = image;
  return runSteps(findTableSteps(size, wanted, usual), (at, length) => image.read(at, length));
}

/** The same for an image of `size` bytes, as steps. */
export function* findTableSteps(
  size: number,
  asked: number | "auto",
  usual = DEFAULT_SECTOR_SIZE,
): Steps<FoundTable> {
  const head = size > 0 ? yield { offset: 0, length: Math.min(HEAD, size) } : new Uint8Array();
  const ends = withEnds(size, head);
  const disk = (sectorSize: number): SteppedDisk => ({ size, ...ends, sectorSize });
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

/** Contains the primary headers of all sizes, and 16 KiB of entries after the last of them. */
const HEAD = 24 * 1024;
const LARGEST = Math.max(...SECTOR_SIZES);

/** Reads of an image of which the beginning has been read, and whose end is read once, if at all. */
function withEnds(size: number, head: Uint8Array): Pick<SteppedDisk, "read" | "kept"> {
  const tailStart = Math.max(0, size - size % LARGEST - LARGEST);
  let tail: Uint8Array | undefined;
  return {
    *read(offset, length) {
      const end = offset + length;
      if (end <= HEAD) return head.subarray(offset, end);
      if (offset < tailStart) return yield* wanted(offset, length);
      tail ??= yield* wanted(tailStart, size - tailStart);
      return tail.subarray(offset - tailStart, end - tailStart);
    },
    kept(offset, length) {
      const end = offset + length;
      return end <= head.length ? head.subarray(offset, end) : undefined;
    },
  };
}
