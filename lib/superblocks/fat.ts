/**
 * The boot sectors of FAT and exFAT. Their labels are entries of the root directory.
 *
 * @module
 */
import { __u16, __u32, __u8 } from "../base/struct.ts";
import type { Steps } from "../table/steps.ts";
import {
  fieldsOf,
  hasBytes,
  isPowerOfTwo,
  isWithin,
  type Row,
  serialOf,
  type SteppedImage,
  textOf,
  utf16Text,
} from "./superblock.ts";

const DIRECTORY_ENTRY = 32;
/** Bytes of a root directory that are read. mkfs and Windows make the label its first entry. */
const MOST_DIRECTORY = 64 * 1024;

/** Where a directory is on the disk; bytes. */
interface Directory {
  readonly offset: number;
  readonly length: number;
  /** The directory is clusters of `length`, of which the first one is at `offset`. */
  readonly clusters?: Clusters;
}

/** What leads from a cluster to the next one. */
interface Clusters {
  /** Where the first cluster begins; bytes. */
  readonly heap: number;
  /** Where the table of the next ones' numbers is; bytes. */
  readonly table: number;
  /** Of how many clusters it has the next one: a larger number ends a directory. */
  readonly count: number;
  /** The bits of a number that count: FAT32 has four for others. */
  readonly mask: number;
}

/** The number of the first cluster. */
const FIRST = 2;

/** The first entry that is wanted. An entry that begins with 0 ends the directory. */
function* findEntry(
  disk: SteppedImage,
  directory: Directory,
  isWanted: (entry: Uint8Array) => boolean,
): Steps<Uint8Array | undefined> {
  const { length, clusters } = directory;
  let { offset } = directory;
  for (let left = MOST_DIRECTORY; left > 0; left -= length) {
    const raw = yield* disk.read(offset, Math.min(length, left));
    for (let at = 0; at + DIRECTORY_ENTRY <= raw.length; at += DIRECTORY_ENTRY) {
      if (raw[at] === 0) return undefined;
      const entry = raw.subarray(at, at + DIRECTORY_ENTRY);
      if (isWanted(entry)) return entry;
    }
    if (clusters === undefined) return undefined;
    const { heap } = clusters;
    const next = yield* nextCluster(disk, clusters, (offset - heap) / length);
    if (next === undefined) return undefined;
    offset = heap + next * length;
  }
  return undefined;
}

/** The cluster after another one, both counted from the first; undefined: none. */
function* nextCluster(
  disk: SteppedImage,
  { table, count, mask }: Clusters,
  cluster: number,
): Steps<number | undefined> {
  const raw = yield* disk.read(table + 4 * (cluster + FIRST), 4);
  if (raw.length < 4) return undefined;
  const next = (fieldsOf(raw, { next: [0, __u32] }).next & mask) >>> 0;
  return next >= FIRST && next < count ? next - FIRST : undefined;
}

const bootSectorOf = (raw: Uint8Array) =>
  fieldsOf(raw, {
    sector_size: [0xb, __u16],
    sec_per_clus: [0xd, __u8],
    reserved: [0xe, __u16],
    fats: [0x10, __u8],
    dir_entries: [0x11, __u16],
    sectors: [0x13, __u16],
    media: [0x15, __u8],
    fat_length: [0x16, __u16],
    total_sect: [0x20, __u32],
    fat32_length: [0x24, __u32],
    root_cluster: [0x2c, __u32],
  });

/** The root directory; undefined if fat_read_bpb() would refuse the fields before it. */
function rootOf(raw: Uint8Array): Directory | undefined {
  const s = bootSectorOf(raw);
  if (s.reserved === 0 || s.fats === 0 || s.media < 0xf8 && s.media !== 0xf0) return undefined;
  if (!isPowerOfTwo(s.sector_size) || s.sector_size < 512 || s.sector_size > 4096) return undefined;
  if (!isPowerOfTwo(s.sec_per_clus)) return undefined;
  const fatLength = s.fat_length || s.fat32_length;
  const length = s.dir_entries * DIRECTORY_ENTRY;
  if (fatLength === 0 || length % s.sector_size !== 0) return undefined;
  const behindFats = (s.reserved + s.fats * fatLength) * s.sector_size;
  if (behindFats + length > (s.sectors || s.total_sect) * s.sector_size) return undefined;
  if (s.fat_length !== 0) return { offset: behindFats, length };
  // FAT32 has clusters for it.
  const cluster = s.sec_per_clus * s.sector_size;
  const heap = behindFats + length;
  return {
    offset: heap + (s.root_cluster - FIRST) * cluster,
    length: cluster,
    clusters: {
      heap,
      table: s.reserved * s.sector_size,
      count: fatLength * s.sector_size / 4,
      mask: 0x0fffffff,
    },
  };
}

