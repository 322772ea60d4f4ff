/** Partition tables that strangers wrote: thousands of generated ones, and hostile MBRs by name. */
import { assert, assertEquals } from "@std/assert";
import { writeFileSync } from "node:fs";
import { type Link, putRecord, sound, writeChain } from "./cases/mbr_cases.ts";
import { SparseDisk } from "./cases/sparse_disk.ts";
import { KINDS, makeCase } from "./cases/table_cases.ts";
import { MOST_READS, tryTable } from "./cases/table_properties.ts";
import { keepingFirst, runSteps, type Steps, wanted } from "../lib/table/steps.ts";
import { attach } from "../mod.ts";
import { scratch, test } from "./support/support.ts";
import { type Extent, extents } from "./cases/table_extents.ts";

const TABLES = 20_000;
const SEED = 1;

test(`${TABLES} generated tables violate no property`, [], () => {
  const gave = new Map(Object.keys(KINDS).map((kind) => [kind, 0]));
  for (let number = 0; number < TABLES; number++) {
    const table = makeCase(SEED, number);
    const { partitions, violations } = tryTable(table);
    if (violations.length > 0) {
      throw new Error(`seed ${SEED}, case ${number} (${table.kind}): ${violations.join("; ")}`);
    }
    if (partitions.length > 0) gave.set(table.kind, gave.get(table.kind)! + 1);
  }
  // A generator whose tables are all refused tries nothing.
  const barren = [...gave].filter(([, tables]) => tables === 0).map(([kind]) => kind);
  assertEquals(barren, ["gpt, both damaged", "gpt, protective MBR only", "gpt, entry size"]);
});

test("a seed and a number give the same table again", [], () => {
  for (let number = 0; number < 68; number++) {
    const [a, b] = [makeCase(5, number), makeCase(5, number)];
    assertEquals([a.kind, a.fault, a.disk.size], [b.kind, b.fault, b.disk.size]);
    assertEquals(a.disk.hexdump(), b.disk.hexdump());
  }
});

for (const kind of ["short", "throws"] as const) {
  test(
    `every read of a table in turn ${kind === "short" ? "comes up short" : "throws"}`,
    [],
    () => {
      for (let number = 0; number < 200; number++) {
        const { disk } = makeCase(2, number);
        const whole = tryTable({ kind, disk });
        for (let read = 0; read < Math.min(whole.reads, 20); read++) {
          const { violations } = tryTable({ kind, disk, fault: { read, kind } });
          assertEquals(violations, [], `case ${number}, read ${read}`);
        }
      }
    },
  );
}

/** A disk of an extended partition at sector 10 with these records; partition 1 is at 2. */
function chain(links: readonly Link[], sectors = 1000): Extent[] {
  const partitions = extents(writeChain(new SparseDisk(sectors * 512, 512), links));
  assertEquals(partitions.slice(0, 2), [[1, 2, 4], [2, 10, 2]]);
  return partitions.slice(2);
}

const logical = { type: 0x83, start: 1, count: 1 };

test(
  "MBR: a chain that bites its tail ends at partition 255, or after 100 empty records",
  [],
  () => {
    const partitions = chain([{ at: 0, logical, next: 2 }, { at: 2, logical, next: 0 }]);
    assertEquals(
      partitions.map(([number]) => number),
      Array.from({ length: 251 }, (_, i) => i + 5),
    );
    assertEquals(chain([{ at: 0, next: 2 }, { at: 2, next: 0 }]), []);
  },
);

test("MBR: a record that points at itself", [], () => {
  assertEquals(chain([{ at: 0, next: 0 }]), []);
  assertEquals(chain([{ at: 0, logical, next: 0 }]).length, 251);
});

test("MBR: 99 empty records between two partitions are followed, 100 are not", [], () => {
  for (const [empty, found] of [[98, 2], [99, 2], [100, 1]]) {
    const partitions = chain(sound(empty + 2, (i) => i === 0 || i === empty + 1));
    assertEquals(partitions.length, found, `${empty} between`);
    const first = chain(sound(empty + 1, (i) => i === empty));
    assertEquals(first.length, found - 1, `${empty} at the beginning`);
  }
});

test("MBR: the longest walk that a chain can cause stays within the bounds", [], () => {
  const records = 251 * 101;
  const disk = new SparseDisk((2 * records + 100) * 512, 512);
  writeChain(disk, sound(records, (i) => i % 100 === 0));
  const { partitions, reads, violations } = tryTable({ kind: "", disk });
  assertEquals([partitions.length, violations], [253, []]);
  assert(24_900 < reads && reads <= MOST_READS, `${reads} reads`);
});

test("MBR: a chain longer than numbers go", [], () => {
  assertEquals(chain(sound(400)).map(([number]) => number).at(-1), 255);
});

test("MBR: a chain that leads off the disk", [], () => {
  for (const next of [990, 991, 2 ** 31, 2 ** 32 - 1]) {
    assertEquals(chain([{ at: 0, logical, next }]), [[5, 11, 1]], `${next}`);
  }
});

