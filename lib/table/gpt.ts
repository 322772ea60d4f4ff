/**
 * GUID partition tables (UEFI specification, chapter 5), as the kernel's block/partitions/efi.c reads
 * them; also the backup header, which the kernel does not read by default.
 *
 * @module
 */
import { __u32, __u64, bytes, struct, type Value } from "../base/struct.ts";
import { crc32, crc32_le } from "../base/checksums.ts";
import { gptTypeName } from "./gpt_types.ts";
import type { Damage, TablePartition } from "./disk.ts";
import { MOST_PARTITIONS } from "./sectors.ts";
import { pause, type SteppedDisk, type Steps } from "./steps.ts";

/** 92 bytes on disk; the compiler's 4 bytes of padding still lie within the header's sector. */
export const gpt_header = struct("gpt_header", 96, {
  signature: bytes(8),
  revision: __u32,
  header_size: __u32,
  header_crc32: __u32,
  reserved1: __u32,
  my_lba: __u64,
  alternate_lba: __u64,
  first_usable_lba: __u64,
  last_usable_lba: __u64,
  disk_guid: bytes(16),
  partition_entry_lba: __u64,
  num_partition_entries: __u32,
  sizeof_partition_entry: __u32,
  partition_entry_array_crc32: __u32,
});

export const gpt_entry = struct("gpt_entry", 128, {
  partition_type_guid: bytes(16),
  unique_partition_guid: bytes(16),
  starting_lba: __u64,
  ending_lba: __u64,
  attributes: __u64,
  partition_name: bytes(72),
});

/** Bytes of gpt_header that exist on disk. */
export const GPT_HEADER_SIZE = 92;
/** The kernel's KMALLOC_MAX_SIZE: it refuses a larger entry array, too. */
const MOST_ENTRY_BYTES = 4 * 1024 * 1024;
const MOST_ENTRIES = MOST_ENTRY_BYTES / gpt_entry.size;
/** The checksum of these bytes takes about 0.1 ms; then the event loop may turn. */
const PIECE = 64 * 1024;

const ascii = new TextDecoder("latin1");
const utf16 = new TextDecoder("utf-16le");

/** The kernel knows 128 bytes alone. gdisk does so too, and its repair writes an empty table. */
const REWRITE =
  "sfdisk --dump DISK >table, and sfdisk DISK <table, write it anew with entries of 128 bytes";

/** UEFI 2.10, 5.3.2: 128 × 2ⁿ. No tool has been seen to write more than a sector. */
const isEntrySize = (size: number) => size >= 128 && size <= 4096 && (size & (size - 1)) === 0;

/** A GPT has two headers, at the disk's beginning and at its end, each with an array of entries. */
export type GptHeader = "primary" | "backup";

export interface Gpt {
  readonly header: GptHeader;
  /** disk_guid */
  readonly uuid: string;
  readonly partitions: TablePartition[];
}

/** Neither header is valid. `damage`: what is wrong with one that is there. */
export interface DamagedGpt {
  readonly header?: undefined;
  readonly partitions: TablePartition[];
  readonly damage?: Damage;
}

/**
 * The primary table, or the backup at the end of the disk if the primary is damaged; with `header`, only
 * that one. The caller has seen a protective MBR.
 */
export function* readGpt(disk: SteppedDisk, header?: GptHeader): Steps<Gpt | DamagedGpt> {
  let damage: Damage | undefined;
  for (const each of header ? [header] : ["primary", "backup"] as const) {
    const copy = yield* readCopy(disk, each === "primary" ? PRIMARY_LBA : lastLbaOf(disk));
    if (isValid(copy)) {
      const uuid = guid(copy.header.disk_guid);
      return { header: each, uuid, partitions: partitionsOf(disk, copy) };
    }
    damage ??= copy;
  }
  return { partitions: [], damage };
}

/** Whether the backup that the primary header points to is valid and belongs to the same table. */
export function* isConfirmed(disk: SteppedDisk): Steps<boolean> {
  const primary = yield* readCopy(disk, PRIMARY_LBA);
  if (!isValid(primary)) return false;
  const { alternate_lba, disk_guid, partition_entry_array_crc32 } = primary.header;
  const backup = yield* readCopy(disk, Number(alternate_lba));
  return isValid(backup) && backup.header.alternate_lba === BigInt(PRIMARY_LBA) &&
    guid(backup.header.disk_guid) === guid(disk_guid) &&
    backup.header.partition_entry_array_crc32 === partition_entry_array_crc32;
}

/** A valid copy of a table. */
export interface Copy {
  readonly header: Value<typeof gpt_header>;
  /** The whole sector of the header. */
  readonly sector: Uint8Array;
  readonly entries: Uint8Array;
}

export const isValid = (copy: Copy | Damage | undefined): copy is Copy =>
  !!copy && "entries" in copy;

export const PRIMARY_LBA = 1;

function lastLbaOf({ size, sectorSize }: SteppedDisk): number {
  return Math.floor(size / sectorSize) - 1;
}

