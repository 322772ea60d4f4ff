/**
 * MS-DOS partition tables: four primary entries and the chain of extended boot records, numbered as
 * the kernel's block/partitions/msdos.c numbers them.
 *
 * @module
 */
import type { Disk, TablePartition } from "./partition_table.ts";

const TABLE_OFFSET = 0x1be;
const DISK_SIGNATURE_OFFSET = 0x1b8;
const EFI_GPT = 0xee;
const EXTENDED = [0x05, 0x0f, 0x85];
/** The kernel gives up a chain after this many records without a partition. */
const MOST_EMPTY_RECORDS = 100;
/** The kernel numbers partitions 1 to DISK_MAX_PARTS − 1. */
const MOST_PARTITIONS = 255;

/** What counts of struct msdos_partition: all but the CHS addresses. */
interface Entry {
  readonly boot_ind: number;
  readonly sys_ind: number;
  readonly start_sect: number;
  readonly nr_sects: number;
}

/** The four entries of a boot record, or undefined if its last two bytes do not say it is one. */
function readRecord(
  disk: Disk,
  start: number,
): { entries: Entry[]; signature: number } | undefined {
  const record = disk.read(start, 512);
  if (record.length < 512 || record[510] !== 0x55 || record[511] !== 0xaa) return undefined;
  const view = new DataView(record.buffer, record.byteOffset);
  const entries = [0, 1, 2, 3].map((slot): Entry => {
    const at = TABLE_OFFSET + 16 * slot;
    return {
      boot_ind: view.getUint8(at),
      sys_ind: view.getUint8(at + 4),
      start_sect: view.getUint32(at + 8, true),
      nr_sects: view.getUint32(at + 12, true),
    };
  });
  const signature = view.getUint32(DISK_SIGNATURE_OFFSET, true);
  return { entries, signature };
}

/** Whether sector 0 announces a GPT: an entry of type 0xEE that begins at LBA 1. */
export function hasProtectiveMbr(disk: Disk): boolean {
  const record = readRecord(disk, 0);
  return record?.entries.some((e) => e.sys_ind === EFI_GPT && e.start_sect === 1) ?? false;
}

/** Partitions of an MS-DOS table; undefined if there is none, or it only protects a GPT. */
export function readMbr(disk: Disk): TablePartition[] | undefined {
  const record = readRecord(disk, 0);
  if (!record) return undefined;
  // A file system's boot sector ends in the same two bytes, with code where the table would be.
  if (record.entries.some((entry) => entry.boot_ind & 0x7f)) return undefined;
  if (record.entries.some((entry) => entry.sys_ind === EFI_GPT)) return undefined;

  const partitions: TablePartition[] = [];
  const put = (number: number, start: number, size: number, entry: Entry) => {
    const hex = (n: number, digits: number) => n.toString(16).padStart(digits, "0");
    partitions.push({
      number,
      start,
      size,
      type: `0x${hex(entry.sys_ind, 1)}`,
      uuid: `${hex(record.signature, 8)}-${hex(number, 2)}`,
    });
  };
  let next = 5;
  record.entries.forEach((entry, slot) => {
    const [start, size] = extent(disk, entry);
    if (size === 0) return;
    if (!isExtended(entry)) return put(slot + 1, start, size, entry);
    // The kernel shows an extended partition as 1 KiB (one sector if larger): room for a boot
    // loader, too small for a mkfs that would wipe the logical ones.
    put(slot + 1, start, Math.min(size, Math.max(disk.sectorSize, 1024)), entry);
    next = readChain(disk, { start, size }, next, put);
  });
  return partitions;
}

/** Follows one chain of extended boot records; gives the number after its last partition. */
function readChain(
  disk: Disk,
  whole: { start: number; size: number },
  next: number,
  put: (number: number, start: number, size: number, entry: Entry) => void,
): number {
  let here = whole;
  for (let empty = 1; empty <= MOST_EMPTY_RECORDS && next <= MOST_PARTITIONS; empty++) {
    const record = readRecord(disk, here.start);
    if (!record) break;
    for (const [slot, entry] of record.entries.entries()) {
      const [offset, size] = extent(disk, entry);
      const start = here.start + offset;
      if (size === 0 || isExtended(entry)) continue;
      // Entries 3 and 4 of a record are often garbage: believed only inside the extended partition.
      const inside = offset + size <= here.size && start >= whole.start &&
        start + size <= whole.start + whole.size;
      if (slot >= 2 && !inside) continue;
      put(next++, start, size, entry);
      empty = 0;
      if (next > MOST_PARTITIONS) return next;
    }
    const link = record.entries.find((entry) => entry.nr_sects > 0 && isExtended(entry));
    if (!link) break;
    const [offset, size] = extent(disk, link);
    here = { start: whole.start + offset, size };
  }
  return next;
}

function extent(disk: Disk, entry: Entry): [start: number, size: number] {
  return [entry.start_sect * disk.sectorSize, entry.nr_sects * disk.sectorSize];
}

function isExtended(entry: Entry): boolean {
  return EXTENDED.includes(entry.sys_ind);
}
