/**
 * The boot sectors of FAT and exFAT. An MBR, NTFS and others begin with one that looks alike: only
 * the fields tell.
 *
 * @module
 */
import { __u16, __u32, __u8, bytes, type CType } from "../base/struct.ts";
import type { Image } from "../table/disk.ts";
import {
  type Format,
  format,
  has,
  isPowerOfTwo,
  readWithin,
  serialOf,
  textOf,
  unitsOf,
  utf16Text,
} from "./superblock.ts";

const DIRECTORY_ENTRY = 32;
/** A piece of a directory, in bytes: the label mostly stands first. */
const PIECE = 4096;
/** More of a root directory is not searched for a label; blkid has 100 clusters. */
const MOST_PIECES = 128;
/** Clusters that there can be: MAX_FAT16 and MAX_FAT32 of fs/fat/fat.h. FAT12 is FAT16 with fewer. */
const MOST_CLUSTERS = { fat16: 0xfff4, fat32: 0x0ffffff6 };

interface Geometry {
  readonly sectorSize: number;
  readonly clusterSize: number;
  /** Where things begin, in bytes. */
  readonly fat: number;
  readonly data: number;
  /** Bytes of the first FAT. */
  readonly fatSize: number;
  /** FAT12 and FAT16: the root directory, in bytes. */
  readonly root: { readonly start: number; readonly size: number };
  readonly isFat32: boolean;
}

/** Where a DOS volume has its parts; undefined if fat_fill_super() would refuse it. */
function geometryOf(s: BootSector): Geometry | undefined {
  const { sector_size, sec_per_clus, reserved, fats, media, dir_entries } = s;
  if (reserved === 0 || fats === 0) return undefined;
  if (media < 0xf8 && media !== 0xf0) return undefined;
  if (!isPowerOfTwo(sector_size) || sector_size < 512 || sector_size > 4096) return undefined;
  if (!isPowerOfTwo(sec_per_clus)) return undefined;
  const isFat32 = s.fat_length === 0;
  const fatLength = isFat32 ? s.fat32_length : s.fat_length;
  if (fatLength === 0 || dir_entries % (sector_size / DIRECTORY_ENTRY) !== 0) return undefined;
  const directory = dir_entries * DIRECTORY_ENTRY / sector_size;
  const used = reserved + fats * fatLength + directory;
  const clusters = Math.floor(((s.sectors || s.total_sect) - used) / sec_per_clus);
  if (clusters < 0 || clusters > (isFat32 ? MOST_CLUSTERS.fat32 : MOST_CLUSTERS.fat16)) {
    return undefined;
  }
  return {
    sectorSize: sector_size,
    clusterSize: sec_per_clus * sector_size,
    fat: reserved * sector_size,
    data: used * sector_size,
    fatSize: fatLength * sector_size,
    root: { start: (used - directory) * sector_size, size: dir_entries * DIRECTORY_ENTRY },
    isFat32,
  };
}

const FAT_FIELDS = {
  sector_size: [0xb, __u16],
  sec_per_clus: [0xd, __u8],
  reserved: [0xe, __u16],
  fats: [0x10, __u8],
  dir_entries: [0x11, __u16],
  sectors: [0x13, __u16],
  media: [0x15, __u8],
  fat_length: [0x16, __u16],
  total_sect: [0x20, __u32],
  fat16_signature: [0x26, __u8],
  fat16_vol_id: [0x27, bytes(4)],
  fat32_length: [0x24, __u32],
  root_cluster: [0x2c, __u32],
  info_sector: [0x30, __u16],
  fat32_vol_id: [0x43, bytes(4)],
} as const;

type BootSector = {
  readonly [K in keyof typeof FAT_FIELDS]: (typeof FAT_FIELDS)[K][1] extends CType<infer T> ? T
    : never;
};

