/** Growing a partition in its table: beside what sfdisk and sgdisk leave, and cut at every write. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { isRefused, type TableGrowth } from "../lib/table/growth.ts";
import { cutEverywhere, growCase, growthOf } from "./cases/grow_beside.ts";
import { makeGrowthCase, resized, written } from "./cases/growth_cases.ts";
import { ENTRY, ENTRY_BYTES, get, HEADER, type Header, put, seal } from "./cases/gpt.ts";
import { encodeTable } from "./cases/gpt.ts";
import { putRecord } from "./cases/mbr_cases.ts";
import { Random } from "./cases/random.ts";
import { readPartitionTable } from "./cases/read_table.ts";
import { makeCase } from "./cases/table_cases.ts";
import { growGpt } from "../lib/table/gpt_growth.ts";
import { isConfirmed } from "../lib/table/gpt.ts";
import { growMbr } from "../lib/table/mbr_growth.ts";
import { runSteps, wanted } from "../lib/table/steps.ts";
import type { MbrEntry } from "./cases/mbr.ts";
import { SparseDisk } from "./cases/sparse_disk.ts";
import { besideTools, readBySfdisk, writeImage } from "./support/grow_tools.ts";
import { scratch, test } from "./support/support.ts";

const SEED = 24;
/** torture/grow_tables.ts has 10,000. */
const CASES = 120;
const BESIDE = 24;

test(
  "growTable(): after a cut at any write a whole table is there, and growing again ends it",
  [],
  () => {
    const seen = { gpt: 0, mbr: 0 };
    for (let number = 0; number < CASES; number++) {
      const grown = growCase(makeGrowthCase(SEED, number));
      if (!grown) continue;
      seen[grown.kind]++;
      assertEquals(cutEverywhere(new Random(SEED, number), grown, 2), [], `case ${number}`);
    }
    assert(seen.gpt > CASES / 3 && seen.mbr > CASES / 3, JSON.stringify(seen));
  },
);

test(
  "growTable() leaves what sfdisk -N leaves, byte for byte",
  ["root", "sfdisk", "losetup"],
  () => {
    for (let number = 0; number < BESIDE; number++) {
      const grown = growCase(makeGrowthCase(SEED, number));
      if (grown) assertEquals(besideTools(grown, false), "", `case ${number}`);
    }
  },
);

test("growTable() leaves what sgdisk -e and sfdisk -N leave, byte for byte", [
  "root",
  "sgdisk",
  "sfdisk",
  "losetup",
], () => {
  // sgdisk takes a second.
  for (let number = 4; number < 8; number++) {
    const grown = growCase(makeGrowthCase(SEED, number));
    const takesIt = grown?.kind === "gpt" && grown.before.sectorSize === 512;
    if (takesIt) assertEquals(besideTools(grown, true), "", `case ${number}`);
  }
});

test("sfdisk reads a whole table after each group of writes", ["root", "sfdisk", "losetup"], () => {
  for (let number = 0; number < 8; number++) {
    const grown = growCase(makeGrowthCase(SEED + 1, number));
    if (!grown) continue;
    const { before, growth: { groups, partition: { number: own } } } = grown;
    const read = (n: number) => {
      const path = writeImage(scratch("cut.img"), written(before, groups.slice(0, n)));
      return readBySfdisk(path, before.sectorSize).split("\n");
    };
    const [first, last] = [read(0), read(groups.length)];
    for (let n = 1; n < groups.length; n++) {
      for (const [i, line] of read(n).entries()) {
        assert(line === first[i] || line === last[i], line);
      }
    }
    const changed = first.filter((line) => !last.includes(line)).map((line) => parseInt(line));
    assert(changed.includes(own), `${changed}`);
  }
});

/** A header or an entry, without what a growth changes. */
function unchanged(disk: SparseDisk, number: number): unknown[] {
  const { sectorSize, lastLba } = disk;
  const headers = [1, lastLba].map((lba) => {
    const sector = disk.read(lba * sectorSize, sectorSize);
    const changing = ["header_crc32", "alternate_lba", "last_usable_lba", "partition_entry_lba"];
    for (const field of [...changing, "my_lba", "partition_entry_array_crc32"] as const) {
      const [offset, length] = HEADER[field as keyof typeof HEADER];
      sector.fill(0, offset, offset + length);
    }
    return sector;
  });
  const { num_partition_entries, partition_entry_lba } = get(
    disk.read(sectorSize, sectorSize),
    HEADER,
  );
  const at = Number(partition_entry_lba) * sectorSize;
  const entries = disk.read(at, num_partition_entries * ENTRY_BYTES);
  const [offset, length] = ENTRY.ending_lba;
  entries.fill(
    0,
    (number - 1) * ENTRY_BYTES + offset,
    (number - 1) * ENTRY_BYTES + offset + length,
  );
  return [...headers, entries, disk.read(0, 446)];
}

