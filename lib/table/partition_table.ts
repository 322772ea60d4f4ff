/**
 * What a disk's partition table says, whether or not the kernel can read it: GPT before MS-DOS, as
 * the kernel tries them. Tables are input from strangers: nothing here believes a number that
 * points outside the disk.
 *
 * @module
 */
import type { Disk, PartitionTable } from "./disk.ts";
import { type GptHeader, readGpt } from "./gpt.ts";
import { announcesGpt, isMbr, isProtective, mbrUuid, readBootRecord, readMbr } from "./mbr.ts";

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
