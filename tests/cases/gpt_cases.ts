/**
 * GUID partition tables as strangers write them: whole ones, damaged ones, and hostile ones.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import {
  ENTRY,
  ENTRY_BYTES,
  get,
  HEADER,
  type Header,
  HEADER_BYTES,
  put,
  seal,
  SIGNATURE,
} from "./gpt.ts";
import { putRecord } from "./mbr_cases.ts";
import type { Random } from "./random.ts";
import { SparseDisk } from "./sparse_disk.ts";

/** A table before it is written. */
export interface Gpt {
  readonly primary: Header;
  readonly backup: Header;
  readonly entries: Uint8Array;
}

const MAGIC = new TextEncoder().encode("EFI PART");
/** More is not read, and not worth a checksum. */
const MOST_ENTRY_BYTES = 4 * 1024 * 1024;

/** A disk of some common or uncommon size. */
export function gptDisk(random: Random): SparseDisk {
  const sectorSize = random.pick([512, 4096]);
  const sectors = random.pick([
    random.between(1, 80),
    random.between(100, 300),
    random.between(300, 40_000),
    2 ** 32 + random.between(-3, 3),
    random.between(2 ** 31, 2 ** 40),
  ]);
  return new SparseDisk(sectors * sectorSize, sectorSize);
}

/** A table with some partitions, none of which is wrong if the disk has room for it. */
export function layOut(random: Random, disk: SparseDisk, count = entryCount(random)): Gpt {
  const arraySectors = Math.ceil(count * ENTRY_BYTES / disk.sectorSize);
  const first = 2 + arraySectors;
  const last = Math.max(disk.lastLba - arraySectors - 1, first);
  const entries = new Uint8Array(count * ENTRY_BYTES);
  const used = Math.min(count, random.oneIn(50) ? count : random.between(0, 5));
  let at = first;
  for (let n = 0; n < used && at <= last; n++) {
    const index = used < count && random.oneIn(4) ? random.below(count) : n;
    const size = random.between(1, Math.max(1, Math.floor((last - at) / 2)));
    putEntry(entries, random, index, BigInt(at), BigInt(at + size - 1));
    at += size + random.between(0, 2);
  }
  const header = (my_lba: number, alternate_lba: number, partition_entry_lba: number): Header => ({
    signature: SIGNATURE,
    revision: 0x10000,
    header_size: HEADER_BYTES,
    header_crc32: 0,
    reserved1: 0,
    my_lba: BigInt(my_lba),
    alternate_lba: BigInt(alternate_lba),
    first_usable_lba: BigInt(first),
    last_usable_lba: BigInt(last),
    disk_guid: random.bytes(16),
    partition_entry_lba: BigInt(partition_entry_lba),
    num_partition_entries: count,
    sizeof_partition_entry: ENTRY_BYTES,
    partition_entry_array_crc32: 0,
  });
  const lastLba = Math.max(0, disk.lastLba);
  return {
    entries,
    primary: header(1, lastLba, 2),
    backup: header(lastLba, 1, Math.max(0, lastLba - arraySectors)),
  };
}

function entryCount(random: Random): number {
  return random.pick([128, 128, 128, 4, 16, 1, 127, 129, random.between(1, 300)]);
}

/** Puts an entry into the array. */
export function putEntry(
  entries: Uint8Array,
  random: Random,
  index: number,
  starting_lba: bigint,
  ending_lba: bigint,
): void {
  put(entries.subarray(index * ENTRY_BYTES), ENTRY, {
    partition_type_guid: random.bytes(16),
    unique_partition_guid: random.bytes(16),
    starting_lba,
    ending_lba,
    attributes: random.u64(),
    partition_name: random.oneIn(2) ? random.bytes(72) : MAGIC,
  });
}

/** Writes both copies, with right checksums, behind a protective MBR. */
export function writeBoth(disk: SparseDisk, gpt: Gpt): SparseDisk {
  const { sectorSize, lastLba } = disk;
  const write = (lba: number, fields: Header, at: number) => {
    if (lba < 1) return;
    const header = new Uint8Array(HEADER_BYTES);
    put(header, HEADER, fields);
    disk.write(at * sectorSize, gpt.entries);
    disk.write(lba * sectorSize, header);
    fixChecksums(disk, lba);
  };
  const arraySectors = Math.ceil(gpt.entries.length / sectorSize);
  putRecord(disk, 0, [{ type: 0xee, start: 1, count: Math.min(lastLba, 0xffffffff) }]);
  write(lastLba, gpt.backup, Math.max(0, lastLba - arraySectors));
  write(1, gpt.primary, 2);
  return disk;
}