test(
  "growTable() keeps every other byte of a GPT: reserved ones, boot code, hybrid MBRs",
  [],
  () => {
    let [seen, hybrids] = [0, 0];
    for (let number = 0; number < CASES; number++) {
      const grown = growCase(makeGrowthCase(SEED, number, true));
      if (grown?.kind !== "gpt") continue;
      seen++;
      const { disk, after, growth } = grown;
      const { partition } = growth;
      assertEquals(unchanged(after, partition.number), unchanged(disk, partition.number));
      if (readPartitionTable(disk).kind !== "gpt" || after.read(446 + 16 + 4, 1)[0] === 0) continue;
      hybrids++;
      assertEquals(after.read(0, 512), disk.read(0, 512));
    }
    assert(seen > CASES / 3 && hybrids > 5, `${seen} ${hybrids}`);
  },
);

const MIB = 2 ** 20;
const LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4";

function gptDisk(...places: [start: number, size: number][]): SparseDisk {
  const disk = new SparseDisk(16 * MIB, 512);
  const partitions = places.map(([start, size], i) => ({
    ...{ number: i + 1, start: start * MIB, size: size * MIB, type: LINUX, name: "" },
  }));
  for (const { offset, bytes } of encodeTable(disk.size, partitions, 512)) {
    disk.write(offset, bytes);
  }
  return disk;
}

function mbrDisk(size: number, ...entries: MbrEntry[]): SparseDisk {
  const disk = new SparseDisk(size, 512);
  putRecord(disk, 0, entries);
  return disk;
}

function planOf(...args: Parameters<typeof growthOf>): TableGrowth {
  const growth = growthOf(...args);
  if (isRefused(growth)) throw new Error(growth.why);
  return growth;
}

const whyNot = (...args: Parameters<typeof growthOf>): string => {
  const growth = growthOf(...args);
  return isRefused(growth) ? `${growth.code}: ${growth.why}` : JSON.stringify(growth.partition);
};

test(
  "growTable() names the neighbour that is in the way, and grows up to one that is not",
  [],
  () => {
    const disk = gptDisk([1, 2], [3, 2], [6, 2]);
    assertEquals(
      whyNot(disk, 32 * MIB, 1),
      `ENOSPC: partition 1 cannot grow: partition 2 begins right behind it, at ${3 * MIB}`,
    );
    const up = { number: 2, start: 3 * MIB, from: 2 * MIB, to: 3 * MIB };
    assertEquals(whyNot(disk, 32 * MIB, 2), JSON.stringify(up));
    assertEquals(whyNot(disk, 32 * MIB, 4), "ENXIO: its table has no partition 4: it has 1, 2, 3");
    assertEquals(whyNot(gptDisk(), 32 * MIB), "ENXIO: its table has no partition");
    const mbr = mbrDisk(
      16 * MIB,
      { type: 0x83, start: 2048, count: 4096 },
      { type: 0x0c, start: 4096, count: 4096 },
    );
    assertEquals(whyNot(mbr, 32 * MIB), "EINVAL: partition 2 cannot grow: it overlaps partition 1");
  },
);

test("growTable() does nothing where nothing can grow", [], () => {
  const disk = gptDisk([1, 2], [3, 2]);
  const growth = planOf(disk, 16 * MIB);
  const again = planOf(written(disk, growth.groups), 16 * MIB);
  assertEquals([again.groups, again.partition.from], [[], growth.partition.to]);
});

test(
  "growTable() grows no GPT of which only the backup is whole, and no table of another kind",
  [],
  () => {
    const disk = gptDisk([1, 2]);
    const sector = disk.read(512, 512);
    sector[60] ^= 1;
    disk.write(512, sector);
    assertStringIncludes(whyNot(disk, 32 * MIB), "EUCLEAN: only the backup of its GPT is whole");
    const mac = new SparseDisk(MIB, 512);
    mac.write(0, new TextEncoder().encode("ER"));
    assertStringIncludes(whyNot(mac, 2 * MIB), "EOPNOTSUPP: its partition table is of kind");
  },
);

