/**
 * Disk labels that lie in one sector: of SGI, BSD, Sun, Ultrix, Rio Karma and Motorola's System V.
 * Each is what the kernel's parser of the same name in block/partitions/ makes of it.
 *
 * @module
 */
import type { TablePartition } from "./disk.ts";
import { hexType, partition, readSector, SECTOR, textAt } from "./sectors.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

/** Partitions, or undefined if the disk has no table of this kind. */
export type Found = TablePartition[] | undefined;

const indices = (length: number) => Array.from({ length }, (_, i) => i);

const SGI_LABEL_MAGIC = 0x0be5a941;

/** sgi.c: 16 partitions, and 128 words whose sum is zero. parted calls it dvh. */
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

/** An entry of a BSD disklabel. */
export interface BsdPartition {
  readonly start: number;
  readonly size: number;
  readonly fstype: number;
}

/** The entries of a BSD disklabel that begins at `at`; `most`: as many as the reader believes in. */
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

/** Where a label can be that takes the whole disk: sector, and offset in it. */
const BSD_PLACES = [[0, 64], [1, 0]] as const;
const MAX_OSF_PARTITIONS = 18;

/**
 * osf.c: a BSD disklabel in the first sector, as on Alpha and by parted. And one in the second
 * sector, as FreeBSD's bsdlabel writes it: the kernel does not look there, libblkid and partx do. So
 * that one must have a right checksum, too. Partition a is number 1 in both, whichever are in use.
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

/** All words of a label, its checksum and partitions included, are zero in sum (XOR). */
function isBsdChecksumRight(label: DataView, at: number, number: number): boolean {
  const length = (BSD_PARTITIONS + BSD_PARTITION_SIZE * number) / 2;
  if (at + 2 * length > label.byteLength) return false;
  return indices(length).reduce((sum, i) => sum ^ label.getUint16(at + 2 * i, true), 0) === 0;
}

const SUN_LABEL_MAGIC = 0xdabe;
const SUN_VTOC_SANITY = 0x600ddeee;

/** sun.c: 8 partitions that begin with a cylinder, and 256 half words that are zero in sum (XOR). */
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
/** Sectors. */
const BEYOND_ANY_END = 2 ** 40;

/**
 * ultrix.c: 8 partitions at the end of the first 16 KiB. The number of sectors has a sign, and a
 * negative one is almost 2^64 to the kernel: that is cut at the disk's end, or, where its sum with the
 * beginning wraps, shown as it is, which no table means.
 */
export function* readUltrix(disk: SteppedDisk): Steps<Found> {
  const label = yield* readSector(disk, 31);
  const at = SECTOR - 72;
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

/** karma.c: 2 partitions. A magic number of two bytes is little: without a partition it is none. */
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

/** sysv68.c: a table of slices, the last of which is the whole disk. */
export function* readSysv68(disk: SteppedDisk): Steps<Found> {
  const label = yield* readSector(disk, 0);
  if (!label || textAt(label, 248, 8) !== "MOTOROLA") return undefined;
  const slices = yield* readSector(disk, label.getUint32(384));
  if (!slices) return undefined;
  const number = Math.min(Math.max(0, label.getUint16(388) - 1), SECTOR / 8);
  return indices(number).flatMap((i) => {
    const [size, start] = [slices.getUint32(8 * i), slices.getUint32(8 * i + 4)];
    return partition(i + 1, { start, size });
  });
}
