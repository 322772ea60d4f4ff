/**
 * Tables whose partitions overlap, as those of bootable ISO images do. The kernel's own scan takes them
 * all; BLKPG does not. "userspace" never scans, so that this is the same on every kernel.
 */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { blkpgAddPartition } from "../lib/kernel/block.ts";
import { O_RDONLY, open } from "../lib/kernel/file.ts";
import { readTable } from "../lib/binding/image_table.ts";
import { DevNodes } from "../lib/binding/nodes.ts";
import { DevicePartitions } from "../lib/binding/partitions.ts";
import { attach, detach, type LoopDevice, LoopError, readPartitions } from "../mod.ts";
import { writeTable } from "./cases/disk_image.ts";
import { losetup, makeImage, onThisRuntime, output, ROOT, run, test } from "./support/support.ts";

const MIB = 1024 * 1024;
/** As of a hybrid ISO: one over everything, another inside, one beside. */
const HYBRID = "label: dos\n1: start=2048, size=5MiB, type=0\n2: start=4096, size=1MiB, type=ef\n" +
  "3: start=14336, size=1MiB\n";

function overwrite(file: string, offset: number, bytes: Uint8Array): void {
  const fd = openSync(file, "r+");
  writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

const kernels = ({ path }: LoopDevice) =>
  readdirSync(`/sys/block/${path.slice(5)}`).filter((name) => /^loop\d+p/.test(name))
    .map((name) => Number(name.replace(/.*p/, ""))).sort((a, b) => a - b);

test("attach() takes of two that overlap the first, and gives the other as skipped", [
  "root",
], async () => {
  const file = makeImage("hybrid.img", 8, HYBRID);
  const { partitions } = await readPartitions(file);
  await using loop = await attach(file, { partscan: "userspace" });
  assertEquals([kernels(loop), loop.partitions.map(({ number }) => number)], [[1, 3], [1, 3]]);
  assertEquals(loop.skipped, [{
    ...partitions[1],
    reason: "it overlaps partition 1",
    offset: 2 * MIB,
    sizelimit: MIB,
  }]);
  assertEquals(JSON.parse(JSON.stringify(loop)).skipped, loop.skipped);
});

test("a skipped partition is attached by its offset and sizelimit, within a range too", [
  "root",
], async () => {
  const image = Uint8Array.from(readFileSync(makeImage("hybrid.img", 8, HYBRID)));
  image.fill(0x5a, 2 * MIB, 3 * MIB);
  const file = makeImage("moved.img", 10);
  writeFileSync(file, new Uint8Array([...new Uint8Array(MIB), ...image]));
  await using loop = await attach(file, { partscan: "userspace", offset: MIB });
  const [{ offset, sizelimit }] = loop.skipped;
  assertEquals([offset, sizelimit], [3 * MIB, MIB]);
  await using alone = await attach(file, { offset, sizelimit });
  const bytes = readFileSync(alone.path);
  assertEquals([bytes.length, bytes.every((byte) => byte === 0x5a)], [MIB, true]);
});

test("attach() skips what overlaps a partition that is cut at the device's end", [
  "root",
], async () => {
  const table = "label: dos\n1: start=2048, size=100MiB\n2: start=8192, size=1MiB\n";
  await using loop = await attach(makeImage("cut.img", 8, table), { partscan: "userspace" });
  assertEquals(loop.partitions.map(({ number, size }) => [number, size / MIB]), [[1, 7]]);
  assertEquals(loop.skipped.map(({ number }) => number), [2]);
});

test(
  "a logical partition is taken before the first KiB of the extended one",
  ["root"],
  async () => {
    // As genimage does, which puts the first boot record and the partition into two sectors.
    const table = "label: dos\n1: size=1MiB\n2: type=f\n5: size=1MiB\n6: size=1MiB\n";
    const file = makeImage("genimage.img", 8, table);
    const record = new DataView(new ArrayBuffer(4));
    record.setUint32(0, 1, true);
    overwrite(file, 2 * MIB + 446 + 8, new Uint8Array(record.buffer));
    for (const look of [1, 2]) {
      await using loop = await attach(file, { partscan: "userspace" });
      if (look === 2) await loop.rescan();
      assertEquals(kernels(loop), [1, 5, 6]);
      assertEquals(loop.skipped.map(({ number, reason }) => [number, reason]), [
        [2, "it overlaps partition 5"],
      ]);
    }
  },
);

test("rescan() keeps the one that is there, and takes the other when it is free", [
  "root",
], async () => {
  const file = makeImage(
    "turns.img",
    8,
    HYBRID.replace("start=2048", "start=12288").replace("5MiB", "1MiB"),
  );
  await using loop = await attach(file, { partscan: "userspace" });
  writeTable(file, HYBRID);
  await loop.rescan();
  assertEquals([kernels(loop), loop.skipped.map(({ number }) => number)], [[2, 3], [1]]);
  writeTable(file, HYBRID.replace("4096", "12288"));
  await loop.rescan();
  assertEquals([kernels(loop), loop.skipped], [[1, 2, 3], []]);
  // The first one grows into the second, which stays.
  writeTable(file, "label: dos\n1: start=2048, size=6MiB\n2: start=12288, size=1MiB\n");
  await loop.rescan();
  assertEquals(loop.partitions.map(({ size }) => size / MIB), [5, 1]);
  const [{ number, size, reason }] = loop.skipped;
  assertEquals([number, size / MIB], [1, 6]);
  assertEquals(reason, "it cannot grow: partition 2 is in its way");
});

test("a partition is skipped whose number the kernel has given to another", ["root"], async () => {
  // As the kernel does when it has scanned a table that was written over since.
  await using loop = await attach(makeImage("taken.img", 8, HYBRID));
  using device = open(loop.path, O_RDONLY);
  blkpgAddPartition(device, { number: 3, start: 6 * MIB, size: MIB });
  const partitions = new DevicePartitions(device, loop, new DevNodes("auto"));
  const table = (await readTable(device, 512)).partitions;
  await partitions.ready(table, 10_000);
  const { added, skipped } = partitions;
  assertEquals(added.map(({ number }) => number), [1]);
  assertEquals(skipped.map(({ number, reason }) => [number, reason]), [
    [2, "it overlaps partition 1"],
    [3, "its number belongs to a partition at 6291456, which stays"],
  ]);
  await loop.rescan();
  assertEquals([kernels(loop), loop.partitions[1].start], [[1, 3], 7 * MIB]);
});

test("mount() of a skipped partition says how to get at it", ["root"], async () => {
  await using loop = await attach(makeImage("hybrid.img", 8, HYBRID), { partscan: "userspace" });
  const error = await assertRejects(() => loop.mount(2), LoopError, "overlaps partition 1");
  assertMatch(error.message, /\{ offset: 2097152, sizelimit: 1048576 \}/);
});

test("cli.ts succeeds with partitions that overlap, and warns of those that are not shown", [
  "root",
], async () => {
  const file = makeImage("hybrid.img", 8, HYBRID);
  const cli = onThisRuntime(`${ROOT}cli.ts`, "--partscan=userspace", "--find", "--show", file);
  const { status, stdout, stderr } = run(cli);
  try {
    assertEquals([status, stdout], [0, `${losetup(file)[0].name}\n`]);
    assertMatch(
      stderr,
      /Warning: not shown: partition 2, it overlaps partition 1 \(alone: --offset 2097152 --sizelimit 1048576\)\.\n$/,
    );
  } finally {
    await detach(file);
  }
  // What it says works.
  const options = ["--find", "--show", "--offset", "2097152", "--sizelimit", "1048576"];
  const path = output(onThisRuntime(`${ROOT}cli.ts`, ...options, file)).trim();
  await detach(path);
});
