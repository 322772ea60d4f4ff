/**
 * MS-DOS partition tables as strangers write them, and what can be wrong with a chain of extended
 * boot records.
 *
 * @module
 */
import { ENTRIES_OFFSET, type MbrEntry, putEntries } from "./mbr.ts";
import type { Random } from "./random.ts";
import { SparseDisk } from "./sparse_disk.ts";

const EXTENDED = [0x05, 0x0f, 0x85];
const TYPES = [0x83, 0x82, 0x07, 0x0c, 0xfd, 0x01, 0xef, 0x42, 0xff, ...EXTENDED];

/** Writes a boot record of up to four entries. */
export function putRecord(
  disk: SparseDisk,
  lba: number,
  entries: readonly MbrEntry[],
  signature?: number,
): void {
  const record = disk.read(lba * disk.sectorSize, 512);
  if (record.length < 512) return;
  putEntries(record, entries, { signature });
  disk.write(lba * disk.sectorSize, record);
}

export function mbrDisk(random: Random, sectors = diskSectors(random)): SparseDisk {
  const sectorSize = random.pick([512, 512, 4096]);
  return new SparseDisk(sectors * sectorSize, sectorSize);
}

function diskSectors(random: Random): number {
  return random.pick([
    random.between(1, 8),
    random.between(30, 400),
    random.between(400, 40_000),
    2 ** 32 + random.between(-3, 3),
    2 ** 33,
  ]);
}

const u32 = (n: number) => Math.max(0, Math.min(n, 0xffffffff));

function hostileU32(random: Random, disk: SparseDisk): number {
  return u32(random.pick([
    random.between(0, 3),
    random.between(0, 60),
    disk.lastLba + random.between(-2, 2),
    2 ** 31 + random.between(-1, 1),
    2 ** 32 - random.between(1, 3),
    random.u32(),
  ]));
}

function anyEntry(random: Random, disk: SparseDisk): MbrEntry {
  return {
    type: random.oneIn(20) ? random.below(256) : random.pick(TYPES),
    start: random.oneIn(2) ? random.between(0, 40) : hostileU32(random, disk),
    count: random.oneIn(2) ? random.between(0, 40) : hostileU32(random, disk),
    boot: random.pick([0, 0, 0, 0x80]),
  };
}

/** What one record of a chain holds, and where the next one is. */
export interface Link {
  /** Sectors from the extended partition's begin to this record. */
  readonly at: number;
  readonly logical?: MbrEntry;
  /** The next record; none in the last one. */
  readonly next?: number;
  readonly signature?: number;
}

/** Writes a table with one extended partition and its chain. */
export function writeChain(
  disk: SparseDisk,
  links: readonly Link[],
  { type = 0x05, begin = 10, count = 0 } = {},
): SparseDisk {
  const whole = u32(count || disk.lastLba + 1 - begin);
  putRecord(disk, 0, [
    { type: 0x83, start: 2, count: 4 },
    { type, start: begin, count: whole },
  ]);
  for (const { at, logical, next, signature } of links) {
    const link = next === undefined ? [] : [{ type, start: next, count: whole }];
    const first = logical ?? { type: 0, start: 0, count: 0 };
    putRecord(disk, begin + at, [first, ...link], signature);
  }
  return disk;
}

/** A chain that holds together: each record two sectors after the one before. */
export function sound(length: number, holds: (index: number) => boolean = () => true): Link[] {
  return Array.from({ length }, (_, i) => ({
    at: 2 * i,
    logical: holds(i) ? { type: 0x83, start: 1, count: 1 } : undefined,
    next: i + 1 < length ? 2 * (i + 1) : undefined,
  }));
}

type Bend = (random: Random, links: Link[], disk: SparseDisk) => Link[];

/** A chain of some length, after something was done to its links. */
const bent = (bend: Bend, least = 1, most = 12) => (random: Random): SparseDisk => {
  const length = random.between(least, most);
  const disk = mbrDisk(random, random.pick([10 + 2 * length, 1000 + 2 * length, 2 ** 32]));
  const holds = random.pick([() => true, () => false, () => random.oneIn(2)]);
  return writeChain(disk, bend(random, sound(length, holds), disk), {
    type: random.pick(EXTENDED),
    count: random.oneIn(4) ? random.between(1, 2 * length) : 0,
  });
};

