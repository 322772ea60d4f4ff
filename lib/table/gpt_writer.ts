/**
 * Writes a GUID partition table: the other direction of lib/table/gpt.ts, for images of our own.
 *
 * @module
 */
import { type OpenFile, writeAt } from "../kernel/file.ts";
import { crc32 } from "./table/checksums.ts";
import { gpt_entry, gpt_header, GPT_HEADER_SIZE } from "./gpt.ts";

const ENTRIES = 128;

/** A partition to be; bytes, in whole sectors. */
export interface NewPartition {
  /** From 1 on; left out: its place in the list. */
  readonly number?: number;
  readonly start: number;
  readonly size: number;
  readonly type: string;
  readonly name: string;
}

/**
 * Writes protective MBR, table and backup over a file that shall have `size` bytes, for a disk whose
 * sectors have `sectorSize` bytes.
 */
export function writeGpt(
  file: OpenFile,
  size: number,
  partitions: readonly NewPartition[],
  sectorSize = 512,
): void {
  const lastLba = size / sectorSize - 1;
  const entries = new Uint8Array(ENTRIES * gpt_entry.size);
  const entrySectors = entries.length / sectorSize;
  partitions.forEach(({ number, start, size, type, name }, i) => {
    const entry = gpt_entry.encode({
      partition_type_guid: guidBytes(type),
      unique_partition_guid: guidBytes(crypto.randomUUID()),
      starting_lba: BigInt(start / sectorSize),
      ending_lba: BigInt((start + size) / sectorSize - 1),
      partition_name: utf16(name),
    });
    entries.set(entry, (number === undefined ? i : number - 1) * gpt_entry.size);
  });

  const disk_guid = guidBytes(crypto.randomUUID());
  const header = (my_lba: number, alternate_lba: number, partition_entry_lba: number) => {
    const sector = new Uint8Array(sectorSize);
    sector.set(gpt_header.encode({
      signature: new TextEncoder().encode("EFI PART"),
      revision: 0x10000,
      header_size: GPT_HEADER_SIZE,
      my_lba: BigInt(my_lba),
      alternate_lba: BigInt(alternate_lba),
      first_usable_lba: BigInt(2 + entrySectors),
      last_usable_lba: BigInt(lastLba - entrySectors - 1),
      disk_guid,
      partition_entry_lba: BigInt(partition_entry_lba),
      num_partition_entries: ENTRIES,
      sizeof_partition_entry: gpt_entry.size,
      partition_entry_array_crc32: crc32(entries),
    }));
    const checksum = crc32(sector.subarray(0, GPT_HEADER_SIZE));
    new DataView(sector.buffer).setUint32(gpt_header.offsets.header_crc32, checksum, true);
    return sector;
  };
  writeAt(file, 0, protectiveMbr(lastLba));
  writeAt(file, sectorSize, header(1, lastLba, 2));
  writeAt(file, 2 * sectorSize, entries);
  writeAt(file, (lastLba - entrySectors) * sectorSize, entries);
  writeAt(file, lastLba * sectorSize, header(lastLba, 1, lastLba - entrySectors));
}

/** A boot record with one entry, 512 bytes whatever the sectors have; CHS fields as good as none. */
export function mbrSector(type: number, firstLba: number, sectors: number): Uint8Array {
  const sector = new Uint8Array(512);
  const view = new DataView(sector.buffer);
  view.setUint8(446 + 4, type);
  view.setUint32(446 + 8, firstLba, true);
  view.setUint32(446 + 12, sectors, true);
  sector.set([0x55, 0xaa], 510);
  return sector;
}

/** One entry of type 0xEE over the whole disk, so that older tools keep their hands off. */
function protectiveMbr(lastLba: number): Uint8Array {
  return mbrSector(0xee, 1, Math.min(lastLba, 0xffffffff));
}

/** Mixed-endian: the first three groups are stored little-endian. */
function guidBytes(guid: string): Uint8Array {
  const [a, b, c, ...rest] = guid.split("-");
  const reversed = [a, b, c].map((group) => group.match(/../g)!.reverse().join(""));
  return Uint8Array.from([...reversed, ...rest].join("").match(/../g)!, (hex) => parseInt(hex, 16));
}

function utf16(text: string): Uint8Array {
  return new Uint8Array(Uint16Array.from(text, (c) => c.charCodeAt(0)).buffer);
}
