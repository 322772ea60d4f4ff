/**
 * What a disk's partition table says, whether or not the kernel can read it: GPT before MS-DOS, as
 * the kernel tries them. Tables are input from strangers: nothing here believes a number that
 * points outside the disk.
 *
 * @module
 */
import { readGpt } from "./gpt.ts";
import { hasProtectiveMbr, readMbr } from "./mbr.ts";

/** A disk to read a table from. */
export interface Disk {
  /** Bytes. */
  readonly size: number;
  /** Logical sector size in bytes: the unit of every number in a table. */
  readonly sectorSize: number;
  /** `length` bytes from `offset`; never asked for any beyond the last whole sector. */
  read(offset: number, length: number): Uint8Array;
}

/** A partition as a table describes it; bytes. */
export interface TablePartition {
  readonly number: number;
  readonly start: number;
  readonly size: number;
  readonly type: string;
  readonly uuid: string;
  readonly name?: string;
}

/**
 * The partitions that the kernel should have, in the order of their numbers; empty if there is no
 * table. One that begins beyond the disk is left out, one that ends beyond it is cut, as the kernel
 * does (block/partitions/core.c), here to whole sectors.
 */
export function readPartitionTable(disk: Disk): TablePartition[] {
  const whole = wholeSectors(disk);
  const end = whole.size;
  const partitions = hasProtectiveMbr(whole) ? readGpt(whole) : readMbr(whole);
  return (partitions ?? [])
    .filter(({ start }) => start < end)
    .map((partition) => ({ ...partition, size: Math.min(partition.size, end - partition.start) }))
    .sort((a, b) => a.number - b.number);
}

/** The disk without what is left at its end: reading less than a sector is EIO. */
function wholeSectors(disk: Disk): Disk {
  const { sectorSize } = disk;
  const size = disk.size - disk.size % sectorSize;
  const read = (offset: number, length: number) =>
    offset < size ? disk.read(offset, Math.min(length, size - offset)) : new Uint8Array();
  return { size, sectorSize, read };
}
