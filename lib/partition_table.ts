/**
 * What a disk's partition table says, whether or not the kernel can read it: GPT before MS-DOS, as
 * the kernel tries them. Tables are input from strangers: nothing here believes a number that
 * points outside the disk.
 *
 * @module
 */
import { type GptHeader, readGpt } from "./gpt.ts";
import { announcesGpt, isMbr, isProtective, mbrUuid, readBootRecord, readMbr } from "./mbr.ts";

/** Bytes to read a table from, in sectors of whatever size. */
export interface Image {
  /** Bytes. */
  readonly size: number;
  /** `length` bytes from `offset`; never asked for any beyond the last whole sector. */
  read(offset: number, length: number): Uint8Array;
}

/** A disk to read a table from. */
export interface Disk extends Image {
  /** Logical sector size in bytes: the unit of every number in a table. */
  readonly sectorSize: number;
}

/** A partition as a table describes it; bytes. */
export interface TablePartition {
  /** As in the node's name: 1 for /dev/loop4p1. */
  readonly number: number;
  /** Where it begins on the disk, in bytes. */
  readonly start: number;
  /** Bytes. */
  readonly size: number;
  /** GPT: type GUID in lower case. MBR: system id, "0x83". */
  readonly type: string;
  /** What sfdisk calls the type, if it is well known: "Linux filesystem". */
  readonly typeName?: string;
  /** PARTUUID, as in /dev/disk/by-partuuid. */
  readonly uuid: string;
  /** GPT partition name; may be empty, and is whatever a stranger wrote there. */
  readonly name?: string;
  /**
   * Which attribute bits are set. GPT: 0 required, 2 legacy BIOS bootable, and by type; of Linux file
   * systems 59 grow, 60 read-only, 63 do not mount by itself. MBR: 7 active (0x80).
   */
  readonly attributes: readonly number[];
}

/** A partition table, in the unit in which it was read. */
export interface PartitionTable {
  /**
   * `"gpt"` also if the MBR announces one that cannot be read: it has no `header` then, and
   * {@linkcode readPartitions} rejects.
   */
  readonly kind: "gpt" | "mbr" | "none";
  /** Bytes. */
  readonly sectorSize: number;
  /** Which of a GPT's two headers was read: the backup only where the primary is damaged. */
  readonly header?: "primary" | "backup";
  /** The disk's. GPT: disk GUID in lower case. MBR: disk identifier, "1a2b3c4d". */
  readonly uuid?: string;
  /** In the order of their numbers. */
  readonly partitions: readonly TablePartition[];
}

/**
 * The table, with the partitions that the kernel should have. One that begins beyond the disk is
 * left out, one that ends beyond it is cut, as the kernel does (block/partitions/core.c), here to
 * whole sectors.
 */
export function readPartitionTable(disk: Disk, header?: GptHeader): PartitionTable {
  const whole = wholeSectors(disk);
  const { size: end, sectorSize } = whole;
  const table = readWhole(whole, header);
  const partitions = table.partitions
    .filter(({ start }) => start < end)
    .map((partition) => ({ ...partition, size: Math.min(partition.size, end - partition.start) }))
    .sort((a, b) => a.number - b.number);
  const { kind, ...rest } = table;
  return { kind, sectorSize, ...rest, partitions };
}

function readWhole(disk: Disk, header?: GptHeader): Omit<PartitionTable, "sectorSize"> {
  const record = readBootRecord(disk);
  if (record && isProtective(record)) {
    return { kind: "gpt", ...readGpt(disk, header) ?? { partitions: [] } };
  }
  if (!record || !isMbr(record)) return { kind: "none", partitions: [] };
  // One that is not at sector 1 hides the others from the kernel, and no GPT is looked for.
  if (announcesGpt(record)) return { kind: "gpt", partitions: [] };
  return { kind: "mbr", uuid: mbrUuid(record), partitions: readMbr(disk, record) };
}

/** The disk without what is left at its end: reading less than a sector is EIO. */
function wholeSectors(disk: Disk): Disk {
  const { sectorSize } = disk;
  const size = disk.size - disk.size % sectorSize;
  const read = (offset: number, length: number) =>
    offset < size ? disk.read(offset, Math.min(length, size - offset)) : new Uint8Array();
  return { size, sectorSize, read };
}
