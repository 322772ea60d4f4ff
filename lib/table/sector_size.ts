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
import { SECTOR_SIZES } from "../base/checks.ts";
import type { Disk, FoundTable, Image } from "./disk.ts";
import { readPartitionTable } from "./partition_table.ts";

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
  const ends = withEnds(image);
  const disk = (sectorSize: number): Disk => ({ ...ends, sectorSize });
  const first = wanted === "auto" ? usual : wanted;
  const table = readPartitionTable(disk(first), "primary");
  if (table.kind !== "gpt" || table.header && wanted !== "auto") return table;

  const others = SECTOR_SIZES.filter((size) => size !== first);
  const read = (header: "primary" | "backup") => (sectorSize: number) =>
    readPartitionTable(disk(sectorSize), header);
  const whole = ({ header }: FoundTable) => header !== undefined;
  const primary = [table, ...others.map(read("primary"))].filter(whole);
  if (primary.length > 1) {
    return primary.find(({ sectorSize }) => isConfirmed(disk(sectorSize))) ?? primary[0];
  }
  return primary[0] ?? [first, ...others].map(read("backup")).find(whole) ?? table;
}

/** The primary headers of all sizes, and the usual 16 KiB of entries behind the last of them. */
const HEAD = 24 * 1024;
const LARGEST = Math.max(...SECTOR_SIZES);

/** The same image, of which both ends are read once, and the later one only if it is asked for. */
function withEnds({ size, read }: Image): Image {
  const tailStart = Math.max(0, size - size % LARGEST - LARGEST);
  let head: Uint8Array | undefined;
  let tail: Uint8Array | undefined;
  return {
    size,
    read(offset, length) {
      const end = offset + length;
      if (end <= HEAD) {
        head ??= read(0, Math.min(HEAD, size));
        return head.subarray(offset, end);
      }
      if (offset < tailStart) return read(offset, length);
      tail ??= read(tailStart, size - tailStart);
      return tail.subarray(offset - tailStart, end - tailStart);
    },
  };
}
