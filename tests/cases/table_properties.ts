/**
 * What must hold of the partitions that are read from any table whatsoever, and what reading them
 * may cost.
 *
 * @module
 */
import { SECTOR_SIZES } from "../../lib/table/sectors.ts";
import type { PartitionTable, TablePartition } from "../../lib/table/disk.ts";
import { type Disk, readPartitionTable } from "./read_table.ts";
import { findTable } from "../../lib/table/sector_size.ts";
import type { TableCase } from "./table_cases.ts";

/** DISK_MAX_PARTS − 1. */
const MOST_PARTITIONS = 255;
/** Each of the 251 logical partitions and 4 chains has a record, and 100 empty ones after it. */
const MOST_RECORDS = MOST_PARTITIONS * (1 + 100);
/** The disk's beginning is read once; a GPT's headers and arrays, of all sizes, are less than this. */
export const MOST_READS = 1 + MOST_RECORDS;
/** The largest entry array that is read, as the kernel allocates none beyond. */
export const LONGEST_READ = 4 * 1024 * 1024;
/** A chain; or, where each sector size has a primary header, those and what confirms them. */
export const MOST_BYTES = Math.max(
  512 * MOST_READS,
  3 * SECTOR_SIZES.length * (4096 + LONGEST_READ),
);
/** Per table; what takes longer hangs, or makes its caller wait as if it did. */
export const MOST_MILLISECONDS = 5000;

const GUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const MBR_TYPE = /^0x[0-9a-f]{1,4}$/;
/** A slice within a partition has none, and neither has a disk whose identifier is 0. */
const MBR_UUID = /^((?!00000000)[0-9a-f]{8}-[0-9a-f]{2})?$/;
/** How types and UUIDs look; of the other kinds, whose types are anything, there is no UUID. */
const FORMS: Readonly<Record<string, { type?: RegExp; uuid: RegExp }>> = {
  gpt: { type: GUID, uuid: GUID },
  mbr: { type: MBR_TYPE, uuid: MBR_UUID },
};
/** UTF-16 units of a GPT's partition name. */
const LONGEST_NAME = 36;

class ReadFailure extends Error {}
class BoundExceeded extends Error {}

/** A disk that counts what is read from it, and fails as the case says. */
class CountedDisk implements Disk {
  readonly size: number;
  readonly sectorSize: number;
  reads = 0;
  bytes = 0;
  failure: ReadFailure | undefined;

  readonly table: TableCase;

  constructor(table: TableCase) {
    this.table = table;
    // The kernel knows nothing of a rest below 512 bytes.
    this.size = table.disk.size - table.disk.size % 512;
    this.sectorSize = table.disk.sectorSize;
  }

  read(offset: number, length: number): Uint8Array {
    const number = this.reads++;
    this.bytes += length;
    if (this.reads > MOST_READS) throw new BoundExceeded(`more than ${MOST_READS} reads`);
    if (this.bytes > MOST_BYTES) throw new BoundExceeded(`more than ${MOST_BYTES} bytes read`);
    if (!(length >= 0 && length <= LONGEST_READ)) {
      throw new BoundExceeded(`${length} bytes in one read`);
    }
    if (!(Number.isSafeInteger(offset) && offset >= 0 && offset + length <= this.size)) {
      throw new BoundExceeded(`a read of ${length} bytes at ${offset} of ${this.size}`);
    }
    const { disk, fault } = this.table;
    if (fault?.read === number && fault.kind === "throws") throw this.failure = new ReadFailure();
    const bytes = disk.read(offset, length);
    return fault?.read === number ? bytes.subarray(0, bytes.length >> 1) : bytes;
  }
}

/** What came of one table. */
export interface Outcome {
  readonly partitions: readonly TablePartition[];
  readonly violations: readonly string[];
  readonly reads: number;
  readonly bytes: number;
  readonly milliseconds: number;
}

