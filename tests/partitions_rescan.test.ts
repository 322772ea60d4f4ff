/**
 * What rescan() removes, and what it leaves: a partition of a table that is not read here, or that
 * somebody added, is not unwanted for that. This machine's kernel may have no parser for such a table, so
 * its partitions are added by BLKPG, as the kernel's parsers would.
 */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  closeSync,
  openSync,
  readdirSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { blkpgAddPartition, type Extent } from "../lib/kernel/block.ts";
import { O_EXCL, O_RDONLY, open } from "../lib/kernel/file.ts";
import { removeStalePartitions } from "../lib/binding/removal.ts";
import { attach, type LoopDevice, LoopError, openLoop } from "../mod.ts";
import { writeTable } from "./cases/disk_image.ts";
import { detachOwn } from "./support/others.ts";
import { ownDevices } from "./support/own_devices.ts";
import {
  holdOpen,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  PATIENTLY,
  scratch,
  sysfs,
  test,
  THREE_PARTITIONS,
} from "./support/support.ts";

const MIB = 1024 * 1024;

/** The partitions that the kernel has, with their sizes, and what tells one from a later one. */
function kernelsPartitions(loop: LoopDevice): { name: string; size: number; inode: number }[] {
  const disk = loop.path.slice(5);
  return readdirSync(`/sys/block/${disk}`).filter((name) => name.startsWith(`${disk}p`)).sort()
    .map((name) => ({
      name: name.slice(disk.length),
      size: Number(sysfs(`${disk}/${name}/size`)) * 512,
      inode: statSync(`/sys/block/${disk}/${name}`).ino,
    }));
}

const namesOf = (loop: LoopDevice) => kernelsPartitions(loop).map(({ name }) => name);

/** As a parser of the kernel's would, or a person with addpart(8). */
function addPartitions(loop: LoopDevice, ...partitions: Extent[]): void {
  using device = open(loop.path, O_RDONLY);
  for (const partition of partitions) blkpgAddPartition(device, partition);
}