/** Makes the checksums of the header at `lba` right, as far as what it says can be read. */
export function fixChecksums(disk: SparseDisk, lba: number): void {
  const { sectorSize } = disk;
  const sector = disk.read(lba * sectorSize, sectorSize);
  if (sector.length < HEADER_BYTES) return;
  const header = get(sector, HEADER);
  const length = header.num_partition_entries * header.sizeof_partition_entry;
  const entriesAt = Number(header.partition_entry_lba) * sectorSize;
  if (length <= MOST_ENTRY_BYTES && entriesAt + length <= disk.size) {
    const partition_entry_array_crc32 = crc32(disk.read(entriesAt, length));
    put(sector, HEADER, { partition_entry_array_crc32 });
  }
  seal(sector, Math.min(header.header_size, sectorSize));
  disk.write(lba * sectorSize, sector);
}

/** Numbers at which arithmetic goes wrong, for a disk of that many sectors. */
export function hostileLba(random: Random, { lastLba, sectorSize }: SparseDisk): bigint {
  return BigInt.asUintN(
    64,
    random.pick([
      () => BigInt(random.between(0, 40)),
      () => BigInt(lastLba) + BigInt(random.between(-2, 2)),
      () => 2n ** 32n - BigInt(random.between(0, 2)),
      () => 2n ** 53n + BigInt(random.between(-1, 1)),
      () => 2n ** 63n + BigInt(random.between(-1, 1)),
      () => 2n ** 64n - BigInt(random.between(1, 3)),
      () => 2n ** 64n / BigInt(sectorSize) + BigInt(random.between(-1, 2)),
      () => random.u64(),
    ])(),
  );
}

/** Damages a header or its entries so that a checksum notices. */
export function damage(random: Random, disk: SparseDisk, lba: number): void {
  const { sectorSize } = disk;
  const at = random.pick([
    lba * sectorSize + random.below(HEADER_BYTES),
    lba === 1 ? 2 * sectorSize : Math.max(2, lba - 1) * sectorSize,
  ]);
  const byte = disk.read(at, 1);
  byte[0] ^= 1 << random.below(8);
  disk.write(at, byte);
}

/**
 * A disk that was formatted twice, with sectors of two sizes. What is left of the first table is often
 * whole: few entries lie before the other size's header.
 */
function twoSectorSizes(random: Random): SparseDisk {
  const sizes = random.pick([[512, 2048], [512, 4096], [1024, 4096], [512, 1024], [2048, 4096]]);
  const disks = random.oneIn(2) ? sizes : sizes.toReversed();
  const bytes = random.between(30, 3000) * 4096 + random.below(8) * 512;
  let disk = new SparseDisk(bytes, disks[0]);
  for (const sectorSize of disks) {
    disk = disk.inSectorsOf(sectorSize);
    writeBoth(disk, layOut(random, disk, random.between(1, 10)));
    if (random.oneIn(3)) damage(random, disk, 1);
    if (random.oneIn(3)) damage(random, disk, disk.lastLba);
  }
  return random.oneIn(2) ? disk : disk.inSectorsOf(disks[0]);
}

type Edit = (random: Random, disk: SparseDisk, gpt: Gpt) => void;

/** A table in which something is wrong before the checksums are made. */
const edited = (edit: Edit, count?: (random: Random) => number) => (random: Random): SparseDisk => {
  const disk = gptDisk(random);
  const gpt = layOut(random, disk, count?.(random));
  edit(random, disk, gpt);
  return writeBoth(disk, gpt);
};

/** A table in which something is wrong after the checksums were made. */
const damaged = (harm: (random: Random, disk: SparseDisk) => void) => (random: Random) => {
  const disk = gptDisk(random);
  writeBoth(disk, layOut(random, disk));
  harm(random, disk);
  return disk;
};

