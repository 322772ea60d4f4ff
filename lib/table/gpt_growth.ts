/**
 * Growing a partition of a GPT, and moving the backup to the end of a disk that has grown.
 *
 * The kernel reads the backup only if `gpt` is on its command line. So the primary must be whole at every
 * moment, and a primary is two things that a checksum ties together: a header of one sector, and an array
 * of entries. Neither can be replaced first. But the header says where the array is, and the backup has an
 * array, too:
 *
 * 1. the backup is written, with the new entries. The primary is as it was.
 * 2. the primary header is replaced by one that points to the backup's array: one sector.
 * 3. the primary's own array, which nobody reads now, is written.
 * 4. the primary header is replaced by one that points to it again: one sector.
 * 5. the protective MBR gets the new size, and the old backup's header is erased: a program that finds it
 *    would take it for the disk's.
 *
 * @module
 */
import { crc32 } from "../base/checksums.ts";
import {
  type Copy,
  gpt_entry,
  gpt_header,
  isUnused,
  isValid,
  PRIMARY_LBA,
  readCopy,
} from "./gpt.ts";
import {
  growthOf,
  newEnd,
  type Place,
  placeOf,
  type Refusal,
  roomBehind,
  type TableGrowth,
  type TableWrite,
} from "./growth.ts";
import { type BootRecord, EFI_GPT, readBootRecord, TABLE_OFFSET } from "./mbr.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

/** Where the parts of a table lie, in sectors. */
interface Layout {
  readonly lastLba: number;
  readonly lastUsable: number;
  /** The primary's array. */
  readonly home: number;
  /** The backup's array. */
  readonly backup: number;
  /** Of an array. */
  readonly sectors: number;
}

/** A table that is grown. */
interface Gpt extends Copy {
  readonly disk: SteppedDisk;
  readonly layout: Layout;
  /** The backup as it is, if it is valid and of the same disk. */
  readonly old?: Copy;
}

/**
 * What grows partition `number`, or without one the last one, on a disk that shall have `size` bytes. The
 * disk has a valid primary.
 */
export function* growGpt(
  disk: SteppedDisk,
  size: number,
  number?: number,
): Steps<TableGrowth | Refusal> {
  const primary = yield* readCopy(disk, PRIMARY_LBA);
  if (!isValid(primary)) return { code: "EUCLEAN", why: "its primary GPT is damaged" };
  const places = placesOf(primary);
  const place = placeOf(places, number);
  if ("why" in place) return place;
  const old = yield* readBackup(disk, primary);
  const home = yield* homeOf(disk, primary, places[0]);
  if (home === undefined) return { code: "EUCLEAN", why: HOMELESS };
  const lastLba = Math.floor(size / disk.sectorSize) - 1;
  const layout = layOut({ ...primary, home, places, old, lastLba }, disk.sectorSize);
  const gpt: Gpt = { ...primary, disk, layout, old };
  const beyond = places.find(({ end }) => end > layout.lastUsable + 1);
  if (beyond) {
    const why = `partition ${beyond.number} ends where the GPT's backup has to be: give the disk ` +
      `${(beyond.end + layout.sectors + 1) * disk.sectorSize} bytes`;
    return { code: "ENOSPC", why };
  }
  const others = places.filter((other) => other !== place);
  const room = roomBehind(place, others, layout.lastUsable + 1);
  if ("why" in room) return room;
  const end = newEnd(place, room, disk.sectorSize);
  if (typeof end !== "number") return end;
  return {
    kind: "gpt",
    partition: growthOf(place, end, disk.sectorSize),
    groups: yield* groupsOf(gpt, places, place, end),
  };
}

