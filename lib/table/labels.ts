/**
 * Disk labels of one sector: SGI's, BSD's, Sun's, Ultrix's, Rio Karma's and Motorola System V's. Each is
 * read as the kernel's parser of that name in block/partitions/ reads it.
 *
 * @module
 */
import type { TablePartition } from "./disk.ts";
import {
  type Extent,
  hexType,
  type Mark,
  partition,
  readSector,
  SECTOR,
  textAt,
} from "./sectors.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

/** Partitions, or undefined if the disk has no table of this kind. */
export type Found = TablePartition[] | undefined;

const indices = (length: number) => Array.from({ length }, (_, i) => i);

const SGI_LABEL_MAGIC = 0x0be5a941;
export const SGI_MARKS: readonly Mark[] = [[0, 32, SGI_LABEL_MAGIC]];

/** sgi.c: 16 partitions; the sum of its 128 words is 0. parted calls it dvh. */
export function* readSgi(disk: SteppedDisk): Steps<Found> {
  const label = yield* readSector(disk, 0);
  if (label?.getUint32(0) !== SGI_LABEL_MAGIC) return undefined;
  const words = indices(SECTOR / 4).map((i) => label.getUint32(4 * i));
  if (words.reduce((sum, word) => (sum + word) >>> 0, 0) !== 0) return undefined;
  return indices(16).flatMap((i) => {
    const [size, start, type] = words.slice(78 + 3 * i);
    return partition(i + 1, { start, size }, { type: hexType(type) });
  });
}

export const BSD_DISKMAGIC = 0x82564557;
const BSD_MAGIC2 = 132;
const BSD_NPARTITIONS = 138;
const BSD_PARTITIONS = 148;
const BSD_PARTITION_SIZE = 16;

export interface BsdPartition extends Extent {
  readonly fstype: number;
}

/** The entries of a BSD disklabel that begins at `at`, at most `most`. */
export function bsdPartitions(label: DataView, at: number, most: number): BsdPartition[] {
  const number = Math.min(label.getUint16(at + BSD_NPARTITIONS, true), most);
  return indices(number).map((i) => {
    const entry = at + BSD_PARTITIONS + BSD_PARTITION_SIZE * i;
    return {
      size: label.getUint32(entry, true),
      start: label.getUint32(entry + 4, true),
      fstype: label.getUint8(entry + 12),
    };
  });
}

/** Where the label of a whole disk can be: sector, and offset in it. */
const BSD_PLACES = [[0, 64], [1, 0]] as const;
export const BSD_MARKS: readonly Mark[] = BSD_PLACES.map(
  ([sector, at]) => [sector * SECTOR + at, 32, BSD_DISKMAGIC, true],
);
const MAX_OSF_PARTITIONS = 18;

/**
 * osf.c: a BSD disklabel in the first sector, as on Alpha and as parted writes it. Or in the second, as
 * FreeBSD's bsdlabel writes it: libblkid and partx look there, the kernel does not, so its checksum must be
 * right, too. Partition a is number 1 in both; unused ones keep their numbers.
 */
export function* readBsd(disk: SteppedDisk): Steps<Found> {
  for (const [sector, at] of BSD_PLACES) {
    const label = yield* readSector(disk, sector);
    if (label?.getUint32(at, true) !== BSD_DISKMAGIC) continue;
    if (label.getUint32(at + BSD_MAGIC2, true) !== BSD_DISKMAGIC) continue;
    const number = label.getUint16(at + BSD_NPARTITIONS, true);
    if (number > MAX_OSF_PARTITIONS) continue;
    if (sector > 0 && !isBsdChecksumRight(label, at, number)) continue;
    return bsdPartitions(label, at, number).flatMap(({ start, size, fstype }, i) =>
      sector > 0 && fstype === 0 ? [] : partition(i + 1, { start, size }, { type: hexType(fstype) })
    );
  }
}

/** Whether the XOR of all words of a label, its checksum and partitions included, is 0. */
function isBsdChecksumRight(label: DataView, at: number, number: number): boolean {
  const length = (BSD_PARTITIONS + BSD_PARTITION_SIZE * number) / 2;
  return indices(length).reduce((sum, i) => sum ^ label.getUint16(at + 2 * i, true), 0) === 0;
}

const SUN_LABEL_MAGIC = 0xdabe;
export const SUN_MARKS: readonly Mark[] = [[508, 16, SUN_LABEL_MAGIC]];
const SUN_VTOC_SANITY = 0x600ddeee;