/** What FAT's makers write into their boot sectors, by offset. */
const FAT_NAMES = [
  [0x52, "MSWIN"],
  [0x52, "FAT32   "],
  [0x36, "MSDOS"],
  [0x36, "FAT16   "],
  [0x36, "FAT12   "],
  [0x36, "FAT     "],
] as const;

/**
 * struct fat_boot_sector, include/uapi/linux/msdos_fs.h; fat_read_bpb(). The kernel wants no name and
 * no signature. As with blkid, one of them must be there, and no FAT-like beginning of JFS or HPFS.
 */
const VFAT = format({
  type: "vfat",
  start: 0,
  length: 512,
  magic: [],
  fields: FAT_FIELDS,
  isSound(s, raw, disk) {
    if (!FAT_NAMES.some(([offset, name]) => has(raw, offset, name))) {
      if (!has(raw, 0x1fe, "\x55\xaa")) return false;
      if (has(raw, 0x36, "JFS     ") || has(raw, 0x36, "HPFS    ")) return false;
    }
    const geometry = geometryOf(s);
    if (geometry === undefined) return false;
    if (!geometry.isFat32 || s.info_sector === 0) return true;
    return isInfoSector(readWithin(disk, s.info_sector * geometry.sectorSize, 512));
  },
  label(s, disk) {
    const geometry = geometryOf(s)!;
    const parts = geometry.isFat32
      ? fat32Root(disk, geometry, s.root_cluster)
      : [{ offset: geometry.root.start, length: geometry.root.size }];
    const entry = findEntry(disk, parts, (entry) => entry[0] === 0, isFatLabel);
    if (!entry) return undefined;
    const name = entry.slice(0, 11);
    // 0xe5 would mark a deleted entry.
    if (name[0] === 0x05) name[0] = 0xe5;
    return textOf(name);
  },
  uuid(s) {
    if (s.fat_length === 0) return serialOf(s.fat32_vol_id);
    const hasSerial = s.fat16_signature === 0x28 || s.fat16_signature === 0x29;
    return hasSerial ? serialOf(s.fat16_vol_id) : undefined;
  },
});

