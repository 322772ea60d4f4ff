/** Disk images with GPTs of any sector size, one header at a time, wherever one can be. */
import type { Image, PartitionTable } from "../../lib/table/disk.ts";
import { encodeHeader, ENTRY, ENTRY_BYTES, guidBytes, nameBytes, put } from "./gpt.ts";
import { putEntries } from "./mbr.ts";

const LINUX = guidBytes("0fc63daf-8483-4772-8e79-3d69d8477de4");

/** A header to be, and its one partition, whose name and UUID tell it from others. */
export interface Copy {
  readonly sectorSize: number;
  readonly header: "primary" | "backup";
  /** Tells this table from others: the first byte of its UUIDs, and its partition's name. */
  readonly mark?: number;
  /** Where its array of four entries is; by default in nobody's way. */
  readonly entriesAt?: number;
}

/** Room for the arrays of all headers, in whole sectors of every size. */
const ENTRIES_AT = 64 * 1024;
const ARRAY = 4096;
const ENTRIES = 4;
/** Where partitions are; bytes. */
export const START = 1024 * 1024;
const LENGTH = 64 * 1024;

/** An image with a protective MBR and these headers. */
export function gptImage(copies: readonly Copy[], size = 2 * 1024 * 1024): Uint8Array {
  const image = new Uint8Array(size);
  putEntries(image, [{ type: 0xee, start: 1, count: size / 512 - 1 }]);
  for (const copy of copies) putCopy(image, copy);
  return image;
}

/** Writes one header with its entries; what else is there stays. */
export function putCopy(image: Uint8Array, { sectorSize, header, mark = 1, entriesAt }: Copy) {
  const lastLba = Math.floor(image.length / sectorSize) - 1;
  const [lba, alternate] = header === "primary" ? [1, lastLba] : [lastLba, 1];
  const place = 2 * Math.log2(sectorSize / 512) + (header === "primary" ? 0 : 1);
  const at = entriesAt ?? ENTRIES_AT + ARRAY * place;
  const entries = new Uint8Array(ENTRIES * ENTRY_BYTES);
  put(entries, ENTRY, {
    partition_type_guid: LINUX,
    unique_partition_guid: new Uint8Array(16).fill(mark),
    starting_lba: BigInt(START / sectorSize),
    ending_lba: BigInt((START + LENGTH) / sectorSize - 1),
    partition_name: nameBytes(`table ${mark}`),
  });
  const sector = encodeHeader({
    my_lba: BigInt(lba),
    alternate_lba: BigInt(alternate),
    first_usable_lba: BigInt(START / sectorSize),
    last_usable_lba: BigInt(Math.floor((image.length - START / 2) / sectorSize)),
    disk_guid: new Uint8Array(16).fill(mark),
    partition_entry_lba: BigInt(at / sectorSize),
  }, entries);
  image.set(entries, at);
  image.set(sector, lba * sectorSize);
}

/** A reader that remembers what was asked of it. */
export function reader(bytes: Uint8Array): Image & { readonly reads: [number, number][] } {
  const reads: [number, number][] = [];
  return {
    size: bytes.length,
    reads,
    read(offset, length) {
      reads.push([offset, length]);
      return bytes.subarray(offset, offset + length);
    },
  };
}

/** "4096 primary 'table 1'": what was found. */
export function summary({ kind, sectorSize, header, partitions }: PartitionTable): string {
  return [sectorSize, header ?? kind, ...partitions.map(({ name, type }) => name ?? type)].join(
    " ",
  );
}