/** sun.c: 8 partitions, each beginning at a cylinder; the XOR of its 256 half words is 0. */
export function* readSun(disk: SteppedDisk): Steps<Found> {
  const label = yield* readSector(disk, 0);
  if (label?.getUint16(508) !== SUN_LABEL_MAGIC) return undefined;
  if (indices(SECTOR / 2).reduce((sum, i) => sum ^ label.getUint16(2 * i), 0) !== 0) {
    return undefined;
  }
  const [version, nparts, sanity] = [
    label.getUint32(128),
    label.getUint16(140),
    label.getUint32(188),
  ];
  const hasVtoc = sanity === SUN_VTOC_SANITY && version === 1 && nparts <= 8;
  const hasTypes = hasVtoc || !(sanity || version || nparts);
  const cylinder = label.getUint16(436) * label.getUint16(438);
  return indices(hasVtoc ? nparts : 8).flatMap((i) => {
    const [start, size] = [label.getUint32(444 + 8 * i) * cylinder, label.getUint32(448 + 8 * i)];
    const type = hasTypes ? { type: hexType(label.getUint16(142 + 4 * i)) } : {};
    return partition(i + 1, { start, size }, type);
  });
}

const ULTRIX_PT_MAGIC = 0x032957;
/** In the last of the first 16 KiB's sectors. */
const ULTRIX_SECTOR = 31;
const ULTRIX_AT = SECTOR - 72;
export const ULTRIX_MARKS: readonly Mark[] = [
  [ULTRIX_SECTOR * SECTOR + ULTRIX_AT, 32, ULTRIX_PT_MAGIC, true],
];
/** Sectors; beyond the end of any disk. */
const BEYOND_ANY_END = 2 ** 40;

/**
 * ultrix.c: 8 partitions at the end of the first 16 KiB. The number of sectors is signed, and the kernel
 * takes a negative one for almost 2^64. It cuts such a partition at the disk's end. If start + size wraps,
 * it does not; such an entry is left out here.
 */
export function* readUltrix(disk: SteppedDisk): Steps<Found> {
  const label = yield* readSector(disk, ULTRIX_SECTOR);
  const at = ULTRIX_AT;
  if (label?.getUint32(at, true) !== ULTRIX_PT_MAGIC) return undefined;
  if (label.getUint32(at + 4, true) !== 1) return undefined;
  return indices(8).flatMap((i) => {
    const entry = at + 8 + 8 * i;
    const [size, start] = [label.getInt32(entry, true), label.getUint32(entry + 4, true)];
    const shown = size < 0 && start < -size ? BEYOND_ANY_END : Math.max(0, size);
    return partition(i + 1, { start, size: shown });
  });
}

const KARMA_LABEL_MAGIC = 0xab56;
const KARMA_FSTYPE = 0x4d;
export const KARMA_MARKS: readonly Mark[] = [[510, 16, KARMA_LABEL_MAGIC, true]];

/** karma.c: 2 partitions. Its magic number has only two bytes, so there must also be a partition. */
export function* readKarma(disk: SteppedDisk): Steps<Found> {
  const label = yield* readSector(disk, 0);
  if (label?.getUint16(510, true) !== KARMA_LABEL_MAGIC) return undefined;
  const partitions = [0, 1].flatMap((i) => {
    const entry = 270 + 16 * i;
    if (label.getUint8(entry + 4) !== KARMA_FSTYPE) return [];
    const [start, size] = [label.getUint32(entry + 8, true), label.getUint32(entry + 12, true)];
    return partition(i + 1, { start, size }, { type: hexType(KARMA_FSTYPE) });
  });
  return partitions.length > 0 ? partitions : undefined;
}

const SYSV68_AT = 248;
/** The first half of "MOTOROLA". */
export const SYSV68_MARKS: readonly Mark[] = [[SYSV68_AT, 32, 0x4d4f544f]];

/** sysv68.c: a table of slices, of which the last is the whole disk. */
export function* readSysv68(disk: SteppedDisk): Steps<Found> {
  const label = yield* readSector(disk, 0);
  if (!label || textAt(label, SYSV68_AT, 8) !== "MOTOROLA") return undefined;
  const slices = yield* readSector(disk, label.getUint32(384));
  if (!slices) return undefined;
  const number = Math.min(Math.max(0, label.getUint16(388) - 1), SECTOR / 8);
  return indices(number).flatMap((i) => {
    const [size, start] = [slices.getUint32(8 * i), slices.getUint32(8 * i + 4)];
    return partition(i + 1, { start, size });
  });
}