test("growGpt() and growMbr() look again, since a table may have gone meanwhile", [], () => {
  const empty = new SparseDisk(MIB, 512);
  const read = (offset: number, length: number) => empty.read(offset, length);
  const steps = { size: empty.size, sectorSize: 512, read: wanted };
  assertEquals(runSteps(growGpt(steps, MIB), read), {
    code: "EUCLEAN",
    why: "its primary GPT is damaged",
  });
  assertEquals(runSteps(growMbr(steps, MIB), read), { code: "EUCLEAN", why: "its MBR is gone" });
  assertEquals(runSteps(isConfirmed(steps), read), false);
});

test(
  "growGpt() writes no protective MBR where there is none, and erases no backup that is not there",
  [],
  () => {
    const disk = gptDisk([1, 2]);
    disk.write(0, new Uint8Array(512));
    disk.write(disk.size - 512, new Uint8Array(512));
    const steps = { size: disk.size, sectorSize: 512, read: wanted };
    const growth = runSteps(growGpt(steps, 32 * MIB), (at, length) => disk.read(at, length));
    if (isRefused(growth)) throw new Error(growth.why);
    const names = growth.groups.flat().map(({ what }) => what);
    assert(!names.some((what) => /protective|erased/.test(what)), names.join());
  },
);

test("growGpt() erases the old backup's header between partitions, and not within one", [], () => {
  const erased = (mib: number) => {
    const disk = gptDisk([1, 2], [6, 2]);
    const lba = BigInt(mib * MIB / 512);
    const [primary, backup] = [disk.read(512, 512), disk.read(disk.size - 512, 512)];
    put(primary, HEADER, { alternate_lba: lba });
    put(backup, HEADER, { my_lba: lba });
    for (const [at, header] of [[512, primary], [mib * MIB, backup]] as const) {
      seal(header);
      disk.write(at, header);
    }
    return planOf(disk, 32 * MIB).groups.flat().filter(({ what }) => what.endsWith("erased"))
      .map(({ offset }) => offset / MIB);
  };
  assertEquals([4, 2].map(erased), [[4], []]);
});

/** Changes both headers of a disk. */
function putHeaders(disk: SparseDisk, primary: Partial<Header>, backup = primary): void {
  for (const [at, fields] of [[512, primary], [disk.size - 512, backup]] as const) {
    const sector = disk.read(at, 512);
    put(sector, HEADER, fields);
    seal(sector);
    disk.write(at, sector);
  }
}

/** The entries are where `sgdisk --move-main-table` puts them, so that a boot loader can lie before them. */
function withBootLoader(): { disk: SparseDisk; loader: Uint8Array } {
  const disk = gptDisk([4, 2]);
  disk.write(1000 * 512, disk.read(2 * 512, 32 * 512));
  const first = { first_usable_lba: 1032n };
  putHeaders(disk, { ...first, partition_entry_lba: 1000n }, first);
  const loader = new Uint8Array(998 * 512).fill(0xb0);
  disk.write(2 * 512, loader);
  return { disk, loader };
}

test("growGpt() goes on after a cut, and writes no entries over a boot loader", [], () => {
  const { disk, loader } = withBootLoader();
  const { groups } = planOf(disk, 32 * MIB);
  for (let n = 0; n <= groups.length; n++) {
    for (const size of [32 * MIB, 40 * MIB]) {
      const cut = resized(written(resized(disk, 32 * MIB), groups.slice(0, n)), size);
      const after = written(cut, planOf(cut, size).groups);
      assertEquals(after.read(2 * 512, loader.length), loader, `cut after ${n}`);
      assertEquals(get(after.read(512, 512), HEADER).partition_entry_lba, 1000n);
      const { header, partitions: [{ size: grown }] } = readPartitionTable(after);
      assertEquals([header, grown > size - 5 * MIB], ["primary", true]);
    }
  }
});

test("growGpt() does not guess where the primary's entries belong", [], () => {
  const { disk, loader } = withBootLoader();
  const { groups } = planOf(disk, 32 * MIB);
  const cut = written(resized(disk, 32 * MIB), groups.slice(0, 2));
  cut.write(1000 * 512, loader.subarray(0, 512));
  assertStringIncludes(whyNot(cut, 32 * MIB), "EUCLEAN: the entries of its GPT do not lie before");
  const within = gptDisk([4, 2]);
  putHeaders(within, { first_usable_lba: 30n });
  assertStringIncludes(whyNot(within, 32 * MIB), "sgdisk --move-main-table");
});

