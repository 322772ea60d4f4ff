/** The partitions of a device whose backing file is changed for another. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { copyFileSync, readdirSync, truncateSync } from "node:fs";
import { blkpgAddPartition } from "../lib/kernel/block.ts";
import { O_RDONLY, open } from "../lib/kernel/file.ts";
import { attach, type AttachOptions, type LoopDevice, LoopError } from "../mod.ts";
import { holdOpen, makeImage, scratch, sysfs, test, THREE_PARTITIONS } from "./support/support.ts";

const MIB = 1024 * 1024;
const TWO = "label: gpt\n2: start=4096, size=2048, name=new\n5: size=1MiB\n";

/** Number, start and size of each, in MiB, as the kernel has them. */
function kernels({ path }: LoopDevice): number[][] {
  const disk = path.slice(5);
  return readdirSync(`/sys/block/${disk}`).filter((name) => name.startsWith(`${disk}p`)).map((
    p,
  ) => [
    Number(sysfs(`${disk}/${p}/partition`)),
    Number(sysfs(`${disk}/${p}/start`)) / 2048,
    Number(sysfs(`${disk}/${p}/size`)) / 2048,
  ]).sort(([a], [b]) => a - b);
}

const ours = ({ partitions }: LoopDevice) =>
  partitions.map(({ number, start, size }) => [number, start / MIB, size / MIB]);

const WAYS: Record<string, AttachOptions> = {
  "the kernel scans": { partscan: true },
  "two steps": { partscan: true, workaround: "always" },
  "userspace": { partscan: "userspace" },
  "only rescan()": {},
};

test("changeFile() brings the new file's partitions, however the old one's came", [
  "root",
], async () => {
  const old = makeImage("old.img", 8, THREE_PARTITIONS);
  const files = { TWO: makeImage("two.img", 8, TWO), none: makeImage("none.img", 8) };
  for (const [way, options] of Object.entries(WAYS)) {
    await using loop = await attach(old, { readOnly: true, ...options });
    if (!options.partscan) await loop.rescan();
    assertEquals(kernels(loop), [[1, 1, 1], [2, 2, 2], [3, 4, 3]], way);
    await loop.changeFile(files.TWO);
    assertEquals(kernels(loop), [[2, 2, 1], [5, 3, 1]], way);
    assertEquals([loop.backingFile, ours(loop)], [files.TWO, kernels(loop)], way);
    assertEquals(loop.partitions[0].name, "new");
    await loop.changeFile(files.none);
    assertEquals([kernels(loop), ours(loop)], [[], []], way);
    await loop.changeFile(old);
    // Without a partition and without partscan, none is asked for.
    assertEquals(kernels(loop).length, options.partscan ? 3 : 0, way);
  }
});

test("changeFile() removes what somebody added over the old file", ["root"], async () => {
  const [old, other] = [makeImage("apple.img", 8), makeImage("other.img", 8)];
  await using loop = await attach(old, { readOnly: true });
  {
    using device = open(loop.path, O_RDONLY);
    blkpgAddPartition(device, { number: 3, start: MIB, size: MIB });
  }
  await loop.changeFile(other);
  assertEquals([kernels(loop), ours(loop)], [[], []]);
});

test("changeFile() is refused while a partition is in use that the new file has not", [
  "root",
], async () => {
  const old = makeImage("old.img", 8, THREE_PARTITIONS);
  const [same, other] = [scratch("same.img"), makeImage("other.img", 8, TWO)];
  copyFileSync(old, same);
  await using loop = await attach(old, { readOnly: true, partscan: "userspace" });
  const before = kernels(loop);
  {
    await using _ = await holdOpen(loop.partitions[2].path);
    const error = await assertRejects(() => loop.changeFile(other), LoopError);
    assertEquals(error.code, "EBUSY");
    assertMatch(error.message, /p3: process \d+ \(sh\).*: unmount it first/);
    assertEquals([loop.backingFile, kernels(loop), ours(loop)], [old, before, before]);
    await loop.changeFile(same);
    assertEquals([loop.backingFile, kernels(loop), ours(loop)], [same, before, before]);
  }
  await loop.changeFile(other);
  assertEquals(loop.backingFile, other);
});

test("changeFile() refuses what attach() would, the file not changed", ["root"], async () => {
  const old = makeImage("old.img", 8, THREE_PARTITIONS);
  const wide = makeImage("wide.img", 8, THREE_PARTITIONS, 4096);
  const longer = makeImage("longer.img", 9, TWO);
  await using loop = await attach(old, { readOnly: true, partscan: true });
  for (const [file, code] of [[wide, "EMEDIUMTYPE"], [longer, "EINVAL"]]) {
    const error = await assertRejects(() => loop.changeFile(file), LoopError);
    assertEquals([error.code, loop.backingFile, kernels(loop)], [code, old, ours(loop)]);
  }
  truncateSync(longer, 8 * MIB);
  await assertRejects(() => loop.changeFile(longer), LoopError, "EUCLEAN");
  await using plain = await attach(old, { readOnly: true });
  await plain.changeFile(wide);
  assertEquals([plain.backingFile, plain.partitions], [wide, []]);
  const mine = makeImage("mine.img", 8, TWO);
  await using writable = await attach(mine, { partscan: true });
  const before = kernels(writable);
  await assertRejects(() => writable.changeFile(old), LoopError, "only a read-only device");
  assertEquals([writable.backingFile, kernels(writable)], [mine, before]);
});

test("changeFile() takes a block device, and its partitions", ["root"], async () => {
  const [old, other] = [makeImage("old.img", 8, THREE_PARTITIONS), makeImage("other.img", 8, TWO)];
  await using below = await attach(other, { readOnly: true });
  await using loop = await attach(old, { readOnly: true, partscan: true });
  await loop.changeFile(below.path);
  assertEquals([loop.backingFile, kernels(loop)], [below.path, [[2, 2, 1], [5, 3, 1]]]);
});
