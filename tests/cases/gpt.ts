/**
 * Writes GUID partition tables by the UEFI specification (chapter 5.3). It takes nothing from lib/, which
 * reads and writes them too: a mistake in lib's layout would look right to lib.
 */
import { crc32 } from "node:zlib";
import { putEntries } from "./mbr.ts";

/** Where a field is. One of 4 bytes is a number, of 8 bytes a bigint, any other one is bytes. */
type Field = readonly [offset: number, length: number];
type Layout = Readonly<Record<string, Field>>;
type Value<F extends Field> = F[1] extends 4 ? number : F[1] extends 8 ? bigint : Uint8Array;
type Fields<L extends Layout> = { -readonly [name in keyof L]: Value<L[name]> };

/** A header's fields, by the kernel's names. */
export const HEADER = {
  signature: [0, 8],
  revision: [8, 4],
  header_size: [12, 4],
  header_crc32: [16, 4],
  reserved1: [20, 4],
  my_lba: [24, 8],
  alternate_lba: [32, 8],
  first_usable_lba: [40, 8],
  last_usable_lba: [48, 8],
  disk_guid: [56, 16],
  partition_entry_lba: [72, 8],
  num_partition_entries: [80, 4],
  sizeof_partition_entry: [84, 4],
  partition_entry_array_crc32: [88, 4],
} as const satisfies Layout;
export type Header = Fields<typeof HEADER>;
export const HEADER_BYTES = 92;
/** "EFI PART" */
export const SIGNATURE = 0x5452_4150_2049_4645n;

/** An entry's fields, by the kernel's names. */
export const ENTRY = {
  partition_type_guid: [0, 16],
  unique_partition_guid: [16, 16],
  starting_lba: [32, 8],
  ending_lba: [40, 8],
  attributes: [48, 8],
  partition_name: [56, 72],
} as const satisfies Layout;
export const ENTRY_BYTES = 128;

/** Writes some fields of a header or an entry. */
export function put<L extends Layout>(
  bytes: Uint8Array,
  layout: L,
  fields: Partial<Fields<L>>,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const [name, value] of Object.entries(fields) as [string, number | bigint | Uint8Array][]) {
    const [offset, length] = layout[name];
    if (typeof value === "number") view.setUint32(offset, value, true);
    else if (typeof value === "bigint") view.setBigUint64(offset, value, true);
    else bytes.fill(0, offset, offset + length).set(value, offset);
  }
}

/** Reads all fields. */
export function get<L extends Layout>(bytes: Uint8Array, layout: L): Fields<L> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Object.fromEntries(
    Object.entries(layout).map(([name, [offset, length]]) => [
      name,
      length === 4
        ? view.getUint32(offset, true)
        : length === 8
        ? view.getBigUint64(offset, true)
        : bytes.slice(offset, offset + length),
    ]),
  ) as Fields<L>;
}

/** Makes a header's own checksum right, which covers `size` bytes. */
export function seal(header: Uint8Array, size = HEADER_BYTES): void {
  put(header, HEADER, { header_crc32: 0 });
  put(header, HEADER, { header_crc32: crc32(header.subarray(0, size)) });
}

/** A header with right checksums: of the entries that it is for, and of itself. */
export function encodeHeader(fields: Partial<Header>, entries: Uint8Array): Uint8Array {
  const header = new Uint8Array(HEADER_BYTES);
  put(header, HEADER, {
    signature: SIGNATURE,
    revision: 0x10000,
    header_size: HEADER_BYTES,
    num_partition_entries: entries.length / ENTRY_BYTES,
    sizeof_partition_entry: ENTRY_BYTES,
    partition_entry_array_crc32: crc32(entries),
    ...fields,
  });
  seal(header);
  return header;
}

/** A GUID in the order that it has on disk: its first three numbers are little-endian. */
export function guidBytes(guid: string): Uint8Array {
  const hex = guid.replace(/^(..)(..)(..)(..)-(..)(..)-(..)(..)/, "$4$3$2$1$6$5$8$7");
  return Uint8Array.from(hex.replaceAll("-", "").match(/../g)!, (byte) => parseInt(byte, 16));
}

/** A name as an entry has it. */
export function nameBytes(name: string): Uint8Array {
  const bytes = new Uint8Array(2 * name.length);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < name.length; i++) view.setUint16(2 * i, name.charCodeAt(i), true);
  return bytes;
}

/** A partition to be; bytes. */
export interface NewPartition {
  readonly number: number;
  readonly start: number;
  readonly size: number;
  readonly type: string;
  readonly name: string;
}

const ENTRIES = 128;

/** What a disk of `size` bytes gets, and where: a protective MBR, and a table with its backup. */
export function encodeTable(
  size: number,
  partitions: readonly NewPartition[],
  sectorSize: number,
): { offset: number; bytes: Uint8Array }[] {
  const lastLba = Math.floor(size / sectorSize) - 1;
  const entries = new Uint8Array(ENTRIES * ENTRY_BYTES);
  for (const { number, start, size, type, name } of partitions) {
    put(entries.subarray((number - 1) * ENTRY_BYTES), ENTRY, {
      partition_type_guid: guidBytes(type),
      unique_partition_guid: guidBytes(crypto.randomUUID()),
      starting_lba: BigInt(start / sectorSize),
      ending_lba: BigInt((start + size) / sectorSize - 1),
      partition_name: nameBytes(name),
    });
  }
  const arraySectors = entries.length / sectorSize;
  const backupEntries = lastLba - arraySectors;
  const common = {
    first_usable_lba: BigInt(2 + arraySectors),
    last_usable_lba: BigInt(backupEntries - 1),
    disk_guid: guidBytes(crypto.randomUUID()),
  };
  const [first, last] = [1n, BigInt(lastLba)];
  const primary = { my_lba: first, alternate_lba: last, partition_entry_lba: 2n };
  const backup = {
    my_lba: last,
    alternate_lba: first,
    partition_entry_lba: BigInt(backupEntries),
  };
  const record = new Uint8Array(512);
  putEntries(record, [{ type: 0xee, start: 1, count: Math.min(lastLba, 0xffffffff) }]);
  return [
    { offset: 0, bytes: record },
    { offset: sectorSize, bytes: encodeHeader({ ...common, ...primary }, entries) },
    { offset: 2 * sectorSize, bytes: entries },
    { offset: backupEntries * sectorSize, bytes: entries },
    { offset: lastLba * sectorSize, bytes: encodeHeader({ ...common, ...backup }, entries) },
  ];
}