const bothHeaders = (gpt: Gpt, fields: Partial<Header>) => {
  Object.assign(gpt.primary, fields);
  Object.assign(gpt.backup, fields);
};

const hostileEntries: Edit = (random, disk, { entries }) => {
  const count = entries.length / ENTRY_BYTES;
  for (let n = random.between(1, 8); n > 0; n--) {
    const first = hostileLba(random, disk);
    const last = random.pick([
      () => first - 1n,
      () => first,
      () => first - BigInt(random.between(2, 9)),
      () => first + BigInt(random.below(100)),
      () => hostileLba(random, disk),
    ])();
    putEntry(entries, random, random.below(count), first, BigInt.asUintN(64, last));
  }
};

const overlappingEntries: Edit = (random, disk, { entries, primary }) => {
  const first = Number(primary.first_usable_lba);
  const count = entries.length / ENTRY_BYTES;
  for (let index = 0; index < Math.min(count, 4); index++) {
    const start = first + random.below(8);
    const end = Math.min(start + random.below(30), Math.max(start, disk.lastLba));
    putEntry(entries, random, index, BigInt(start), BigInt(end));
  }
};

const hostileHeader: Edit = (random, disk, gpt) => {
  const header = random.pick([gpt.primary, gpt.backup]);
  const lbas = [
    "my_lba",
    "alternate_lba",
    "first_usable_lba",
    "last_usable_lba",
    "partition_entry_lba",
  ] as const;
  header[random.pick(lbas)] = hostileLba(random, disk);
  if (random.oneIn(4)) header.header_size = random.pick([0, 91, 93, 96, 512, 513, 4096, 2 ** 31]);
  if (random.oneIn(8)) header.revision = random.u32();
};

/** Kinds of tables by name. */
export const GPT_KINDS: Readonly<Record<string, (random: Random) => SparseDisk>> = {
  "gpt": edited(() => {}),
  "gpt, primary damaged": damaged((random, disk) => damage(random, disk, 1)),
  "gpt, backup damaged": damaged((random, disk) => damage(random, disk, disk.lastLba)),
  "gpt, both damaged": damaged((random, disk) => {
    damage(random, disk, 1);
    damage(random, disk, disk.lastLba);
  }),
  "gpt, protective MBR only": damaged((_, disk) => {
    const nothing = new Uint8Array(disk.sectorSize);
    disk.write(disk.sectorSize, nothing);
    disk.write(disk.lastLba * disk.sectorSize, nothing);
  }),
  "gpt, hybrid MBR": damaged((random, disk) => {
    const entries = [{ type: 0xee, start: 1, count: random.between(0, 99) }];
    for (let n = random.between(1, 3); n > 0; n--) {
      const type = random.pick([0x83, 0x0c, 0x05, 0xee]);
      const entry = { type, start: random.between(0, 99), count: random.between(0, 99) };
      entries.splice(random.below(entries.length + 1), 0, entry);
    }
    putRecord(disk, 0, entries);
  }),
  "gpt, two sector sizes": twoSectorSizes,
  "gpt, entry count": edited((random, _, gpt) => {
    const few = gpt.primary.num_partition_entries;
    const counts = [0, few - 1, few + 1, 254, 255, 256, 257, 1000, 32769, 2 ** 25, 2 ** 32 - 1];
    bothHeaders(gpt, { num_partition_entries: random.pick(counts) });
  }),
  "gpt, 300 entries": edited(() => {}, (random) => random.between(250, 300)),
  "gpt, 4 MiB of entries": (random) => {
    const disk = new SparseDisk(random.between(8200, 30_000) * 512, 512);
    return writeBoth(disk, layOut(random, disk, random.oneIn(1000) ? 32768 : 500));
  },
  "gpt, entry size": edited((random, _, gpt) => {
    const sizes = [0, 1, 64, 127, 129, 256, 4096, 2 ** 31, 2 ** 32 - 1];
    bothHeaders(gpt, { sizeof_partition_entry: random.pick(sizes) });
  }),
  "gpt, hostile entries": edited(hostileEntries),
  "gpt, overlapping entries": edited(overlappingEntries),
  "gpt, hostile header": edited(hostileHeader),
};