/** Some volumes have no signatures there, but zeros. */
function isInfoSector(sector: Uint8Array | undefined): boolean {
  if (sector === undefined) return false;
  const none = "\0\0\0\0";
  return ["RRaA", "RRdA", none].some((signature) => has(sector, 0, signature)) &&
    ["rrAa", none].some((signature) => has(sector, 0x1e4, signature));
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

/** A part of a directory, in bytes of the disk. */
interface Part {
  readonly offset: number;
  readonly length: number;
}

/** The clusters of FAT32's root directory, one after another. */
function* fat32Root(disk: Image, geometry: Geometry, first: number): Generator<Part> {
  for (let cluster = first; cluster >= 2 && cluster < geometry.fatSize / 4;) {
    const length = geometry.clusterSize;
    yield { offset: geometry.data + (cluster - 2) * length, length };
    const entry = readWithin(disk, geometry.fat + 4 * cluster, 4);
    if (!entry) return;
    cluster = __u32.get(new DataView(entry.slice().buffer), 0) & 0x0fffffff;
  }
}

/** The first entry that is wanted, of those before the end; a directory may be endless. */
function findEntry(
  disk: Image,
  parts: Iterable<Part>,
  isEnd: (entry: Uint8Array) => boolean,
  isWanted: (entry: Uint8Array) => boolean,
): Uint8Array | undefined {
  let pieces = 0;
  for (const { offset, length } of parts) {
    for (let at = 0; at < length; at += PIECE) {
      if (pieces++ === MOST_PIECES) return undefined;
      const piece = readWithin(disk, offset + at, Math.min(PIECE, length - at));
      if (!piece) return undefined;
      for (let i = 0; i + DIRECTORY_ENTRY <= piece.length; i += DIRECTORY_ENTRY) {
        const entry = piece.subarray(i, i + DIRECTORY_ENTRY);
        if (isEnd(entry)) return undefined;
        if (isWanted(entry)) return entry;
      }
    }
  }
  return undefined;
}

const EXFAT_LABEL = 0x83;
const EXFAT_BAD_CLUSTER = 0xfffffff7;

/** struct boot_sector, fs/exfat/exfat_raw.h; exfat_read_boot_sector(), exfat_verify_boot_region(). */
const EXFAT = format({
  type: "exfat",
  start: 0,
  length: 512,
  magic: [[3, "EXFAT   "]],
  fields: {
    must_be_zero: [0xb, bytes(53)],
    fat_offset: [0x50, __u32],
    fat_length: [0x54, __u32],
    clu_offset: [0x58, __u32],
    clu_count: [0x5c, __u32],
    root_cluster: [0x60, __u32],
    vol_serial: [0x64, bytes(4)],
    sect_size_bits: [0x6c, __u8],
    sect_per_clus_bits: [0x6d, __u8],
    num_fats: [0x6e, __u8],
    signature: [0x1fe, __u16],
  },
  isSound(s, raw, disk) {
    if (s.signature !== 0xaa55 || !has(raw, 0, "\xeb\x76\x90")) return false;
    if (s.must_be_zero.some((byte) => byte !== 0)) return false;
    if (s.num_fats !== 1 && s.num_fats !== 2) return false;
    if (s.sect_size_bits < 9 || s.sect_size_bits > 12) return false;
    if (s.sect_per_clus_bits > 25 - s.sect_size_bits) return false;
    if (s.fat_offset < 24 || s.fat_offset + s.fat_length * s.num_fats > s.clu_offset) return false;
    if (s.clu_offset > 2 ** 31 || s.fat_length * 2 ** s.sect_size_bits < s.clu_count * 4) {
      return false;
    }
    if (s.root_cluster < 2 || s.root_cluster > s.clu_count + 1) return false;
    const sectorSize = 2 ** s.sect_size_bits;
    const region = readWithin(disk, 0, 12 * sectorSize);
    return region !== undefined && hasBootChecksum(region, sectorSize);
  },
  label(s, disk) {
    const sectorSize = 2 ** s.sect_size_bits;
    const length = sectorSize * 2 ** s.sect_per_clus_bits;
    const parts = function* (): Generator<Part> {
      for (let cluster = s.root_cluster; cluster >= 2 && cluster < EXFAT_BAD_CLUSTER;) {
        yield { offset: s.clu_offset * sectorSize + (cluster - 2) * length, length };
        const entry = readWithin(disk, s.fat_offset * sectorSize + 4 * cluster, 4);
        if (!entry) return;
        cluster = __u32.get(new DataView(entry.slice().buffer), 0);
      }
    };
    const isLabel = (entry: Uint8Array) => entry[0] === EXFAT_LABEL;
    const entry = findEntry(disk, parts(), (entry) => entry[0] === 0, isLabel);
    return entry && utf16Text(unitsOf(entry.subarray(2, 2 + 2 * Math.min(entry[1], 11)), true));
  },
  uuid: (s) => serialOf(s.vol_serial),
});

/** What changes while the volume is mounted: volume_flags and percent_in_use. */
const NOT_SUMMED = [106, 107, 112];

/** Whether the twelfth sector repeats the sum of the eleven before it. */
function hasBootChecksum(region: Uint8Array, sectorSize: number): boolean {
  let sum = 0;
  for (let i = 0; i < 11 * sectorSize; i++) {
    if (i < 113 && NOT_SUMMED.includes(i)) continue;
    sum = (sum << 31 | sum >>> 1) + region[i] | 0;
  }
  const view = new DataView(region.buffer, region.byteOffset + 11 * sectorSize, sectorSize);
  for (let i = 0; i < sectorSize; i += 4) if (view.getInt32(i, true) !== sum) return false;
  return true;
}

/** The first and one of the last that blkid asks. */
export const FAT_SUPERBLOCKS: readonly Format[] = [VFAT, EXFAT];
