/** GUID partition tables that strangers wrote, each hostile kind by name. */
import { assertEquals } from "@std/assert";
import { crc32 } from "node:zlib";
import { get, HEADER, type Header, put, seal } from "./cases/gpt.ts";
import { fixChecksums, layOut, putEntry, writeBoth } from "./cases/gpt_cases.ts";
import { putRecord } from "./cases/mbr_cases.ts";
import { Random } from "./cases/random.ts";
import { SparseDisk } from "./cases/sparse_disk.ts";
import { test } from "./support/support.ts";
import { type Extent, extents } from "./cases/table_extents.ts";

const SECTORS = 2048;

/** A GPT of two partitions, at 100 to 199 and 300 to 399, after `change`. */
function gptDisk(change: (gpt: ReturnType<typeof layOut>) => void = () => {}, count = 128) {
  const disk = new SparseDisk(SECTORS * 512, 512);
  const random = new Random(1);
  const gpt = layOut(random, disk, count);
  gpt.entries.fill(0);
  putEntry(gpt.entries, random, 0, 100n, 199n);
  if (count > 1) putEntry(gpt.entries, random, 1, 300n, 399n);
  change(gpt);
  return writeBoth(disk, gpt);
}

const TWO: Extent[] = [[1, 100, 100], [2, 300, 100]];

/** Two partitions, or what is left of them when an entry is replaced by this one. */
function withEntry(first: bigint, last: bigint): Extent[] {
  return extents(gptDisk(({ entries }) => {
    putEntry(entries, new Random(2), 2, BigInt.asUintN(64, first), BigInt.asUintN(64, last));
  }));
}

const spoil = (disk: SparseDisk, ...offsets: number[]) => {
  for (const at of offsets) disk.write(at, disk.read(at, 1).map((byte) => byte ^ 1));
  return disk;
};

const PRIMARY = 512;
const BACKUP = (SECTORS - 1) * 512;

/** A GPT without a backup, whose primary header says this, under a right checksum of its own. */
function withHeader(fields: Partial<Header>): SparseDisk {
  const disk = spoil(gptDisk(), BACKUP);
  const sector = disk.read(PRIMARY, 512);
  put(sector, HEADER, fields);
  seal(sector, Math.min(get(sector, HEADER).header_size, 512));
  disk.write(PRIMARY, sector);
  return disk;
}

test("GPT: the backup counts where the primary is damaged", [], () => {
  assertEquals(extents(gptDisk()), TWO);
  assertEquals(extents(spoil(gptDisk(), PRIMARY + 72)), TWO, "primary header");
  assertEquals(extents(spoil(gptDisk(), 1024)), TWO, "primary entries");
  assertEquals(extents(spoil(gptDisk(), BACKUP)), TWO, "backup header");
  assertEquals(extents(spoil(gptDisk(), PRIMARY, BACKUP)), [], "both headers");
});

test("GPT: a protective MBR alone is no table", [], () => {
  const disk = new SparseDisk(SECTORS * 512, 512);
  putRecord(disk, 0, [{ type: 0xee, start: 1, count: SECTORS - 1 }]);
  assertEquals(extents(disk), []);
});

test("GPT: a hybrid MBR's own partitions do not count", [], () => {
  const disk = gptDisk();
  putRecord(disk, 0, [{ type: 0x83, start: 50, count: 9 }, { type: 0xee, start: 1, count: 9 }]);
  assertEquals(extents(disk), TWO);
});

test("GPT: no entries, or more than fit, make a header damaged", [], () => {
  for (const count of [0, 32769, 2 ** 25, 2 ** 32 - 1]) {
    const disk = gptDisk(({ primary }) => primary.num_partition_entries = count);
    assertEquals(extents(disk), TWO, `${count}: the backup`);
  }
});

test("GPT: entries beyond the 255th have no number", [], () => {
  const disk = gptDisk(({ entries }) => {
    for (const index of [254, 255, 299]) putEntry(entries, new Random(3), index, 500n, 500n);
  }, 300);
  assertEquals(extents(disk), [...TWO, [255, 500, 1]]);
});