const ATTR_VOLUME = 0x08;
const ATTR_DIR = 0x10;
const ATTR_LONG_NAME = 0x0f;

/** A volume label, and neither deleted nor a part of a long name. */
function isFatLabel(entry: Uint8Array): boolean {
  const attributes = entry[11] & 0x3f;
  const hasClusters = (entry[20] | entry[21] | entry[26] | entry[27]) !== 0;
  return entry[0] !== 0xe5 && !hasClusters && attributes !== ATTR_LONG_NAME &&
    (attributes & (ATTR_VOLUME | ATTR_DIR)) === ATTR_VOLUME;
}

function serialOfFat(raw: Uint8Array): string | undefined {
  if (bootSectorOf(raw).fat_length === 0) return serialOf(raw.subarray(0x43, 0x47));
  return raw[0x26] === 0x28 || raw[0x26] === 0x29 ? serialOf(raw.subarray(0x27, 0x2b)) : undefined;
}

/**
 * struct fat_boot_sector, include/uapi/linux/msdos_fs.h. An MBR and others begin alike, so the fields must
 * be right. The kernel checks neither name nor signature; blkid wants one of them, and so does this. JFS and
 * HPFS of OS/2 have the fields of a FAT in front of them.
 */
export const VFAT: Row = {
  type: "vfat",
  start: 0,
  magic: [
    ...["MSWIN", "FAT32   "].map((name) => [0x52, name] as const),
    ...["MSDOS", "FAT16   ", "FAT12   ", "FAT     "].map((name) => [0x36, name] as const),
    [0x1fe, "\x55\xaa"],
  ],
  isOne: (raw) => !["JFS     ", "HPFS    "].some((name) => hasBytes(raw, 0x36, name)),
  *names(raw, disk) {
    const root = rootOf(raw);
    if (root === undefined) return undefined;
    const name = (yield* findEntry(disk, root, isFatLabel))?.slice(0, 11);
    // 0xe5 would mark a deleted entry.
    if (name?.[0] === 0x05) name[0] = 0xe5;
    return { label: name && textOf(name), uuid: serialOfFat(raw) };
  },
};

const EXFAT_LABEL = 0x83;

/** struct boot_sector, fs/exfat/exfat_raw.h. */
export const EXFAT: Row = {
  type: "exfat",
  start: 0,
  magic: [[3, "EXFAT   "]],
  *names(raw, disk) {
    const root = rootOfExfat(raw);
    const entry = root && (yield* findEntry(disk, root, (entry) => entry[0] === EXFAT_LABEL));
    const label = entry && utf16Text(entry.subarray(2, 2 + 2 * Math.min(entry[1], 11)), true);
    return { label, uuid: serialOf(raw.subarray(0x64, 0x68)) };
  },
};

/** The root directory; undefined if exfat_read_boot_sector() would refuse the sizes. */
function rootOfExfat(raw: Uint8Array): Directory | undefined {
  const s = fieldsOf(raw, {
    fat_offset: [0x50, __u32],
    clu_offset: [0x58, __u32],
    clu_count: [0x5c, __u32],
    root_cluster: [0x60, __u32],
    sect_size_bits: [0x6c, __u8],
    sect_per_clus_bits: [0x6d, __u8],
  });
  if (!isWithin(s.sect_size_bits, 9, 12)) return undefined;
  if (s.sect_per_clus_bits > 25 - s.sect_size_bits) return undefined;
  const sector = 2 ** s.sect_size_bits;
  const length = sector * 2 ** s.sect_per_clus_bits;
  const heap = s.clu_offset * sector;
  return {
    offset: heap + (s.root_cluster - FIRST) * length,
    length,
    clusters: { heap, table: s.fat_offset * sector, count: s.clu_count + FIRST, mask: 0xffffffff },
  };
}
