/**
 * Writes GUID partition tables.
 *
 * @module
 */
import { checkByteCount, checkNames, checkText, checkWholeNumber, show } from "../base/checks.ts";
import { crc32 } from "../base/checksums.ts";
import { gpt_entry, gpt_header, GPT_HEADER_SIZE } from "./gpt.ts";
import { checkSectorSize } from "./sectors.ts";

const ENTRIES = 128;
const NAME_UNITS = 36;
const KEYS = ["number", "start", "size", "type", "name"];
/** The type of an unused entry. */
const UNUSED = "00000000-0000-0000-0000-000000000000";
const GUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/**
 * A partition to write; bytes, in whole sectors.
 *
 * @example
 * ```ts
 * import { type NewPartition } from "@loopdev/loopdev/gpt";
 * const type = "0fc63daf-8483-4772-8e79-3d69d8477de4";
 * const root: NewPartition = { start: 2 ** 20, size: 8 * 2 ** 20, type, name: "root" };
 * ```
 */
export interface NewPartition {
  /** From 1 to 128. Default: its place in the list. */
  readonly number?: number;
  /** Where it begins on the disk, in bytes. */
  readonly start: number;
  /** Bytes. */
  readonly size: number;
  /** Type GUID: `"0fc63daf-8483-4772-8e79-3d69d8477de4"`; not the zero GUID, which means unused. */
  readonly type: string;
  /** GPT partition name, at most 36 UTF-16 units: 36 letters, or 18 emoji. Default: none. */
  readonly name?: string;
}

/**
 * Bytes to write to an image.
 *
 * @example
 * ```ts
 * import { encodeGpt, type Piece } from "@loopdev/loopdev/gpt";
 * const [mbr]: Piece[] = encodeGpt(2 ** 20, []);
 * console.log(mbr.offset, mbr.bytes.length); // 0 512
 * ```
 */