/** Reads one table, and says what was wrong with that. */
export function tryTable(table: TableCase): Outcome {
  const disk = new CountedDisk(table);
  const violations: string[] = [];
  let found: PartitionTable | undefined;
  let thrown: unknown;
  const start = performance.now();
  try {
    found = findTable(readerOf(disk), disk.sectorSize);
  } catch (error) {
    thrown = error;
    if (error !== disk.failure) violations.push(`threw ${error}`);
  }
  const milliseconds = performance.now() - start;
  // A failing read must not pass for "no table".
  if (disk.failure && !thrown) violations.push("swallowed the reader's error");
  if (milliseconds > MOST_MILLISECONDS) violations.push(`took ${milliseconds} ms`);
  const own = ownTable(found, disk);
  const partitions = own?.partitions ?? [];
  if (own) violations.push(...wrong(own, disk));
  if (found && !table.fault) violations.push(...wronglyFound(found, table.disk));
  return { partitions, violations, reads: disk.reads, bytes: disk.bytes, milliseconds };
}

const readerOf = (disk: Disk) => ({
  size: disk.size,
  read: (offset: number, length: number) => disk.read(offset, length),
});

/** The table, if it is one for the disk's sectors and not for others. */
function ownTable(found: PartitionTable | undefined, { sectorSize }: Disk) {
  return found?.sectorSize === sectorSize ? found : undefined;
}

/** What is wrong with the choice of this table, and with that for `"auto"`. */
function wronglyFound(found: PartitionTable, whole: Disk): string[] {
  const size = whole.size - whole.size % 512;
  const { sectorSize: own } = whole;
  const image = { size, read: (at: number, length: number) => whole.read(at, length) };
  if (found.kind !== "gpt") return found.sectorSize === own ? [] : ["chose a size for no GPT"];
  const auto = findTable(image, "auto");
  const tables = SECTOR_SIZES.flatMap((sectorSize) =>
    (["primary", "backup"] as const).map((header) =>
      readPartitionTable({ ...image, sectorSize }, header)
    )
  ).filter(({ header }) => header !== undefined);
  const primary = tables.filter(({ header }) => header === "primary");
  const wrongs: string[] = [];
  for (const [wanted, chosen] of [[own, found], ["auto", auto]] as const) {
    const is = (table: PartitionTable) => JSON.stringify(table) === JSON.stringify(chosen);
    const complain = (what: string) => wrongs.push(`${wanted}: ${what}`);
    if (tables.length > 0 ? !tables.some(is) : chosen.header) complain("no such table");
    if (primary.length > 0 && chosen.header !== "primary") complain("a backup beats a primary");
    if (primary.some(({ sectorSize }) => sectorSize === wanted) && chosen.sectorSize !== wanted) {
      complain(`chose ${chosen.sectorSize}`);
    }
  }
  return wrongs;
}

/** GPT and MBR count in the disk's sectors; the slices within an MBR's partition, and the rest, do not. */
function unitOf(
  kind: PartitionTable["kind"],
  { number, uuid }: TablePartition,
  disk: Disk,
): number {
  const isOfMbr = kind === "mbr" && (number < 5 || uuid !== undefined);
  return kind === "gpt" || isOfMbr ? disk.sectorSize : 512;
}

/** What is wrong with the partitions of that disk's table. */
function wrong({ kind, partitions }: PartitionTable, disk: Disk): string[] {
  const found: string[] = [];
  if (partitions.length > MOST_PARTITIONS) found.push(`${partitions.length} partitions`);
  let before = 0;
  for (const partition of partitions) {
    const { number, start, size, type = "", uuid = "", name } = partition;
    const unit = unitOf(kind, partition, disk);
    const complain = (what: string) => found.push(`partition ${number}: ${what}`);
    if (!Number.isInteger(number) || number > MOST_PARTITIONS) complain("no such number");
    if (number <= before) complain(`comes after partition ${before}`);
    before = number;
    if (!Number.isSafeInteger(start) || start < 0) complain(`begins at ${start}`);
    if (!Number.isSafeInteger(size) || size <= 0) complain(`has ${size} bytes`);
    if (start % unit !== 0) complain(`begins within a sector, at ${start}`);
    if (size % unit !== 0) complain(`has no whole sectors but ${size} bytes`);
    if (start + size > disk.size) complain(`ends at ${start + size} of ${disk.size}`);
    const forms = FORMS[kind] ?? { uuid: /^$/ };
    if (forms.type?.test(type) === false) complain(`type ${type}`);
    if (!forms.uuid.test(uuid)) complain(`UUID ${uuid}`);
    if (name !== undefined && (name.length > LONGEST_NAME || name.includes("\0"))) {
      complain(`name ${JSON.stringify(name)}`);
    }
  }
  return found;
}