const replaceOne = (change: (random: Random, link: Link, disk: SparseDisk) => Partial<Link>) =>
  bent((random, links, disk) => {
    const index = random.below(links.length);
    return links.map((link, i) => i === index ? { ...link, ...change(random, link, disk) } : link);
  });

/** Records at the first sectors that point at one another, or wherever they like. */
function graph(random: Random): SparseDisk {
  const disk = mbrDisk(random);
  const records = random.between(1, 24);
  for (let lba = 0; lba < records; lba++) {
    const entries = Array.from({ length: random.between(1, 4) }, () => {
      if (random.oneIn(3)) return anyEntry(random, disk);
      const type = random.pick([0x83, ...EXTENDED]);
      return { type, start: random.below(records), count: random.between(0, 60) };
    });
    putRecord(disk, lba, entries, random.oneIn(30) ? random.below(2 ** 16) : undefined);
  }
  return disk;
}

/** Partitions behind runs of empty records, about as many as the kernel follows. */
function gaps(random: Random): SparseDisk {
  const runs = [random.between(97, 102), random.between(97, 102)];
  const holding = new Set([runs[0], runs[0] + 1 + runs[1]]);
  return writeChain(mbrDisk(random, 2000), sound(220, (i) => holding.has(i)));
}

const primaries = (entry: (random: Random, disk: SparseDisk) => MbrEntry) => (random: Random) => {
  const disk = mbrDisk(random);
  putRecord(disk, 0, Array.from({ length: random.between(1, 4) }, () => entry(random, disk)));
  return disk;
};

/** Kinds of tables by name. */
export const MBR_KINDS: Readonly<Record<string, (random: Random) => SparseDisk>> = {
  "mbr": primaries((random, { lastLba }) => ({
    type: random.pick([0x83, 0x82, 0x07]),
    start: u32(random.below(lastLba + 1)),
    count: random.between(1, 99),
    boot: random.pick([0, 0x80]),
  })),
  "mbr, hostile entries": primaries(anyEntry),
  "mbr, boot indicators": primaries((random, disk) => ({
    ...anyEntry(random, disk),
    boot: random.oneIn(3) ? random.below(256) : 0,
  })),
  "mbr, overlapping": primaries((random) => ({
    type: random.pick([0x83, 0x05]),
    start: random.between(1, 5),
    count: random.between(1, 9),
  })),
  "mbr, zeros": primaries((random) => ({
    type: random.pick([0, 0x83, 0x05]),
    start: random.below(2),
    count: random.below(2),
  })),
  "mbr, chain": bent((_, links) => links),
  "mbr, long chain": bent((_, links) => links, 240, 300),
  "mbr, chain with gaps": gaps,
  "mbr, cyclic chain": bent((random, links) => {
    const last = links.length - 1;
    return links.with(last, { ...links[last], next: 2 * random.below(links.length) });
  }),
  "mbr, self-pointing chain": replaceOne((_, { at }) => ({ next: at })),
  "mbr, chain to the outside": replaceOne((random, _, disk) => ({
    next: hostileU32(random, disk),
  })),
  "mbr, hostile logical partition": replaceOne((random, _, disk) => ({
    logical: anyEntry(random, disk),
  })),
  "mbr, extended in extended": replaceOne((random, { next }) => ({
    logical: { type: random.pick(EXTENDED), start: next ?? 0, count: random.between(0, 99) },
  })),
  "mbr, bad signature in the chain": replaceOne((random) => ({
    signature: random.pick([0, 0x55aa, 0xaa54, random.below(2 ** 16)]),
  })),
  "mbr, graph of records": graph,
  "noise": (random) => {
    const disk = mbrDisk(random);
    const bytes = random.bytes(512);
    if (random.oneIn(2)) { for (let i = 0; i < 4; i++) bytes[ENTRIES_OFFSET + 16 * i] = 0; }
    bytes.set([0x55, 0xaa], 510);
    disk.write(0, bytes);
    return disk;
  },
};
