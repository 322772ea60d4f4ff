/**
 * MS-DOS partition tables: four primary entries and chains of extended boot records, numbered as the
 * kernel's block/partitions/msdos.c numbers them.
 *
 * @module
 */
import { mbrTypeName } from "./mbr_types.ts";
import type { TablePartition } from "./disk.ts";
import { hexType, MOST_PARTITIONS, SECTOR } from "./sectors.ts";
import { readSlices } from "./slices.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

export const TABLE_OFFSET = 0x1be;
const DISK_SIGNATURE_OFFSET = 0x1b8;
export const EFI_GPT = 0xee;
/** boot_ind of the partition that a BIOS boots from. */
const ACTIVE = 0x80;
const ACTIVE_BIT = 7;
const EXTENDED = [0x05, 0x0f, 0x85];
/** The kernel stops following a chain after so many records without a partition. */
const MOST_EMPTY_RECORDS = 100;
/** struct fat_boot_sector: reserved, fats, media. */
const [FAT_RESERVED, FAT_FATS, FAT_MEDIA] = [14, 16, 21];

/** struct msdos_partition without the CHS addresses. */
export interface Entry {
  readonly boot_ind: number;
  readonly sys_ind: number;
  readonly start_sect: number;
  readonly nr_sects: number;
}

/** A master or an extended boot record. */
export interface BootRecord {
  readonly entries: readonly Entry[];
  /** The disk's identifier. */
  readonly signature: number;
  /** The whole sector. */
  readonly view: DataView;
}

/** The first sector; undefined if its last two bytes are not a boot record's. */
export function readBootRecord(disk: SteppedDisk): Steps<BootRecord | undefined> {
  return readRecord(disk, 0);
}

function* readRecord(disk: SteppedDisk, start: number): Steps<BootRecord | undefined> {
  const record = disk.kept?.(start, 512) ?? (yield* disk.read(start, 512));
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
  return { entries, signature, view };
}

/** Whether the kernel looks for a GPT: an entry of type 0xEE begins at sector 1. */
export function isProtective({ entries }: BootRecord): boolean {
  return entries.some((entry) => entry.sys_ind === EFI_GPT && entry.start_sect === 1);
}

/** Whether there is an entry of type 0xEE: then the kernel takes none of the entries for a partition. */
export function announcesGpt({ entries }: BootRecord): boolean {
  return entries.some((entry) => entry.sys_ind === EFI_GPT);
}

/**
 * What the kernel takes a record for. A file system's boot sector ends in the same two bytes, with code or
 * zeros where the table would be. After `"code"` the kernel looks for tables of other kinds.
 */
export function kindOf({ entries, signature, view }: BootRecord): "table" | "empty" | "code" {
  const strange = entries.findIndex(({ boot_ind }) => boot_ind & 0x7f);
  if (strange < 0) {
    const isUsed = signature !== 0 || entries.some(({ sys_ind, nr_sects }) => sys_ind || nr_sects);
    return isUsed ? "table" : "empty";
  }
  const media = view.getUint8(FAT_MEDIA);
  const isFat = view.getUint16(FAT_RESERVED) !== 0 && view.getUint8(FAT_FATS) !== 0 &&
    (media >= 0xf8 || media === 0xf0);
  return strange === 0 && isFat ? "empty" : "code";
}

const hex = (n: number, digits: number) => n.toString(16).padStart(digits, "0");

/** The disk's identifier: libblkid's PTUUID and the beginning of each PARTUUID. If it is 0 there is neither. */
export function mbrUuid({ signature }: BootRecord): string | undefined {
  return signature === 0 ? undefined : hex(signature, 8);
}

export function* readMbr(disk: SteppedDisk, record: BootRecord): Steps<TablePartition[]> {
  const partitions: TablePartition[] = [];
  const disksUuid = mbrUuid(record);
  const put = (number: number, start: number, size: number, entry: Entry) => {
    const typeName = mbrTypeName(entry.sys_ind);
    partitions.push({
      number,
      start,
      size,
      type: hexType(entry.sys_ind),
      ...typeName === undefined ? {} : { typeName },
      ...disksUuid === undefined ? {} : { uuid: `${disksUuid}-${hex(number, 2)}` },
      attributes: entry.boot_ind & ACTIVE ? [ACTIVE_BIT] : [],
    });
  };
  let next = 5;
  for (const [slot, entry] of record.entries.entries()) {
    const [start, size] = extent(disk, entry);
    if (size === 0) continue;
    if (!isExtended(entry)) {
      put(slot + 1, start, size, entry);
      continue;
    }
    // The kernel shows an extended partition as 1 KiB, or one sector if that is larger: room for a boot
    // loader, but not for a file system that would destroy the logical partitions.
    put(slot + 1, start, Math.min(size, Math.max(disk.sectorSize, 1024)), entry);
    next = yield* readChain(disk, { start, size }, next, put);
  }
  for (const entry of record.entries) {
    const [start, size] = extent(disk, entry);
    if (size === 0) continue;
    const within = { start: start / SECTOR, size: size / SECTOR };
    const slices = yield* readSlices(disk, entry.sys_ind, within, next);
    partitions.push(...slices.partitions);
    next = slices.next;
  }
  return partitions;
}

/** Where an entry stands: the start of its boot record in bytes, and which of the four it is. */
export interface Slot {
  readonly record: number;
  readonly slot: number;
}

/** Follows a chain of extended boot records, and gives the number after its last partition. */
export function* readChain(
  disk: SteppedDisk,
  whole: { start: number; size: number },
  next: number,
  put: (number: number, start: number, size: number, entry: Entry, at: Slot) => void,
  seen: (record: number) => void = () => {},
): Steps<number> {
  let here = whole;
  for (let empty = 1; empty <= MOST_EMPTY_RECORDS && next <= MOST_PARTITIONS; empty++) {
    const record = yield* readRecord(disk, here.start);
    if (!record) break;
    seen(here.start);
    for (const [slot, entry] of record.entries.entries()) {
      const [offset, size] = extent(disk, entry);
      const start = here.start + offset;
      if (size === 0 || isExtended(entry)) continue;
      // Entries 3 and 4 of a record are often garbage: they count only inside the extended partition.
      const inside = offset + size <= here.size && start >= whole.start &&
        start + size <= whole.start + whole.size;
      if (slot >= 2 && !inside) continue;
      put(next++, start, size, entry, { record: here.start, slot });
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

export function extent(disk: SteppedDisk, entry: Entry): [start: number, size: number] {
  return [entry.start_sect * disk.sectorSize, entry.nr_sects * disk.sectorSize];
}

export function isExtended(entry: Entry): boolean {
  return EXTENDED.includes(entry.sys_ind);
}
