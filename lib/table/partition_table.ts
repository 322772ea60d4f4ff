/**
 * Reading a disk's partition table, whether or not the kernel can. The order of the kinds is that of
 * check_part[] in the kernel's block/partitions/core.c. A table is untrusted input: a number that points
 * outside the disk has no effect.
 *
 * @module
 */
import { AMIGA_MARKS, readAmiga } from "./amiga.ts";
import { isLikeAtari, readAtari } from "./atari.ts";
import type { FoundTable, TableKind, TablePartition } from "./disk.ts";
import { type GptHeader, readGpt } from "./gpt.ts";
import {
  BSD_MARKS,
  type Found,
  KARMA_MARKS,
  readBsd,
  readKarma,
  readSgi,
  readSun,
  readSysv68,
  readUltrix,
  SGI_MARKS,
  SUN_MARKS,
  SYSV68_MARKS,
  ULTRIX_MARKS,
} from "./labels.ts";
import { MAC_MARKS, readMac } from "./mac.ts";
import { announcesGpt, isProtective, kindOf, mbrUuid, readBootRecord, readMbr } from "./mbr.ts";
import { isMarked, type Marks, readMarked } from "./sectors.ts";
import type { SteppedDisk, Steps } from "./steps.ts";
import { nameUnreadable } from "./unreadable.ts";

/**
 * The table, with the partitions that the kernel should have. As in the kernel, a partition that begins
 * beyond the disk is left out, and one that ends beyond it is cut, here to whole sectors. `header`: the
 * only one of a GPT that is read.
 */
export function* tableSteps(disk: SteppedDisk, header?: GptHeader): Steps<FoundTable> {
  const whole = wholeSectors(disk);
  const { size: end, sectorSize } = whole;
  const table = yield* readWhole(whole, header);
  const partitions = table.partitions
    .filter(({ start }) => start < end)
    .map((partition) => cutAt(end, partition))
    .sort((a, b) => a.number - b.number);
  const { kind, ...rest } = table;
  return { kind, sectorSize, ...rest, partitions };
}

function cutAt(end: number, partition: TablePartition): TablePartition {
  const [from, to] = [partition.size, end - partition.start];
  return from <= to ? partition : { ...partition, size: to, truncated: { from, to } };
}

/** A kind of table: how each of its tables is marked, and what reads one. */
interface Row {
  readonly kind: TableKind;
  readonly marks: Marks;
  readonly read: (disk: SteppedDisk) => Steps<Found>;
}

/** The kinds after MS-DOS, in the kernel's order. If there is an MS-DOS table, it looks for none of them. */
const OTHERS: readonly Row[] = [
  { kind: "bsd", marks: BSD_MARKS, read: readBsd },
  { kind: "sun", marks: SUN_MARKS, read: readSun },
  { kind: "amiga", marks: AMIGA_MARKS, read: readAmiga },
  { kind: "atari", marks: isLikeAtari, read: readAtari },
  { kind: "mac", marks: MAC_MARKS, read: readMac },
  { kind: "ultrix", marks: ULTRIX_MARKS, read: readUltrix },
  { kind: "karma", marks: KARMA_MARKS, read: readKarma },
  { kind: "sysv68", marks: SYSV68_MARKS, read: readSysv68 },
];

const NONE = { kind: "none", partitions: [] } as const;

function* readWhole(
  disk: SteppedDisk,
  header?: GptHeader,
): Steps<Omit<FoundTable, "sectorSize">> {
  const record = yield* readBootRecord(disk);
  if (record && isProtective(record)) {
    return { kind: "gpt", ...yield* readGpt(disk, header) };
  }
  const marked = yield* readMarked(disk);
  const sgi = isMarked(marked, SGI_MARKS) ? yield* readSgi(disk) : undefined;
  if (sgi) return { kind: "sgi", partitions: sgi };
  const unreadable = nameUnreadable(marked, disk.sectorSize, record);
  if (unreadable !== undefined) return { ...NONE, unreadable };
  const kind = record && kindOf(record);
  if (kind === "empty") return NONE;
  if (record && kind === "table") {
    // The kernel looks for no GPT, since the entry is not at sector 1, and ignores the other entries.
    if (announcesGpt(record)) return { kind: "gpt", partitions: [] };
    const uuid = mbrUuid(record);
    const partitions = yield* readMbr(disk, record);
    return { kind: "mbr", ...uuid === undefined ? {} : { uuid }, partitions };
  }
  let empty: TableKind = "none";
  for (const { kind, marks, read } of OTHERS) {
    if (!isMarked(marked, marks)) continue;
    const partitions = yield* read(disk);
    // After an Amiga's table without partitions the kernel looks for the other kinds.
    if (partitions && (partitions.length > 0 || kind !== "amiga")) return { kind, partitions };
    if (partitions) empty = kind;
  }
  return { kind: empty, partitions: [] };
}

/** The disk without a part of a sector at its end, which the kernel cannot read (EIO). */
function wholeSectors(disk: SteppedDisk): SteppedDisk {
  const { sectorSize } = disk;
  const size = disk.size - disk.size % sectorSize;
  return {
    size,
    sectorSize,
    *read(offset, length) {
      if (offset >= size) return new Uint8Array();
      return yield* disk.read(offset, Math.min(length, size - offset));
    },
    kept(offset, length) {
      return offset + length <= size ? disk.kept?.(offset, length) : undefined;
    },
  };
}