function* groupsOf(
  gpt: Gpt,
  places: readonly Place[],
  { number, end: oldEnd }: Place,
  end: number,
): Steps<TableWrite[][]> {
  const { disk, layout, header, old } = gpt;
  const entries = Uint8Array.from(gpt.entries);
  const at = (number - 1) * gpt_entry.size;
  gpt_entry.write(entries.subarray(at, at + gpt_entry.size), { ending_lba: BigInt(end - 1) });
  const isGrown = end !== oldEnd;
  const wasAway = Number(header.partition_entry_lba) !== layout.home;
  const moves = Number(header.alternate_lba) !== layout.lastLba;
  const isBackedUp = old !== undefined && !moves &&
    Number(old.header.partition_entry_lba) === layout.backup &&
    old.header.partition_entry_array_crc32 === crc32(entries);
  const groups: TableWrite[][] = [];
  if (wasAway) {
    // A growth was cut between its steps 2 and 4.
    groups.push(
      [yield* arrayAt(disk, layout.home, gpt.entries, "the primary entries")],
      [primaryHeader(gpt, gpt.entries, layout.home, header.alternate_lba, header.last_usable_lba)],
    );
  }
  if (!isBackedUp) {
    groups.push([
      yield* arrayAt(disk, layout.backup, entries, "the backup's entries"),
      backupHeader(gpt, entries),
    ]);
  }
  if (isGrown) {
    const first = Math.floor(at / disk.sectorSize) * disk.sectorSize;
    const array = yield* arrayAt(disk, layout.home, entries, `the entry of partition ${number}`);
    const length = disk.sectorSize;
    groups.push(
      [primaryHeader(gpt, entries, layout.backup)],
      [{ ...array, offset: array.offset + first, bytes: array.bytes.slice(first, first + length) }],
    );
  }
  if (isGrown || moves) groups.push([primaryHeader(gpt, entries, layout.home)]);
  const last = [
    ...yield* protectiveMbr(disk, layout.lastLba),
    ...oldHeader(gpt, places),
  ];
  if (last.length > 0) groups.push(last);
  return groups;
}

function placesOf({ entries }: Copy): Place[] {
  const places: Place[] = [];
  for (let at = 0; at < entries.length; at += gpt_entry.size) {
    const raw = entries.subarray(at, at + gpt_entry.size);
    if (isUnused(raw)) continue;
    const entry = gpt_entry.decode(raw);
    const [first, end] = [Number(entry.starting_lba), Number(entry.ending_lba) + 1];
    if (first < end) places.push({ number: at / gpt_entry.size + 1, first, end });
  }
  return places;
}

/** The backup that the primary points to, if it is of the same disk. */
function* readBackup(disk: SteppedDisk, { header }: Copy): Steps<Copy | undefined> {
  const backup = yield* readCopy(disk, Number(header.alternate_lba));
  if (!isValid(backup)) return undefined;
  return String(backup.header.disk_guid) === String(header.disk_guid) &&
      backup.header.num_partition_entries === header.num_partition_entries
    ? backup
    : undefined;
}

/** Of the disk before the first partition, so much is searched for the primary's array: bytes. */
const MOST_BEFORE = 32 * 1024 * 1024;
/** The first bytes of an entry: the type, and the partition's own GUID. */
const IDENTITY = gpt_entry.offsets.starting_lba;

const HOMELESS = "the entries of its GPT do not lie before its first partition: move them " +
  "(sgdisk --move-main-table=SECTOR) to where nothing else lies, which is sector 2 on most disks";

/**
 * Where the primary's own array lies. A growth that was cut between its steps 2 and 4 has left a header that
 * points to the backup's array. The own one is not at sector 2 if a boot loader lies there: it is the last
 * one before the partitions that has the `first` entry.
 */
function* homeOf(
  { sectorSize, read }: SteppedDisk,
  { header, entries }: Copy,
  first: Place,
): Steps<number | undefined> {
  const sectors = Math.ceil(entries.length / sectorSize);
  const [array, firstUsable] = [header.partition_entry_lba, header.first_usable_lba].map(Number);
  if (array < firstUsable) return array + sectors <= firstUsable ? array : undefined;
  const begin = PRIMARY_LBA + 1;
  const length = (firstUsable - begin) * sectorSize;
  if (length <= 0 || length > MOST_BEFORE) return undefined;
  const before = yield* read(begin * sectorSize, length);
  const at = (first.number - 1) * gpt_entry.size;
  const identity = entries.subarray(at, at + IDENTITY);
  for (let lba = firstUsable - sectors; lba >= begin; lba--) {
    const from = (lba - begin) * sectorSize + at;
    if (identity.every((byte, i) => before[from + i] === byte)) return lba;
  }
}

/** What says where the parts of a table shall lie. */
interface Parts extends Copy, Pick<Layout, "home" | "lastLba"> {
  readonly places: readonly Place[];
  readonly old?: Copy;
}

