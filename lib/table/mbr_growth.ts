/**
 * Growing a partition of an MBR: a primary, an extended, or a logical one, with the extended one around it.
 *
 * Each boot record is one sector, so each write leaves a whole table. An extended partition grows before the
 * logical one in it, which so is never larger than its container.
 *
 * The addresses by cylinder, head and sector, which no program reads any more, are those that sfdisk writes.
 *
 * @module
 */
import {
  growthOf,
  newEnd,
  type Place as AnyPlace,
  placeOf,
  type Refusal,
  roomBehind,
  type TableGrowth,
  type TableWrite,
} from "./growth.ts";
import {
  type BootRecord,
  extent,
  isExtended,
  readBootRecord,
  readChain,
  type Slot,
  TABLE_OFFSET,
} from "./mbr.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

/** A partition, and its entry. */
interface Place extends AnyPlace {
  readonly at: Slot;
  /** The extended partition around a logical one. */
  readonly container?: Place;
}

/** The partitions of a table, and the boot records in its extended ones, which are in the way, too. */
interface Places {
  readonly partitions: Place[];
  readonly records: AnyPlace[];
}

/** Entries have 32 bits for a start and for a size, in sectors. */
const MOST_SECTORS = 2 ** 32 - 1;

/** What grows partition `number`, or without one the last one, on a disk that shall have `size` bytes. */
export function* growMbr(
  disk: SteppedDisk,
  size: number,
  number?: number,
): Steps<TableGrowth | Refusal> {
  const record = yield* readBootRecord(disk);
  if (!record) return { code: "EUCLEAN", why: "its MBR is gone" };
  const places = yield* placesOf(disk, record);
  const { partitions } = places;
  const holding = partitions.map(({ container }) => container);
  const place = placeOf(partitions, number, partitions.filter((one) => !holding.includes(one)));
  if ("why" in place) return place;
  if (place.container && place.at.slot >= 2) {
    const why =
      `partition ${place.number} cannot grow: its entry is the third or fourth of its boot ` +
      "record, which the kernel takes for garbage unless it fits into the record's link";
    return { code: "EOPNOTSUPP", why };
  }
  const sectors = Math.floor(size / disk.sectorSize);
  if (place.end > sectors) {
    const why = `partition ${place.number} ends beyond the disk: give it ` +
      `${place.end * disk.sectorSize} bytes`;
    return { code: "EINVAL", why };
  }
  const limit = Math.min(sectors, Math.max(place.end, lastEnd(place)));
  const end = endOf(place, places, limit, disk.sectorSize);
  if (typeof end !== "number") return end;
  const { container } = place;
  const groups: TableWrite[][] = [];
  if (container && end > Math.max(place.end, container.end)) {
    groups.push([yield* resized(disk, container, end)]);
  }
  if (end > place.end) groups.push([yield* resized(disk, place, end)]);
  return {
    kind: "mbr",
    partition: growthOf(place, end, disk.sectorSize),
    groups,
  };
}

/**
 * Up to where a partition may grow: programs look for no sector behind the one that 32 bits can say. One that
 * ends behind it already stays as it is.
 */
function lastEnd({ first, container }: Place): number {
  return Math.min(MOST_SECTORS + 1, MOST_SECTORS + (container?.first ?? first));
}

function* placesOf(disk: SteppedDisk, { entries }: BootRecord): Steps<Places> {
  const sectors = (bytes: number) => bytes / disk.sectorSize;
  const [partitions, records]: [Place[], AnyPlace[]] = [[], []];
  let next = 5;
  for (const [slot, entry] of entries.entries()) {
    const { start_sect: first, nr_sects } = entry;
    // Of type 0, too: the kernel shows it, and it may have data.
    if (nr_sects === 0) continue;
    const at = { record: 0, slot };
    const primary: Place = { number: slot + 1, first, end: first + nr_sects, at };
    partitions.push(primary);
    if (!isExtended(entry)) continue;
    const [start, size] = extent(disk, entry);
    const seen: number[] = [];
    next = yield* readChain(disk, { start, size }, next, (number, start, size, _, at) => {
      const [first, end] = [sectors(start), sectors(start + size)];
      partitions.push({ number, first, end, at, container: primary });
    }, (record) => seen.push(record));
    for (const record of seen) {
      const { number } = partitions.find(({ at }) => at.record === record) ?? primary;
      records.push({ number, first: sectors(record), end: sectors(record) + 1 });
    }
  }
  return { partitions, records };
}

/** The new end of a partition, in sectors. */
function endOf(
  place: Place,
  { partitions, records }: Places,
  limit: number,
  sectorSize: number,
): number | Refusal {
  const { container = place } = place;
  const outside = partitions.filter((one) => !one.container && one !== container);
  const around = roomBehind(container, outside, limit);
  if (place === container) return "why" in around ? around : newEnd(place, around, sectorSize);
  const inside = partitions.filter((one) => one.container === container && one !== place);
  const free = "why" in around ? container.end : around.free;
  const room = roomBehind(place, [...inside, ...records], free);
  if ("why" in room) return room;
  // Where nothing of its container is in its way, what lies behind the container may be.
  const next = room.next ?? ("why" in around ? undefined : around.next);
  const end = newEnd(place, { ...room, next }, sectorSize);
  return end === place.end && "why" in around ? around : end;
}

/** The boot record with an entry of a new size. */
function* resized(
  disk: SteppedDisk,
  { at, first, end: from }: Place,
  end: number,
): Steps<TableWrite> {
  const bytes = Uint8Array.from(yield* disk.read(at.record, disk.sectorSize));
  const view = new DataView(bytes.buffer);
  const entry = TABLE_OFFSET + 16 * at.slot;
  const nr_sects = view.getUint32(entry + 12, true);
  view.setUint32(entry + 12, nr_sects + end - from, true);
  bytes.set(chs(first), entry + 1);
  bytes.set(chs(end - 1), entry + 5);
  const what = at.record === 0
    ? `entry ${at.slot + 1} of the MBR`
    : `the extended boot record at ${at.record}`;
  return { offset: at.record, bytes, what };
}

/** What sfdisk counts with, whatever the table was made with. */
const [HEADS, SECTORS, CYLINDERS] = [255, 63, 1024];

/** The address of a sector by head, sector and cylinder; that of the last one if it is beyond. */
function chs(lba: number): [head: number, sector: number, cylinder: number] {
  const at = Math.min(lba, HEADS * SECTORS * CYLINDERS - 1);
  const [sector, track] = [at % SECTORS + 1, Math.floor(at / SECTORS)];
  const [head, cylinder] = [track % HEADS, Math.floor(track / HEADS)];
  return [head, sector | cylinder >> 2 & 0xc0, cylinder & 0xff];
}