test("MBR: logical partitions beyond the disk are cut or dropped", [], () => {
  const cut = [{ at: 0, logical: { type: 0x83, start: 1, count: 2 ** 32 - 1 } }];
  assertEquals(chain(cut), [[5, 11, 989]]);
  assertEquals(chain([{ at: 0, logical: { type: 0x83, start: 2 ** 32 - 1, count: 9 } }]), []);
});

test("MBR: empty entries, and zeros where a record should be", [], () => {
  assertEquals(chain([{ at: 0, logical: { type: 0x83, start: 1, count: 0 }, next: 2 }]), []);
  const disk = new SparseDisk(100 * 512, 512);
  putRecord(disk, 0, [{ type: 0x83, start: 0, count: 0 }, { type: 0x05, start: 0, count: 0 }]);
  assertEquals(extents(disk), []);
});

test("MBR: an extended partition at sector 0 is its own first record", [], () => {
  const disk = new SparseDisk(100 * 512, 512);
  putRecord(disk, 0, [{ type: 0x05, start: 0, count: 100 }, { type: 0x83, start: 5, count: 1 }]);
  assertEquals(extents(disk).length, 253);
});

test("MBR: four extended partitions that share a cyclic chain stay within the bounds", [], () => {
  const disk = new SparseDisk(100 * 512, 512);
  const extended = { type: 0x05, start: 10, count: 90 };
  putRecord(disk, 0, [extended, extended, extended, extended]);
  putRecord(disk, 10, [{ type: 0x05, start: 0, count: 90 }]);
  assertEquals(extents(disk).length, 4);
  assert(tryTable({ kind: "", disk }).reads < MOST_READS);
});

for (const type of [0x05, 0x0f, 0x85]) {
  test(`MBR: type 0x${type.toString(16).padStart(2, "0")} is extended, on both levels`, [], () => {
    const disk = new SparseDisk(1000 * 512, 512);
    const links = [{ at: 0, logical: { type, start: 2, count: 9 }, next: 4 }, { at: 2, logical }];
    assertEquals(extents(writeChain(disk, links, { type })).slice(2), [[5, 13, 1]]);
  });
}

test("MBR: a chain ends at a record without a signature", [], () => {
  for (const signature of [0, 0x55aa, 0xaa54]) {
    const links = sound(3).map((link, i) => i === 1 ? { ...link, signature } : link);
    assertEquals(chain(links), [[5, 11, 1]], signature.toString(16));
  }
});

test("MBR: a record's third and fourth entry count only inside the extended partition", [], () => {
  const disk = writeChain(new SparseDisk(1000 * 512, 512), [{ at: 0 }], { count: 50 });
  const at = (start: number, count: number) => ({ type: 0x83, start, count });
  putRecord(disk, 10, [at(1, 60), at(20, 99), at(20, 30), at(20, 31)]);
  assertEquals(extents(disk).slice(2), [[5, 11, 60], [6, 30, 99], [7, 30, 30]]);
});

test("MBR: overlapping partitions are shown as they are", [], () => {
  const disk = new SparseDisk(100 * 512, 512);
  putRecord(disk, 0, [{ type: 0x83, start: 5, count: 9 }, { type: 0x83, start: 6, count: 9 }]);
  assertEquals(extents(disk), [[1, 5, 9], [2, 6, 9]]);
});

test("an image smaller than its sectors attaches, without partitions", ["root"], async () => {
  const path = scratch("small.img");
  const bytes = new Uint8Array(512);
  bytes.set([0x55, 0xaa], 510);
  writeFileSync(path, bytes);
  await using loop = await attach(path, { sectorSize: 4096, partscan: "userspace" });
  assertEquals([loop.size, loop.partitions], [512, []]);
});

test("disks of 0 to 40 sectors, and of parts of one", [], () => {
  for (let number = 0; number < Object.keys(KINDS).length; number++) {
    const { disk } = makeCase(1, number);
    for (let size = 0; size <= 40 * disk.sectorSize; size += 173) {
      disk.size = size;
      assertEquals(tryTable({ kind: "", disk }).violations, [], `${number}, ${size} bytes`);
    }
  }
});

test("keepingFirst() answers from the first read what lies in it, and nothing else", [], () => {
  const bytes = Uint8Array.from({ length: 64 }, (_, i) => i);
  const reads: [number, number][] = [];
  const read = (offset: number, length: number) => {
    reads.push([offset, length]);
    return bytes.subarray(offset, offset + length);
  };
  const asked = [[8, 16], [8, 4], [20, 4], [20, 5], [7, 2], [0, 64], [23, 1]] as const;
  function* reader(): Steps<number[][]> {
    const found: number[][] = [];
    for (const [offset, length] of asked) found.push([...yield* wanted(offset, length)]);
    return found;
  }
  const found = runSteps(keepingFirst(reader()), read);
  assertEquals(
    found,
    asked.map(([offset, length]) => [...bytes.subarray(offset, offset + length)]),
  );
  assertEquals(reads, [[8, 16], [20, 5], [7, 2], [0, 64]]);
});