test("growGpt() writes the backup anew where it has the primary's entries", [], () => {
  const disk = gptDisk([1, 2]);
  putHeaders(disk, {}, { partition_entry_lba: 2n });
  const after = written(disk, planOf(disk, disk.size).groups);
  const last = disk.size / 512 - 1;
  assertEquals(
    get(after.read(disk.size - 512, 512), HEADER).partition_entry_lba,
    BigInt(last - 32),
  );
  assertEquals(planOf(after, disk.size).groups, []);
});

test(
  "growTable() says what is in a logical partition's way, within its container and beyond",
  [],
  () => {
    const mbr = (...entries: MbrEntry[]) => mbrDisk(16 * MIB, ...entries);
    const container = { type: 0x05, start: 2048, count: 8192 };
    const logical = { type: 0x83, start: 1, count: 2047 };
    const overlapped = mbr(container, { type: 0x83, start: 8192, count: 4096 });
    putRecord(overlapped, 2048, [{ ...logical, count: 8191 }]);
    assertEquals(
      whyNot(overlapped, 16 * MIB, 5),
      "EINVAL: partition 1 cannot grow: it overlaps partition 2",
    );
    const third = mbr(container);
    putRecord(third, 2048, [
      { type: 0, start: 0, count: 0 },
      { type: 0, start: 0, count: 0 },
      logical,
    ]);
    assertStringIncludes(whyNot(third, 16 * MIB, 5), "its entry is the third or fourth");
  },
);

test("growTable() grows over no entry of an MBR that has a size, whatever its type", [], () => {
  const first = { type: 0x83, start: 2048, count: 4096 };
  const disk = mbrDisk(16 * MIB, first, { type: 0, start: 8192, count: 4096 });
  // The kernel shows both.
  assertEquals(readPartitionTable(disk).partitions.map(({ number }) => number), [1, 2]);
  const up = { number: 1, start: MIB, from: 2 * MIB, to: 3 * MIB };
  assertEquals(whyNot(disk, 32 * MIB, 1), JSON.stringify(up));
  assertEquals(planOf(disk, 32 * MIB).partition.number, 2);
});

test("growTable() grows a partition of an MBR as far as 32 bits count, and no further", [], () => {
  const TIB = 2 ** 40;
  const end = (start: number, count: number, number = 1) => {
    const disk = mbrDisk(3 * TIB, { type: 0x83, start, count }, {
      type: 0x83,
      start: 0xfffff000,
      count: number === 2 ? 0x2000 : 0,
    });
    const { groups, partition } = planOf(disk, 3 * TIB, number);
    const { start: at, size } = readPartitionTable(written(disk, groups)).partitions[number - 1];
    assertEquals([at, size], [partition.start, partition.to]);
    return (at + size) / 512;
  };
  assertEquals(end(2048, 4096), 2 ** 32);
  assertEquals(end(0, 4096), 2 ** 32 - 8);
  // Those that end behind it stay as they are.
  assertEquals(end(2048, 0xffffffff), 2048 + 0xffffffff);
  assertEquals(end(2048, 4096, 2), 0xfffff000 + 0x2000);
});

test("growTable() refuses a disk that is too short for the backup", [], () => {
  const disk = gptDisk([1, 2], [4, 11]);
  // The last usable sector is that of the longer disk, as genimage leaves it.
  const header = disk.read(512, 512);
  put(header, HEADER, { last_usable_lba: BigInt(16 * MIB / 512 - 40), alternate_lba: 1n });
  seal(header);
  disk.write(512, header);
  const end = gptDisk([1, 2], [4, 11]);
  assertEquals("why" in growthOf(end, 15 * MIB + 512), true);
  assertStringIncludes(whyNot(disk, 15 * MIB + 512, 2), "ends where the GPT's backup has to be");
});

test("growTable() writes whole sectors of the disk alone, whatever a table says", [], () => {
  let grown = 0;
  for (let number = 0; number < 400; number++) {
    const { disk, kind } = makeCase(SEED, number);
    if (disk.size < 512) continue;
    const size = disk.size + [0, 4096, MIB][number % 3];
    const growth = growthOf(disk, size);
    if (isRefused(growth)) continue;
    grown++;
    const { start, from, to } = growth.partition;
    assert(from <= to && start + to <= size, `case ${number} (${kind})`);
    for (const { offset, bytes, what } of growth.groups.flat()) {
      const isWhole = offset % disk.sectorSize === 0 && bytes.length % disk.sectorSize === 0;
      const isInside = offset >= 0 && offset + bytes.length <= size;
      assert(isWhole && isInside, `case ${number} (${kind}): ${what} at ${offset}`);
    }
  }
  assert(grown > 100, `${grown}`);
});