test("GPT: an entry size that is not 128 makes a header damaged", [], () => {
  for (const sizeof_partition_entry of [0, 127, 129, 256, 2 ** 32 - 1]) {
    const disk = withHeader({ sizeof_partition_entry });
    assertEquals(extents(disk), [], `${sizeof_partition_entry}`);
  }
});

test("GPT: an array that the disk's end cuts makes a header damaged", [], () => {
  for (const left of [1, 4, 31]) {
    const partition_entry_array_crc32 = crc32(new Uint8Array(512 * left));
    const partition_entry_lba = BigInt(SECTORS - left);
    const disk = withHeader({ partition_entry_lba, partition_entry_array_crc32 });
    disk.write(BACKUP - 31 * 512, new Uint8Array(32 * 512));
    assertEquals(extents(disk), [], `${left} sectors left`);
  }
});

test("GPT: 64-bit numbers that are huge or look negative", [], () => {
  for (const first of [-1n, -2n, 2n ** 63n, 2n ** 63n - 1n, 2n ** 53n, 2n ** 55n]) {
    assertEquals(withEntry(first, first), TWO, `first and last ${first}`);
    assertEquals(withEntry(1000n, first), TWO, `last ${first}`);
    assertEquals(withEntry(first, 1000n), TWO, `first ${first}`);
  }
  // In bytes, 2^55 sectors of 512 are none again.
  assertEquals(withEntry(2n ** 55n + 1000n, 2n ** 55n + 1001n), TWO);
});

test("GPT: an entry that ends before it begins is none", [], () => {
  assertEquals(withEntry(1000n, 999n), TWO, "no sector");
  assertEquals(withEntry(1000n, 900n), TWO, "fewer");
  assertEquals(withEntry(1000n, 1000n), [...TWO, [3, 1000, 1]], "one sector");
  assertEquals(withEntry(0n, BigInt(SECTORS - 1)), [...TWO, [3, 0, SECTORS]], "all");
  assertEquals(withEntry(1000n, BigInt(SECTORS)), TWO, "one sector too many");
});

test("GPT: overlapping entries are shown as they are", [], () => {
  assertEquals(withEntry(150n, 350n), [...TWO, [3, 150, 201]]);
});

test("GPT: a header that lies about where it is, or where its entries are, is damaged", [], () => {
  for (const lba of [0n, 2n, BigInt(SECTORS - 1), 2n ** 64n - 1n]) {
    assertEquals(extents(withHeader({ my_lba: lba })), [], `my_lba ${lba}`);
  }
  for (const lba of [BigInt(SECTORS), BigInt(SECTORS - 1), 2n ** 53n, 2n ** 55n, 2n ** 64n - 1n]) {
    assertEquals(extents(withHeader({ partition_entry_lba: lba })), [], `entries at ${lba}`);
  }
  const last = BigInt(SECTORS);
  assertEquals(extents(withHeader({ last_usable_lba: last })), [], "usable beyond the end");
  assertEquals(extents(withHeader({ first_usable_lba: last - 1n })), [], "usable from behind");
});

test("GPT: header sizes below 92 bytes and above a sector make a header damaged", [], () => {
  for (const header_size of [0, 91, 513, 2 ** 32 - 1]) {
    assertEquals(extents(withHeader({ header_size })), [], `${header_size}`);
  }
  assertEquals(extents(withHeader({ header_size: 512 })), TWO, "512");
});

test("GPT: a disk that lost its end, or gained one, keeps the primary's partitions", [], () => {
  const larger = gptDisk();
  larger.size += 777;
  assertEquals(extents(larger), TWO);
  const smaller = gptDisk();
  smaller.size -= 512 * 33;
  fixChecksums(smaller, 1);
  assertEquals(extents(smaller), TWO, "all usable sectors are left");
  smaller.size -= 512;
  assertEquals(extents(smaller), [], "a usable sector is missing");
});

test("GPT: without a protective MBR there is no table", [], () => {
  for (const at of [510, 511, 446 + 8]) {
    assertEquals(extents(spoil(gptDisk(), at)), [], `byte ${at}`);
  }
  assertEquals(extents(spoil(gptDisk(), 446 + 4)), [[1, 1, SECTORS - 1]], "type 0xef, an MBR");
});