function layOut(
  { header, entries, home, places, old, lastLba }: Parts,
  sectorSize: number,
): Layout {
  const sectors = Math.ceil(entries.length / sectorSize);
  const isAtEnd = Number(header.alternate_lba) === lastLba;
  const own = isAtEnd && old ? Number(old.header.partition_entry_lba) : 0;
  const used = places.reduce((most, { end }) => Math.max(most, end), home + sectors);
  const backup = own >= used && own + sectors <= lastLba ? own : lastLba - sectors;
  const lastUsable = isAtEnd ? Math.min(Number(header.last_usable_lba), backup - 1) : backup - 1;
  return { lastLba, lastUsable, home, backup, sectors };
}

/** An array in whole sectors. What lies behind its last entry, in the same sector, stays. */
function* arrayAt(
  { sectorSize, ...disk }: SteppedDisk,
  lba: number,
  entries: Uint8Array,
  what: string,
): Steps<TableWrite> {
  const bytes = new Uint8Array(Math.ceil(entries.length / sectorSize) * sectorSize);
  const offset = lba * sectorSize;
  if (offset < disk.size) bytes.set(yield* disk.read(offset, bytes.length));
  bytes.set(entries);
  return { offset, bytes, what };
}

type Header = Copy["header"];

function headerAt(
  sector: Uint8Array,
  sectorSize: number,
  fields: Partial<Header> & Pick<Header, "my_lba" | "header_size">,
  what: string,
): TableWrite {
  const bytes = Uint8Array.from(sector);
  gpt_header.write(bytes, { ...fields, header_crc32: 0 });
  gpt_header.write(bytes, { header_crc32: crc32(bytes.subarray(0, fields.header_size)) });
  return { offset: Number(fields.my_lba) * sectorSize, bytes, what };
}

/** The primary header as it is, with other entries, in an array that may be the backup's. */
function primaryHeader(
  { header, sector, disk, layout }: Gpt,
  entries: Uint8Array,
  array: number,
  alternate_lba = BigInt(layout.lastLba),
  last_usable_lba = BigInt(layout.lastUsable),
): TableWrite {
  const fields = {
    my_lba: header.my_lba,
    header_size: header.header_size,
    alternate_lba,
    last_usable_lba,
    partition_entry_lba: BigInt(array),
    partition_entry_array_crc32: crc32(entries),
  };
  const of = array === layout.home ? "" : ", of the backup's entries";
  return headerAt(sector, disk.sectorSize, fields, `the primary header${of}`);
}

/** The backup's header. Made of the old one, whose reserved bytes stay, or else of the primary's. */
function backupHeader({ header, sector, disk, layout, old }: Gpt, entries: Uint8Array): TableWrite {
  const fields = {
    my_lba: BigInt(layout.lastLba),
    header_size: (old?.header ?? header).header_size,
    alternate_lba: BigInt(PRIMARY_LBA),
    last_usable_lba: BigInt(layout.lastUsable),
    partition_entry_lba: BigInt(layout.backup),
    partition_entry_array_crc32: crc32(entries),
  };
  return headerAt(old?.sector ?? sector, disk.sectorSize, fields, "the backup's header");
}

/** A protective MBR covers the disk. A hybrid one has other partitions, too, and stays as it is. */
function* protectiveMbr(disk: SteppedDisk, lastLba: number): Steps<TableWrite[]> {
  const record: BootRecord | undefined = yield* readBootRecord(disk);
  const used = record?.entries.map(({ sys_ind }, slot) => ({ sys_ind, slot }))
    .filter(({ sys_ind }) => sys_ind !== 0);
  if (!record || used?.length !== 1 || used[0].sys_ind !== EFI_GPT) return [];
  const [{ slot }] = used;
  const nr_sects = Math.min(lastLba, 0xffffffff);
  if (record.entries[slot].nr_sects === nr_sects) return [];
  const bytes = Uint8Array.from(yield* disk.read(0, disk.sectorSize));
  new DataView(bytes.buffer).setUint32(TABLE_OFFSET + 16 * slot + 12, nr_sects, true);
  return [{ offset: 0, bytes, what: "the protective MBR" }];
}

/** Erases the header of a backup that lay elsewhere, unless the table or a partition has its sector. */
function oldHeader({ header, old, disk, layout }: Gpt, places: readonly Place[]): TableWrite[] {
  const lba = Number(old?.header.my_lba ?? 0);
  const isFree = lba >= Number(header.first_usable_lba) && lba < layout.backup &&
    !places.some(({ first, end }) => first <= lba && lba < end);
  if (!isFree) return [];
  const bytes = new Uint8Array(disk.sectorSize);
  return [{ offset: lba * disk.sectorSize, bytes, what: "the old backup's header, erased" }];
}
