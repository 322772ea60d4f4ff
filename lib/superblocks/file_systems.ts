/**
 * Which file system a disk has: that whose superblock it shows, and nothing on a guess.
 *
 * @module
 */
import { findContainer } from "./containers.ts";
import type { Image } from "../table/disk.ts";
import { type FileSystem, type Format, has, hasMagic, readWithin } from "./superblock.ts";
import { SUPERBLOCKS } from "./superblocks.ts";
import { DISC_SUPERBLOCKS } from "./discs.ts";
import { FAT_SUPERBLOCKS } from "./fat.ts";

export type { FileSystem } from "./superblock.ts";
export { findContainer } from "./containers.ts";
export { describeWrapper, findWrapper, type Wrapper } from "./wrappers.ts";

/** All that can be found; what they are is judged one by one. */
export const FORMATS: readonly Format[] = [
  ...FAT_SUPERBLOCKS,
  ...SUPERBLOCKS,
  ...DISC_SUPERBLOCKS,
];

/** Bytes: all superblocks end there, but for UDF's anchors. One read serves them. */
export const BEGINNING = 68 * 1024;

/**
 * All file systems whose superblock the disk shows; none if it shows none, or is one whose content is
 * another disk ({@linkcode findContainer}): encrypted, a part of an array or a group, or swap space.
 *
 * A superblock is judged by itself, as the kernel's driver judges it: magic bytes, what its fields may
 * be, and its checksum. That the disk is too short for what it describes is for the driver to say. More
 * than one is a disk that was formatted again, and what it holds is anybody's guess; except a bridge
 * disc, with UDF and ISO 9660 of the same files: it is given as "udf", as blkid does.
 *
 * `disk` is read within its size alone. What `read` throws is thrown.
 */
export function findFileSystems(disk: Image): FileSystem[] {
  const image = withBeginning(disk);
  if (findContainer(image) !== undefined) return [];
  const found: FileSystem[] = [];
  for (const format of FORMATS) {
    const superblock = readWithin(image, format.start, format.length);
    if (!superblock || !hasMagic(format, superblock)) continue;
    const described = format.describe(superblock, image);
    if (!described) continue;
    const { label, uuid } = described;
    found.push({
      type: format.type,
      ...label === undefined ? {} : { label },
      ...uuid === undefined ? {} : { uuid },
    });
  }
  const isBridge = found.some(({ type }) => type === "udf");
  return isBridge ? found.filter(({ type }) => type !== "iso9660") : found;
}

/**
 * The types whose magic bytes the disk shows where the rest of the superblock does not hold: it is
 * damaged, or of a kind that is not known here. Magic bytes are few: a disk can have them by chance.
 */
export function findTorn(disk: Image): string[] {
  return FORMATS.filter((format) => {
    if (format.magic.length === 0) return false;
    const superblock = readWithin(disk, format.start, format.length);
    return superblock !== undefined && hasMagic(format, superblock) &&
      format.describe(superblock, disk) === undefined;
  }).map(({ type }) => type);
}

/** File systems that are not judged here: their names, the kernel's driver, and the magic bytes. */
const OTHERS: readonly (readonly [name: string, type: string, at: number, magic: string])[] = [
  ["NTFS", "ntfs3", 3, "NTFS    "],
  ["JFS", "jfs", 32 * 1024, "JFS1"],
  ["HFS+", "hfsplus", 1024, "H+\0\x04"],
  ["HFS+", "hfsplus", 1024, "HX\0\x05"],
];

/** A file system that only its driver can judge, by its magic bytes alone. */
export function findOther(disk: Image): { name: string; type: string } | undefined {
  const found = OTHERS.find(([, , at, magic]) => {
    const raw = readWithin(disk, at, magic.length);
    return raw !== undefined && has(raw, 0, magic);
  });
  return found && { name: found[0], type: found[1] };
}

/** The same disk, whose beginning is read once. */
function withBeginning(disk: Image): Image {
  const beginning = disk.read(0, Math.min(BEGINNING, disk.size));
  return {
    size: disk.size,
    read: (offset, length) =>
      offset + length <= beginning.length
        ? beginning.subarray(offset, offset + length)
        : disk.read(offset, length),
  };
}