export interface Piece {
  /** Where to write them, in bytes. */
  readonly offset: number;
  /** What to write there. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * A GUID partition table for an image of `size` bytes, as pieces to be written to it: protective MBR, table
 * and backup. Disk and partitions get new UUIDs.
 *
 * Throws TypeError or RangeError for partitions that overlap or do not fit into the disk, for a name
 * that is too long, and for an unknown key.
 *
 * @param options `sectorSize`: of the disk, in bytes: 512 (the default), 1024, 2048 or 4096.
 *
 * @example
 * ```ts
 * import { encodeGpt } from "@loopdev/loopdev/gpt";
 * import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
 * const [size, MiB] = [16 * 2 ** 20, 2 ** 20];
 * const type = "0fc63daf-8483-4772-8e79-3d69d8477de4"; // Linux
 * const fd = openSync("/tmp/loopdev-example.img", "w+");
 * ftruncateSync(fd, size);
 * for (const { offset, bytes } of encodeGpt(size, [{ start: MiB, size: 8 * MiB, type }])) {
 *   writeSync(fd, bytes, 0, bytes.length, offset);
 * }
 * closeSync(fd);
 * ```
 */
export function encodeGpt(
  size: number,
  partitions: readonly NewPartition[],
  options: { sectorSize?: number } = {},
): Piece[] {
  checkNames(options, ["sectorSize"]);
  const { sectorSize = 512 } = options;
  checkSectorSize(sectorSize);
  checkInSectors("size", size, sectorSize);
  const lastLba = size / sectorSize - 1;
  const entrySectors = ENTRIES * gpt_entry.size / sectorSize;
  const [firstUsable, lastUsable] = [2 + entrySectors, lastLba - entrySectors - 1];
  if (lastUsable < firstUsable) {
    const least = (2 * entrySectors + 4) * sectorSize;
    throw new RangeError(`size ${size} leaves no room for a partition; a GPT needs ${least} bytes`);
  }
  const numbered = numberEach(partitions);
  checkPartitions(numbered, sectorSize, firstUsable * sectorSize, (lastUsable + 1) * sectorSize);

  const entries = entriesOf(numbered, sectorSize);
  const disk_guid = guidBytes(crypto.randomUUID());
  const header = (my_lba: number, alternate_lba: number, partition_entry_lba: number) => {
    const sector = new Uint8Array(sectorSize);
    sector.set(gpt_header.encode({
      signature: new TextEncoder().encode("EFI PART"),
      revision: 0x10000,
      header_size: GPT_HEADER_SIZE,
      my_lba: BigInt(my_lba),
      alternate_lba: BigInt(alternate_lba),
      first_usable_lba: BigInt(firstUsable),
      last_usable_lba: BigInt(lastUsable),
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
  const pieces: [lba: number, bytes: Uint8Array<ArrayBuffer>][] = [
    // The protective MBR: to tools that know no GPT the disk is full.
    [0, mbrSector(0xee, 1, Math.min(lastLba, 0xffffffff))],
    [1, header(1, lastLba, 2)],
    [2, entries],
    [lastUsable + 1, entries],
    [lastLba, header(lastLba, 1, lastUsable + 1)],
  ];
  return pieces.map(([lba, bytes]) => ({ offset: lba * sectorSize, bytes }));
}

type Numbered = NewPartition & { number: number; name: string };

function numberEach(partitions: readonly NewPartition[]): Numbered[] {
  if (!Array.isArray(partitions)) {
    throw new TypeError(`partitions must be an array, not ${show(partitions)}`);
  }
  return partitions.map((partition: NewPartition, i) => {
    checkNames(partition, KEYS, "a partition");
    const { number = i + 1, name = "" } = partition;
    return { ...partition, number, name };
  });
}

function entriesOf(partitions: readonly Numbered[], sectorSize: number): Uint8Array<ArrayBuffer> {
  const entries = new Uint8Array(ENTRIES * gpt_entry.size);
  for (const { number, start, size, type, name } of partitions) {
    const entry = gpt_entry.encode({
      partition_type_guid: guidBytes(type),
      unique_partition_guid: guidBytes(crypto.randomUUID()),
      starting_lba: BigInt(start / sectorSize),
      ending_lba: BigInt((start + size) / sectorSize - 1),
      partition_name: utf16(name),
    });
    entries.set(entry, (number - 1) * gpt_entry.size);
  }
  return entries;
}

function checkInSectors(what: string, bytes: unknown, sectorSize: number): void {
  checkByteCount(what, bytes);
  if (bytes as number % sectorSize === 0) return;
  throw new RangeError(`${what} ${bytes} is no whole number of ${sectorSize}-byte sectors`);
}

function checkPartitions(
  partitions: readonly Required<NewPartition>[],
  sectorSize: number,
  first: number,
  end: number,
): void {
  for (const { number, start, size, type, name } of partitions) {
    checkWholeNumber("number", number, 1, ENTRIES);
    checkInSectors("start", start, sectorSize);
    checkInSectors("size", size, sectorSize);
    if (size === 0 || start < first || start + size > end) {
      const range = `start ${start} and size ${size}`;
      throw new RangeError(
        `partition ${number} has ${range}; this disk has room from ${first} to ${end}`,
      );
    }
    if (typeof type !== "string" || !GUID.test(type)) {
      throw new TypeError(`type must be a GUID, not ${show(type)}`);
    }
    if (type === UNUSED) throw new RangeError(`type ${type} means that a partition is not in use`);
    if (typeof name !== "string") throw new TypeError(`name must be a string, not ${show(name)}`);
    checkText("name", name);
    if (name.length > NAME_UNITS) {
      throw new RangeError(
        `name ${show(name)} has ${name.length} UTF-16 units; at most ${NAME_UNITS} fit`,
      );
    }
  }
  const inOrder = partitions.toSorted((a, b) => a.start - b.start);
  inOrder.slice(1).forEach(({ number, start }, i) => {
    const before = inOrder[i];
    if (before.start + before.size <= start) return;
    throw new RangeError(`partitions ${before.number} and ${number} overlap`);
  });
  if (new Set(partitions.map(({ number }) => number)).size === partitions.length) return;
  throw new RangeError("two partitions have the same number");
}

/** A boot record with one entry and empty CHS fields; 512 bytes, whatever the disk's sector size. */
export function mbrSector(
  type: number,
  firstLba: number,
  sectors: number,
): Uint8Array<ArrayBuffer> {
  const sector = new Uint8Array(512);
  const view = new DataView(sector.buffer);
  view.setUint8(446 + 4, type);
  view.setUint32(446 + 8, firstLba, true);
  view.setUint32(446 + 12, sectors, true);
  sector.set([0x55, 0xaa], 510);
  return sector;
}

/** Mixed-endian: the first three groups are little-endian. */
function guidBytes(guid: string): Uint8Array {
  const [a, b, c, ...rest] = guid.split("-");
  const reversed = [a, b, c].map((group) => group.match(/../g)!.reverse().join(""));
  return Uint8Array.from([...reversed, ...rest].join("").match(/../g)!, (hex) => parseInt(hex, 16));
}

function utf16(text: string): Uint8Array {
  // Not by an iterator, which gives two units at once for a character beyond the BMP.
  return new Uint8Array(
    Uint16Array.from({ length: text.length }, (_, i) => text.charCodeAt(i)).buffer,
  );
}
