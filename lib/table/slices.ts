/**
 * Tables within a partition of an MS-DOS table: the second pass of the kernel's block/partitions/msdos.c,
 * which numbers their slices from 5 on, after the logical partitions. All count in sectors of 512 bytes.
 *
 * @module
 */
import type { TablePartition } from "./disk.ts";
import { BSD_DISKMAGIC, bsdPartitions } from "./labels.ts";
import { type Extent, hexType, MOST_PARTITIONS, partition, readSector } from "./sectors.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

/** A slice's place on the disk, and its type in its own table. */
type Slice = Extent & { readonly type: number };

/** The slices in a partition. One without sectors takes a number, too. */
type Parser = (disk: SteppedDisk, within: Extent) => Steps<Slice[]>;

const BSD_MAXPARTITIONS = 16;
/** p_offset of partition c, the whole. If it is 0, FreeBSD counts from the MS-DOS partition's beginning. */
const BSD_WHOLE_START = 148 + 16 * 2 + 4;

const bsd = (canBeRelative: boolean): Parser =>
  function* (disk, within) {
    const label = yield* readSector(disk, within.start + 1);
    if (label?.getUint32(0, true) !== BSD_DISKMAGIC) return [];
    const isRelative = canBeRelative && label.getUint32(BSD_WHOLE_START, true) === 0;
    return bsdPartitions(label, 0, BSD_MAXPARTITIONS).flatMap(({ start, size, fstype: type }) => {
      const slice = { start: isRelative ? within.start + start : start, size, type };
      const isWhole = slice.start === within.start && size === within.size;
      const isInside = slice.start >= within.start &&
        slice.start + size <= within.start + within.size;
      return type !== 0 && isInside && !isWhole ? [slice] : [];
    });
  };

const UNIXWARE_DISKMAGIC = 0xca5e600d;
const VTOC_SANE = 0x600ddeee;

/** System V's slices: tag, flags, start and size. */
const vtocSlices = (label: DataView, at: number, number: number): Slice[] =>
  Array.from({ length: number }, (_, i): Slice => ({
    type: label.getUint16(at + 12 * i, true),
    start: label.getUint32(at + 12 * i + 4, true),
    size: label.getUint32(at + 12 * i + 8, true),
  }));

const unixware: Parser = function* (disk, within) {
  const label = yield* readSector(disk, within.start + 29);
  if (label?.getUint32(4, true) !== UNIXWARE_DISKMAGIC) return [];
  if (label.getUint32(156, true) !== VTOC_SANE) return [];
  // Slice 0 is the whole.
  return vtocSlices(label, 216 + 12, 15).filter(({ type }) => type !== 0);
};

const solaris: Parser = function* (disk, within) {
  const label = yield* readSector(disk, within.start + 1);
  if (label?.getUint32(12, true) !== VTOC_SANE || label.getUint32(16, true) !== 1) return [];
  return vtocSlices(label, 72, label.getUint16(30, true) > 8 ? 16 : 8)
    .filter(({ size }) => size > 0)
    .map((slice) => ({ ...slice, start: within.start + slice.start }));
};

const MINIX_PARTITION = 0x81;

const minix: Parser = function* (disk, within) {
  const sector = yield* readSector(disk, within.start);
  if (sector?.getUint16(510) !== 0x55aa || sector.getUint8(0x1be + 4) !== MINIX_PARTITION) {
    return [];
  }
  return [0, 1, 2, 3].map((i) => 0x1be + 16 * i).map((at): Slice => ({
    type: sector.getUint8(at + 4),
    start: sector.getUint32(at + 8, true),
    size: sector.getUint32(at + 12, true),
  })).filter(({ type }) => type === MINIX_PARTITION);
};

/** By system id. 0x82 is also that of Linux swap. */
const PARSERS: Readonly<Record<number, Parser>> = {
  0xa5: bsd(true),
  0xa9: bsd(false),
  0xa6: bsd(false),
  [MINIX_PARTITION]: minix,
  0x63: unixware,
  0x82: solaris,
  0xbf: solaris,
};

/** The slices in the MS-DOS partition `within` of system id `id`, numbered from `next` on. */
export function* readSlices(
  disk: SteppedDisk,
  id: number,
  within: Extent,
  next: number,
): Steps<{ partitions: TablePartition[]; next: number }> {
  const parse = PARSERS[id];
  const slices = parse ? yield* parse(disk, within) : [];
  const room = slices.slice(0, MOST_PARTITIONS + 1 - next);
  return {
    partitions: room.flatMap((slice, i) =>
      partition(next + i, slice, { type: hexType(slice.type) })
    ),
    next: next + room.length,
  };
}