function overwrite(file: string, offset: number, bytes: Uint8Array): void {
  const fd = openSync(file, "r+");
  writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

/** One MiB each, from so many MiB on. */
const at = (number: number, mib: number): Extent => ({ number, start: mib * MIB, size: MIB });

test("rescan() leaves what no table that is known here accounts for", [
  "root",
  "partx",
], async () => {
  const file = makeImage("unknown.img", 8);
  await using loop = await attach(file);
  addPartitions(loop, at(1, 1), at(2, 2), at(3, 3));
  const before = kernelsPartitions(loop);
  await loop.rescan();
  assertEquals(kernelsPartitions(loop), before);
  assertEquals(loop.partitions.map(({ number, type }) => [number, type]), [
    [1, undefined],
    [2, undefined],
    [3, undefined],
  ]);
  // Neither does a handle that somebody else has of it.
  await using other = await openLoop(loop.path);
  await other.rescan();
  assertEquals(kernelsPartitions(loop), before);
  // What the documentation names for that.
  output(["partx", "--delete", loop.path]);
  assertEquals([await loop.rescan(), namesOf(loop)], [[], []]);
});

test(
  "rescan() touches nothing where the table is of a kind that is not read",
  ["root"],
  async () => {
    const file = makeImage("aix.img", 8);
    await using loop = await attach(file);
    addPartitions(loop, at(1, 1), at(2, 2));
    const before = kernelsPartitions(loop);
    // "IBMA" in EBCDIC.
    overwrite(file, 0, Uint8Array.of(0xc9, 0xc2, 0xd4, 0xc1));
    const error = await assertRejects(() => loop.rescan(), LoopError, "no partition was touched");
    assertEquals([error.code, kernelsPartitions(loop)], ["EMEDIUMTYPE", before]);
  },
);

test("rescan() removes what a whole GPT has not, and what an earlier table had", [
  "root",
], async () => {
  const file = makeImage("wiped.img", 8, THREE_PARTITIONS);
  await using loop = await attach(file, { partscan: true });
  writeTable(file, "label: gpt\n1: start=2048, size=2048\n");
  addPartitions(loop, at(9, 7));
  await using other = await openLoop(loop.path);
  await other.rescan();
  assertEquals(namesOf(loop), ["p1"]);
  addPartitions(loop, at(9, 7));
  overwrite(file, 0, new Uint8Array(MIB));
  overwrite(file, 7 * MIB, new Uint8Array(MIB));
  await loop.rescan();
  assertEquals(namesOf(loop), ["p9"], "nobody knows whose that is");
  assertEquals(loop.partitions.map(({ number }) => number), [9]);
});

test("rescan() removes nothing if one that must go is in use, and says by whom", [
  "root",
], async () => {
  const file = makeImage("busy.img", 8, THREE_PARTITIONS);
  await using loop = await attach(file, { partscan: true });
  const before = kernelsPartitions(loop);
  writeTable(file, "label: gpt\n1: start=12288, size=2048\n");
  const refused = async (who: RegExp) => {
    const error = await assertRejects(() => loop.rescan(), LoopError, "no partition was removed");
    assertEquals([error.code, error.request], ["EBUSY", "BLKPG_DEL_PARTITION"]);
    assertMatch(error.message, who);
    assertEquals(kernelsPartitions(loop), before);
    assertEquals(loop.partitions.length, 3);
  };
  const last = loop.partitions[2].path;
  {
    await using _ = await holdOpen(last);
    await refused(new RegExp(`${last}: process \\d+ \\(sh\\)`));
  }
  {
    // As a mount has it, or whatever lies on top.
    using _ = open(last, O_RDONLY | O_EXCL);
    await refused(new RegExp(`${last}: process \\d+`));
  }
  await loop.rescan();
  assertEquals(namesOf(loop), ["p1"]);
  assertEquals(loop.partitions.map(({ start }) => start), [6 * MIB]);
});

test("rescan() puts back what it removed when the kernel refuses for a process out of sight", [
  "root",
  "unshare",
], async () => {
  const file = makeImage("hidden.img", 8, THREE_PARTITIONS);
  await using loop = await attach(file, { partscan: true });
  writeTable(file, "label: gpt\n4: start=12288, size=1024\n");
  await using _ = await holdOpen(loop.partitions[2].path);
  const sizes = kernelsPartitions(loop).map(({ name, size }) => [name, size]);
  const script = scratch("rescan.ts");
  writeFileSync(
    script,
    `import { openLoop } from ${JSON.stringify(MOD)};
     await using loop = await openLoop(${JSON.stringify(loop.path)});
     const error = await loop.rescan().catch((error) => error);
     console.log(error.code, error.message, loop.partitions.length);`,
  );
  const unshare = ["unshare", "--pid", "--fork", "--mount-proc"];
  const rescanned = () => output([...unshare, ...onThisRuntime(script)]);
  assertMatch(rescanned(), /^EBUSY .*p3: used out of sight.* 3\n$/);
  assertEquals(kernelsPartitions(loop).map(({ name, size }) => [name, size]), sizes);

  // What the device has lost its place for is not to be had again.
  truncateSync(file, 3 * MIB);
  await loop.setCapacity();
  writeTable(file, "label: gpt\n4: start=64, size=64\n");
  const { path } = loop;
  const said = rescanned();
  // An older kernel adds a partition beyond the end of the device, too.
  if (namesOf(loop).includes("p2")) return;
  assertMatch(
    said,
    new RegExp(
      `^EBUSY .*${path}p3: used out of sight: unmount it first, or have it closed; removed before, ` +
        `and not to be added again: ${path}p2 \\(addpart ${path} 2 4096 4096\\)\\) 2\\n$`,
    ),
  );
  assertEquals(namesOf(loop), ["p1", "p3"]);
});

test("detach() removes a partition that it added, not another's of the same number", [
  "root",
], async () => {
  const file = makeImage("number.img", 8, THREE_PARTITIONS);
  const loop = await attach(file, { partscan: "userspace" });
  const other = await openLoop(loop.path);
  writeTable(file, "label: gpt\n3: start=10240, size=2048\n");
  await other.rescan();
  const before = kernelsPartitions(loop);
  assertEquals(before.map(({ name }) => name), ["p3"]);
  const leaving = loop.detach({ timeout: 0 });
  assertEquals(await leaving, "deferred");
  assertEquals(kernelsPartitions(loop), before);
  assertEquals(await other.detach(PATIENTLY), "detached");
});

test("removeStalePartitions() takes nothing from another device that has the node's name", [
  "root",
], async () => {
  await using theirs = await attach(makeImage("theirs.img", 4));
  addPartitions(theirs, at(1, 1));
  // A device that no neighbour takes when it is free.
  await using own = ownDevices(1);
  const mine = await attach(makeImage("mine.img", 4), { number: own.numbers[0] });
  addPartitions(mine, at(1, 1));
  const { path, number } = mine;
  await mine.persist();
  // On kernels between 267ec4d7223a and c4f4c0fc551c the partition stays on the free device.
  await detachOwn(path);
  removeStalePartitions(theirs.path, number);
  assertEquals(namesOf(theirs), ["p1"]);
  removeStalePartitions(path, number);
});
