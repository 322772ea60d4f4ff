/**
 * Partition tables by the million: each is made by its number alone, so that a seed and a number
 * give it again.
 *
 * @module
 */
import { ENTRY, HEADER } from "./gpt.ts";
import {
  damage,
  fixChecksums,
  GPT_KINDS,
  gptDisk,
  hostileLba,
  layOut,
  writeBoth,
} from "./gpt_cases.ts";
import { LABEL_KINDS } from "./label_cases.ts";
import { ENTRIES_OFFSET } from "./mbr.ts";
import { MBR_KINDS } from "./mbr_cases.ts";
import { Random } from "./random.ts";
import type { SparseDisk } from "./sparse_disk.ts";

/** A disk with a table, and how it lets itself be read. */
export interface TableCase {
  readonly kind: string;
  readonly disk: SparseDisk;
  /** The read at which something happens, and what; by default nothing does. */
  readonly fault?: { readonly read: number; readonly kind: "short" | "throws" };
}

/** Offsets of fields, and how many bytes each has. */
type Fields = readonly (readonly [offset: number, bytes: number])[];

const HEADER_FIELDS: Fields = Object.values(HEADER);
const ENTRY_FIELDS: Fields = Object.values(ENTRY);
const MBR_FIELDS: Fields = [[0, 1], [4, 1], [8, 4], [12, 4]];

/** Overwrites one field with a number at which arithmetic goes wrong, or flips one of its bits. */
function spoilField(random: Random, disk: SparseDisk, base: number, fields: Fields): void {
  const [offset, length] = random.pick(fields);
  const at = base + offset;
  const bytes = disk.read(at, Math.min(length, 8));
  if (bytes.length === 0) return;
  if (random.oneIn(2)) bytes[random.below(bytes.length)] ^= 1 << random.below(8);
  else {
    const value = hostileLba(random, disk);
    bytes.forEach((_, i) => bytes[i] = Number(value >> BigInt(8 * i) & 0xffn));
  }
  disk.write(at, bytes);
}

/** Changes one thing on a disk, mostly where a table has its fields. */
function mutate(random: Random, disk: SparseDisk): void {
  const { sectorSize, lastLba } = disk;
  const block = () => random.oneIn(4) ? Math.max(0, lastLba) : random.between(0, 24);
  random.pick([
    () => spoilField(random, disk, sectorSize, HEADER_FIELDS),
    () => spoilField(random, disk, Math.max(0, lastLba) * sectorSize, HEADER_FIELDS),
    () => spoilField(random, disk, 2 * sectorSize + 128 * random.below(6), ENTRY_FIELDS),
    () => spoilField(random, disk, ENTRIES_OFFSET + 16 * random.below(4), MBR_FIELDS),
    () => {
      const record = random.between(0, 24) * sectorSize;
      spoilField(random, disk, record + ENTRIES_OFFSET + 16 * random.below(4), MBR_FIELDS);
    },
    () => disk.write(block() * sectorSize, disk.read(block() * sectorSize, sectorSize)),
    () => disk.write(block() * sectorSize + random.below(sectorSize), random.bytes(1)),
    () => disk.size = Math.max(512, disk.size - random.below(4) * sectorSize),
  ])();
}

const mutated = (make: (random: Random) => SparseDisk) => (random: Random): SparseDisk => {
  const disk = make(random);
  for (let n = random.between(1, 6); n > 0; n--) mutate(random, disk);
  if (random.oneIn(2)) {
    fixChecksums(disk, 1);
    if (disk.lastLba > 1) fixChecksums(disk, disk.lastLba);
  }
  return disk;
};

const anyMbr = (random: Random) => random.pick(Object.values(MBR_KINDS))(random);

function soundGpt(random: Random): SparseDisk {
  const disk = gptDisk(random);
  return writeBoth(disk, layOut(random, disk));
}

/** All kinds of tables by name. */
export const KINDS: Readonly<Record<string, (random: Random) => SparseDisk>> = {
  ...GPT_KINDS,
  "gpt, mutated": mutated((random) => random.pick(Object.values(GPT_KINDS))(random)),
  "gpt, mutated, primary damaged": mutated((random) => {
    const disk = soundGpt(random);
    damage(random, disk, 1);
    return disk;
  }),
  "gpt, disk of another size": (random) => {
    const disk = soundGpt(random);
    disk.size = Math.max(512, disk.size + random.between(-5, 5) * disk.sectorSize);
    return disk;
  },
  ...MBR_KINDS,
  ...LABEL_KINDS,
  "label, mutated": mutated((random) => random.pick(Object.values(LABEL_KINDS))(random)),
  "mbr, mutated": mutated(anyMbr),
  "mbr, tiny disk": (random) => {
    const disk = anyMbr(random);
    disk.size = random.pick([512, 1024, 4096, 8192, random.between(0, 20_000)]);
    return disk;
  },
};

const NAMES = Object.keys(KINDS);

/** Case `number` of a seed; kinds take turns. */
export function makeCase(seed: number, number: number): TableCase {
  const random = new Random(seed, number);
  const kind = NAMES[number % NAMES.length];
  const disk = KINDS[kind](random);
  if (random.oneIn(8)) disk.size += random.below(disk.sectorSize);
  if (!random.oneIn(10)) return { kind, disk };
  const fault = { read: random.below(8), kind: random.pick(["short", "throws"] as const) };
  return { kind, disk, fault };
}