/** The header in a sector; undefined if its checksum is wrong, or it says that it lies elsewhere. */
function* readHeader(
  disk: SteppedDisk,
  lba: number,
): Steps<Pick<Copy, "header" | "sector"> | undefined> {
  if (lba < PRIMARY_LBA || lba > lastLbaOf(disk)) return undefined;
  const sector = yield* disk.read(lba * disk.sectorSize, disk.sectorSize);
  if (sector.length < disk.sectorSize) return undefined;
  const header = gpt_header.decode(sector);
  if (ascii.decode(header.signature) !== "EFI PART") return undefined;
  if (header.header_size < GPT_HEADER_SIZE || header.header_size > disk.sectorSize) {
    return undefined;
  }
  // header_crc32 counts as zero in its own checksum.
  const summed = sector.slice(0, header.header_size);
  gpt_header.write(summed, { header_crc32: 0 });
  if (crc32(summed) !== header.header_crc32) return undefined;
  return header.my_lba === BigInt(lba) ? { header, sector } : undefined;
}

/** The copy whose header lies in a sector; undefined if there is no header. */
export function* readCopy(disk: SteppedDisk, lba: number): Steps<Copy | Damage | undefined> {
  const found = yield* readHeader(disk, lba);
  if (!found) return undefined;
  const { header, sector } = found;
  const { first_usable_lba, last_usable_lba, alternate_lba, partition_entry_lba } = header;
  if (first_usable_lba > last_usable_lba) {
    return {
      what: `its header says that sectors ${first_usable_lba} to ${last_usable_lba} can be used`,
    };
  }
  const { num_partition_entries: number, sizeof_partition_entry: size } = header;
  if (size !== gpt_entry.size) {
    const what = `its header says that an entry has ${size} bytes`;
    return isEntrySize(size) ? { what, remedy: REWRITE } : { what };
  }
  const length = number * size;
  if (length === 0 || length > MOST_ENTRY_BYTES) {
    return { what: `its header says that it has ${number} entries; the most are ${MOST_ENTRIES}` };
  }
  const lastLba = BigInt(lastLbaOf(disk));
  const needed = alternate_lba > last_usable_lba ? alternate_lba : last_usable_lba;
  const asks = Number(needed + 1n) * disk.sectorSize;
  // Only a primary header is at the same place on a disk that was cut. The kernel refuses it, too.
  const isCut = last_usable_lba > lastLba;
  if (isCut && (lba !== PRIMARY_LBA || !Number.isSafeInteger(asks))) {
    return { what: `its header says that sectors up to ${last_usable_lba} can be used` };
  }
  const entries = yield* disk.read(Number(partition_entry_lba) * disk.sectorSize, length);
  if (entries.length < length) return { what: "it ends before the entries of its GPT do" };
  if ((yield* crc32Steps(entries)) !== header.partition_entry_array_crc32) {
    return { what: "the checksum of its GPT's entries is wrong" };
  }
  return isCut ? { what: "it is cut off", asks } : { header, sector, entries };
}

/** crc32() of an array of up to 4 MiB, with pauses. */
function* crc32Steps(data: Uint8Array): Steps<number> {
  let crc = -1;
  for (let at = 0; at < data.length; at += PIECE) {
    crc = crc32_le(crc, data.subarray(at, at + PIECE));
    if (at + PIECE < data.length) yield* pause();
  }
  return ~crc >>> 0;
}

function partitionsOf(disk: SteppedDisk, { header, entries }: Copy): TablePartition[] {
  const lastLba = lastLbaOf(disk);
  const partitions: TablePartition[] = [];
  for (let i = 0; i < Math.min(header.num_partition_entries, MOST_PARTITIONS); i++) {
    const raw = entries.subarray(i * gpt_entry.size, (i + 1) * gpt_entry.size);
    if (isUnused(raw)) continue;
    const entry = gpt_entry.decode(raw);
    const { starting_lba: first, ending_lba: last } = entry;
    if (first > last || last > BigInt(lastLba)) continue;
    const type = guid(entry.partition_type_guid);
    const typeName = gptTypeName(type);
    partitions.push({
      number: i + 1,
      start: Number(first) * disk.sectorSize,
      size: Number(last - first + 1n) * disk.sectorSize,
      type,
      ...typeName === undefined ? {} : { typeName },
      uuid: guid(entry.unique_partition_guid),
      name: utf16.decode(entry.partition_name).replace(/\0.*$/s, ""),
      attributes: bitsOf(entry.attributes),
    });
  }
  return partitions;
}

/** Whether the entry's type GUID, its first 16 bytes, is zero. */
export function isUnused(entry: Uint8Array): boolean {
  for (let i = 0; i < 16; i++) if (entry[i] !== 0) return false;
  return true;
}

function bitsOf(value: bigint): number[] {
  const bits: number[] = [];
  for (let bit = 0; value > 0n; bit++, value >>= 1n) if (value & 1n) bits.push(bit);
  return bits;
}

/** Mixed-endian on disk: the first three groups are little-endian, the last two big-endian. */
function guid(raw: Uint8Array): string {
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  const hex = order.map((i) => raw[i].toString(16).padStart(2, "0")).join("");
  const groups = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20)];
  return [...groups, hex.slice(20)].join("-");
}
