/** Makes a small disk image with a GUID partition table, through the same libc calls as loopdev. */
import { O_CREAT, O_EXCL, O_RDWR, open, writeAt } from "../lib/file.ts";
import { crc32, gpt_entry, gpt_header, GPT_HEADER_SIZE } from "../lib/gpt.ts";

const SECTOR = 512;
const MIB = 1024 * 1024;
const ENTRIES = 128;
const ENTRY_SECTORS = ENTRIES * gpt_entry.size / SECTOR;

/** What a partition shall be: a name, a type GUID, whole MiB, and what is written at its beginning. */
export interface PartitionSpec {
  name: string;
  type: string;
  mib: number;
  content: string;
}

/** Creates `path`, which must not exist, and gives its size in bytes. */
export function makeImage(path: string, partitions: PartitionSpec[]): number {
  const size = (2 + partitions.reduce((sum, { mib }) => sum + mib, 0)) * MIB;
  const lastLba = size / SECTOR - 1;
  const entries = new Uint8Array(ENTRIES * gpt_entry.size);
  using file = open(path, O_RDWR | O_CREAT | O_EXCL, 0o600);

  let start = MIB;
  partitions.forEach(({ name, type, mib, content }, i) => {
    const entry = gpt_entry.encode({
      partition_type_guid: guidBytes(type),
      unique_partition_guid: guidBytes(crypto.randomUUID()),
      starting_lba: BigInt(start / SECTOR),
      ending_lba: BigInt((start + mib * MIB) / SECTOR - 1),
      partition_name: utf16(name),
    });
    entries.set(entry, i * gpt_entry.size);
    writeAt(file, start, new TextEncoder().encode(content));
    start += mib * MIB;
  });

  const disk_guid = guidBytes(crypto.randomUUID());
  const header = (my_lba: number, alternate_lba: number, partition_entry_lba: number) => {
    const encoded = gpt_header.encode({
      signature: new TextEncoder().encode("EFI PART"),
      revision: 0x10000,
      header_size: GPT_HEADER_SIZE,
      my_lba: BigInt(my_lba),
      alternate_lba: BigInt(alternate_lba),
      first_usable_lba: BigInt(2 + ENTRY_SECTORS),
      last_usable_lba: BigInt(lastLba - ENTRY_SECTORS - 1),
      disk_guid,
      partition_entry_lba: BigInt(partition_entry_lba),
      num_partition_entries: ENTRIES,
      sizeof_partition_entry: gpt_entry.size,
      partition_entry_array_crc32: crc32(entries),
    });
    const checksum = crc32(encoded.subarray(0, GPT_HEADER_SIZE));
    new DataView(encoded.buffer).setUint32(gpt_header.offsets.header_crc32, checksum, true);
    return encoded;
  };
  writeAt(file, 0, protectiveMbr(lastLba));
  writeAt(file, SECTOR, header(1, lastLba, 2));
  writeAt(file, 2 * SECTOR, entries);
  writeAt(file, (lastLba - ENTRY_SECTORS) * SECTOR, entries);
  // The last sector: what makes the file as long as it shall be.
  const backup = new Uint8Array(SECTOR);
  backup.set(header(lastLba, 1, lastLba - ENTRY_SECTORS));
  writeAt(file, lastLba * SECTOR, backup);
  return size;
}

/** One MS-DOS entry of type 0xEE over the whole disk, so that older tools keep their hands off. */
function protectiveMbr(lastLba: number): Uint8Array {
  const sector = new Uint8Array(SECTOR);
  sector.set([0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0], 446);
  new DataView(sector.buffer).setUint32(446 + 12, lastLba, true);
  sector.set([0x55, 0xaa], 510);
  return sector;
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
