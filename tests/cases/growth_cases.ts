/**
 * Disks with a partition table that got longer: what a growth begins with. A seed and a number give each
 * again. And what a disk can look like after its power was cut in the middle of a growth.
 *
 * @module
 */
import type { TableWrite } from "../../lib/table/growth.ts";
import { HEADER_BYTES } from "./gpt.ts";
import { layOut, writeBoth } from "./gpt_cases.ts";
import { ENTRIES_OFFSET, type MbrEntry, putEntries } from "./mbr.ts";
import { Random } from "./random.ts";
import { SparseDisk } from "./sparse_disk.ts";

/** A disk as it was, and the size that it shall have; bytes. */
export interface GrowthCase {
  readonly kind: "gpt" | "mbr";
  readonly disk: SparseDisk;
  readonly size: number;
}

/** One of the seed's disks. `foreign`: bytes where a table has none, which are to stay. */
export function makeGrowthCase(seed: number, number: number, foreign = false): GrowthCase {
  const random = new Random(seed, number);
  const sectorSize = random.pick([512, 512, 512, 4096]);
  const sectors = random.between(700, 40_000);
  const disk = new SparseDisk(sectors * sectorSize, sectorSize);
  const kind = random.pick(["gpt", "mbr"] as const);
  if (kind === "gpt") writeGpt(random, disk, foreign);
  else writeMbr(random, disk);
  if (foreign) disk.write(0, random.bytes(ENTRIES_OFFSET - 6));
  const more = random.pick([
    0,
    random.between(1, 60),
    random.between(1, 8) * 8,
    random.between(60, 60_000),
  ]);
  return { kind, disk, size: disk.size + more * sectorSize };
}

function writeGpt(random: Random, disk: SparseDisk, foreign: boolean): void {
  const gpt = layOut(random, disk, random.pick([128, 128, random.between(1, 200)]));
  const { disk_guid } = gpt.primary;
  writeBoth(disk, { ...gpt, backup: { ...gpt.backup, disk_guid } });
  // By the UEFI specification; sfdisk writes them anew.
  disk.write(ENTRIES_OFFSET + 1, Uint8Array.of(0, 2, 0));
  disk.write(ENTRIES_OFFSET + 5, Uint8Array.of(0xff, 0xff, 0xff));
  if (!foreign) return;
  for (const lba of [1, disk.lastLba]) {
    const rest = random.bytes(disk.sectorSize - HEADER_BYTES);
    disk.write(lba * disk.sectorSize + HEADER_BYTES, rest);
  }
  if (random.oneIn(3)) makeHybrid(random, disk);
}

/** Other partitions beside the protective one, as for a Raspberry Pi. */
function makeHybrid(random: Random, disk: SparseDisk): void {
  const record = disk.read(0, 512);
  putEntries(record, [
    { type: 0xee, start: 1, count: random.between(33, 600) },
    { type: 0x0c, start: random.between(100, 600), count: random.between(1, 100) },
  ]);
  disk.write(0, record);
}

/** Sectors that are free: from `at` up to `end`. */
interface Free {
  at: number;
  readonly end: number;
}

/** In another order. Not by sort(): how often that compares is not the same each time. */
function shuffled<T>(random: Random, list: readonly T[]): T[] {
  const rest = [...list];
  return list.map(() => rest.splice(random.below(rest.length), 1)[0]);
}

/** A partition in what is free, or nothing. */
function take(random: Random, free: Free, gap = 0): { start: number; count: number } | undefined {
  const start = free.at + gap + random.pick([0, 0, random.below(40)]);
  const most = Math.floor((free.end - start) / 2);
  if (most < 8) return undefined;
  const count = random.between(8, most);
  free.at = start + count;
  return { start, count };
}

function writeMbr(random: Random, disk: SparseDisk): void {
  const slots: MbrEntry[] = Array.from({ length: 4 }, () => ({ type: 0, start: 0, count: 0 }));
  const order = shuffled(random, [0, 1, 2, 3]);
  const free: Free = { at: random.pick([1, 63, 128]), end: disk.lastLba };
  const used = random.between(1, 4);
  const extended = random.oneIn(2) ? order[random.below(used)] : undefined;
  for (const slot of order.slice(0, used)) {
    const place = take(random, free);
    if (!place) break;
    const isExtended = slot === extended;
    const type = isExtended ? random.pick([0x05, 0x0f, 0x85]) : random.pick([0x83, 0x07, 0x82]);
    slots[slot] = { type, boot: random.oneIn(5) ? 0x80 : 0, ...place };
    if (isExtended) writeChain(random, disk, place);
  }
  putRecord(disk, 0, slots, random.u32() || 1);
}

/** A chain of logical partitions, whose order need not be that of their places. */
function writeChain(
  random: Random,
  disk: SparseDisk,
  whole: { start: number; count: number },
): void {
  const end = whole.start + whole.count;
  const free: Free = { at: whole.start, end };
  const gap = random.pick([1, 8, 63]);
  const places: { record: number; start: number; count: number }[] = [];
  const most = random.pick([0, 1, 3, random.between(1, 50)]);
  while (places.length < most) {
    const record = free.at;
    const place = take(random, free, gap);
    if (!place) break;
    places.push({ record, ...place });
  }
  // The first record stands at the beginning of the extended partition.
  const [first, ...rest] = places;
  if (first === undefined) return putRecord(disk, whole.start, []);
  const chain = random.oneIn(5) ? [first, ...rest.reverse()] : places;
  chain.forEach(({ record, start, count }, i) => {
    const next = chain[i + 1];
    const link = next && {
      type: 0x05,
      start: next.record - whole.start,
      count: next.start + next.count - next.record,
    };
    const own = { type: 0x83, start: start - record, count };
    putRecord(disk, record, link ? [own, link] : [own]);
  });
}

function putRecord(disk: SparseDisk, lba: number, entries: readonly MbrEntry[], id = 0): void {
  const record = disk.read(lba * disk.sectorSize, 512);
  putEntries(record, entries, { id });
  disk.write(lba * disk.sectorSize, record);
}

/** The same bytes on a disk of `size` bytes. */
export function resized(disk: SparseDisk, size: number): SparseDisk {
  const other = new SparseDisk(size, disk.sectorSize);
  for (const { offset, bytes } of disk.written()) other.write(offset, bytes);
  return other;
}

/** A disk after some of the groups were written. */
export function written(disk: SparseDisk, groups: readonly (readonly TableWrite[])[]): SparseDisk {
  const other = resized(disk, disk.size);
  for (const { offset, bytes } of groups.flat()) other.write(offset, bytes);
  return other;
}

/**
 * What the disk can look like if its power is cut while group `n` is written: those before are there, and of
 * this one any of its sectors.
 */
export function cutDuring(
  random: Random,
  disk: SparseDisk,
  groups: readonly (readonly TableWrite[])[],
  n: number,
): SparseDisk {
  const { sectorSize } = disk;
  const other = written(disk, groups.slice(0, n));
  const share = random.between(0, 4);
  for (const { offset, bytes } of groups[n]) {
    for (let at = 0; at < bytes.length; at += sectorSize) {
      if (random.below(4) < share) other.write(offset + at, bytes.subarray(at, at + sectorSize));
    }
  }
  return other;
}
