/** grow() and growImage() on real devices: what the kernel, the tools and the file systems say afterwards. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { createHash } from "node:crypto";
import { appendFileSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import {
  attach,
  growImage,
  type GrowImageOptions,
  type GrowProgress,
  LoopError,
  openLoop,
  readPartitions,
} from "../mod.ts";
import { ownDevices } from "./support/own_devices.ts";
import { tracedWithFault } from "./support/traced.ts";
import { holdOf } from "../lib/holders/exclusive.ts";
import { planFileSystem } from "../lib/grow/file_systems.ts";
import type { FileSystem } from "../lib/superblocks/file_systems.ts";
import {
  assertDetached,
  holdOpen,
  isolated,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  run,
  scratch,
  sysfs,
  test,
  until,
} from "./support/support.ts";

const MIB = 2 ** 20;
const TWO = "label: gpt\nsize=1MiB, name=first\nname=last\n";

const sum = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");

async function refusal(code: string, attempt: () => Promise<unknown>): Promise<string> {
  const error = await assertRejects(attempt, LoopError);
  assertEquals(error.code, code, error.message);
  return error.message;
}

/** An image whose last partition holds what a command makes on its node. */
async function imageWith(name: string, mib: number, table: string, ...mkfs: string[]) {
  const file = makeImage(name, mib, table);
  {
    await using loop = await attach(file, { partscan: true });
    output([...mkfs, loop.partitions.at(-1)!.path]);
  }
  // growImage() refuses a file that is attached still.
  assertDetached(file);
  return file;
}

/** A neighbour that begins a mount namespace has a copy of each mount there, for a while. */
const unmounted = (node: string) =>
  until(async () => await holdOf(node) === "free", `${node} to be unmounted`);

test("growImage() grows file, table, partition and a btrfs, and the tools find no fault", [
  "root",
  "mkfs.btrfs",
  "sfdisk",
], async () => {
  const file = await imageWith("btrfs.img", 130, TWO, "mkfs.btrfs", "-q");
  const steps: GrowProgress[] = [];
  const onProgress = (step: GrowProgress) => steps.push(step);
  const growth = await growImage(file, { size: 400 * MIB, onProgress });
  assertDetached(file);
  assertEquals([growth.file.to, statSync(file).size, growth.device.to], Array(3).fill(400 * MIB));
  const { partition, fileSystem } = growth;
  const [, last] = (await readPartitions(file)).partitions;
  assertEquals([partition?.number, partition?.to], [2, last.size]);
  assertEquals(fileSystem, { type: "btrfs", from: fileSystem?.from, to: last.size });
  assertEquals(run(["sfdisk", "--verify", file]).stdout.includes("No errors detected"), true);
  await using loop = await attach(file, { partscan: true });
  assertEquals(run(["btrfs", "check", loop.partitions[1].path]).status, 0);
  const ends = steps.filter(({ done, total }) => done === total).map(({ step }) => step);
  assertEquals(ends, ["file", "table", "partition", "fileSystem"]);
});

test("grow() grows a mounted xfs while it is written to, and drops no partition", [
  "root",
  "mkfs.xfs",
], async () => {
  const file = await imageWith("xfs.img", 310, TWO, "mkfs.xfs", "-q");
  await using loop = await attach(file, { partscan: true });
  {
    await using root = await loop.mount({ name: "last" });
    const written = await root.resolve("written");
    const name = loop.partitions[1].path.slice("/dev/".length);
    const identity = statSync(`/sys/class/block/${name}/`).ino;
    writeFileSync(written, "");
    let isOver = false;
    const growing = loop.grow({ name: "last" }, { size: 700 * MIB }).finally(() => isOver = true);
    let lines = 0;
    while (!isOver) {
      appendFileSync(written, `${lines++}\n`);
      await new Promise((resolve) => setTimeout(resolve));
    }
    const { partition, fileSystem } = await growing;
    assertEquals(fileSystem?.to, partition?.to);
    assertEquals(statSync(`/sys/class/block/${name}/`).ino, identity);
    assertEquals(Number(sysfs(`${loop.path.slice(5)}/${name}/size`)) * 512, partition?.to);
    assertEquals([loop.size, loop.partitions[1].size], [700 * MIB, partition?.to]);
    assertEquals(readFileSync(written, "utf8").split("\n").length, lines + 1);
    // Nothing is left to do.
    const again = await loop.grow();
    assertEquals([again.table?.writes, again.fileSystem?.from], [[], partition?.to]);
  }
  await unmounted(loop.partitions[1].path);
  assertEquals(run(["xfs_repair", "-n", loop.partitions[1].path]).status, 0);
});

test("grow() grows an ext4, or says that it takes CAP_SYS_RESOURCE", [
  "root",
  "mkfs.ext4",
], async () => {
  const file = await imageWith("ext4.img", 16, TWO, "mkfs.ext4", "-q");
  await using loop = await attach(file, { partscan: true });
  const { partition, fileSystem } = await loop.grow(2, { size: 64 * MIB });
  assertEquals(loop.partitions[1].size, partition?.to);
  const { from, to, reason } = fileSystem!;
  if (reason === undefined) assert(to! > 60 * MIB, `${to}`);
  else assertEquals([from, reason.includes("CAP_SYS_RESOURCE")], [to, true], reason);
  // What the reason says helps.
  const { path } = loop.partitions[1];
  await unmounted(path);
  assertEquals(run(["e2fsck", "-f", "-y", path]).status, 0);
  assertEquals(run(["resize2fs", path]).status, 0);
  assertEquals(run(["e2fsck", "-f", "-n", path]).status, 0);
});

test(
  "grow() grows a logical partition and the extended one around it",
  ["root", "sfdisk"],
  async () => {
    const table = "label: dos\n1: size=1MiB\n2: size=6MiB, type=5\n5: size=1MiB\n6: size=1MiB\n";
    const file = makeImage("dos.img", 16);
    output(["sfdisk", "-q", file], { input: table });
    await using loop = await attach(file, { partscan: true });
    const { table: written, partition } = await loop.grow(undefined, { size: 32 * MIB });
    assertEquals([written?.kind, partition?.number], ["mbr", 6]);
    assertEquals(loop.partitions.find(({ number }) => number === 6)?.size, partition?.to);
    assertEquals(run(["sfdisk", "--verify", file]).status, 0);
    const [, extended] = JSON.parse(output(["sfdisk", "--json", file])).partitiontable.partitions;
    assertEquals((extended.start + extended.size) * 512, 32 * MIB);
  },
);

test("grow() grows a file system without a table", ["root", "mkfs.xfs"], async () => {
  const file = makeImage("bare.img", 300);
  output(["mkfs.xfs", "-q", file]);
  const growth = await growImage(file, { size: 350 * MIB });
  assertEquals(Object.keys(growth), ["file", "device", "fileSystem"]);
  assertEquals(growth.fileSystem?.to, 350 * MIB);
  assertEquals(run(["xfs_repair", "-n", file]).status, 0);
});

test("grow() says that a file system which is mounted read-only cannot grow", [
  "root",
  "mkfs.xfs",
], async () => {
  const file = await imageWith("read-only.img", 310, TWO, "mkfs.xfs", "-q");
  await using loop = await attach(file, { partscan: true });
  await using _root = await loop.mount(2, { readOnly: true });
  const { partition, fileSystem } = await loop.grow(2, { size: 400 * MIB });
  assertEquals([loop.partitions[1].size, fileSystem?.to], [partition?.to, fileSystem?.from]);
  assertStringIncludes(fileSystem!.reason!, "it cannot be mounted: EBUSY");
});

test(
  "grow() grows a partition around LUKS, and leaves what is inside to its user",
  ["root"],
  async () => {
    const file = makeImage("luks.img", 8, TWO);
    const at = 2 * MIB;
    const bytes = readFileSync(file);
    // The first bytes of a LUKS1 header, and its UUID.
    bytes.set([0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe, 0, 1], at);
    bytes.set(new TextEncoder().encode("4c27b1a6-2b9c-4d8a-9b3e-0d8a0a6d2f11"), at + 168);
    writeFileSync(file, bytes);
    const { partition, fileSystem } = await growImage(file, { size: 16 * MIB });
    assert(partition!.to > 13 * MIB);
    assertEquals(fileSystem?.type, "crypto_LUKS");
    assertStringIncludes(fileSystem!.reason!, "cryptsetup resize");
  },
);

test(
  "growImage() with dryRun says what would be done, without root, and writes nothing",
  [],
  async () => {
    const file = makeImage("dry.img", 8, TWO);
    const before = sum(file);
    const { file: size, table, partition } = await growImage(file, {
      size: 16 * MIB,
      dryRun: true,
      partition: { name: "last" },
    });
    assertEquals([size.from, size.to, partition?.number], [8 * MIB, 16 * MIB, 2]);
    assertEquals(table?.writes.map(({ what }) => what), [
      "the backup's entries",
      "the backup's header",
      "the primary header, of the backup's entries",
      "the entry of partition 2",
      "the primary header",
      "the protective MBR",
      "the old backup's header, erased",
    ]);
    assertEquals([sum(file), statSync(file).size], [before, 8 * MIB]);
  },
);

test("grow() changes nothing where it refuses", ["root"], async () => {
  const file = makeImage("refused.img", 8, TWO);
  const size = 16 * MIB;
  const before = sum(file);
  const refused = async (code: string, options: GrowImageOptions) => {
    const message = await refusal(code, () => growImage(file, options));
    assertDetached(file);
    return message;
  };
  assertStringIncludes(
    await refused("ENOSPC", { size, partition: 1 }),
    "partition 2 begins right behind it",
  );
  assertStringIncludes(await refused("EINVAL", { size: 4 * MIB }), "makes nothing smaller");
  assertStringIncludes(await refused("EINVAL", { size, sizelimit: 8 * MIB }), "sizelimit");
  await refused("ENXIO", { size, partition: { name: "none" } });
  assertStringIncludes(await refused("EMEDIUMTYPE", { size, sectorSize: 4096 }), "sectors of 512");
  {
    await using loop = await attach(file, { readOnly: true, partscan: true });
    assertStringIncludes(await refusal("EROFS", () => loop.grow()), "read-only");
  }
  {
    await using loop = await attach(makeImage("wide.img", 8, TWO, 4096));
    const message = await refusal("EMEDIUMTYPE", () => loop.grow());
    assertStringIncludes(message, 'attach it with sectorSize: 4096, or "auto"');
  }
  {
    await using loop = await attach(file, { partscan: true });
    await using theirs = await openLoop(loop.path);
    assertStringIncludes(await refusal("EPERM", () => theirs.grow()), "somebody else");
    assertStringIncludes(await refusal("EEXIST", () => growImage(file, { size })), loop.path);
  }
  // deno-lint-ignore no-explicit-any
  await assertRejects(() => growImage(file, { bytes: 1 } as any), TypeError, "'bytes'");
  await assertRejects(() => growImage(file, { size: 0.5 }), RangeError, "whole number of bytes");
  assertEquals([sum(file), statSync(file).size], [before, 8 * MIB]);
});

test(
  "grow() repairs nothing: what is said of a damaged primary GPT helps",
  ["root", "sgdisk"],
  async () => {
    const file = makeImage("damaged.img", 8, TWO);
    const bytes = readFileSync(file);
    bytes[512 + 60] ^= 1;
    writeFileSync(file, bytes);
    const message = await refusal("EUCLEAN", () => growImage(file, { size: 16 * MIB }));
    assertStringIncludes(message, "sgdisk -e");
    assertDetached(file);
    run(["sgdisk", "-e", file]);
    const { partition } = await growImage(file, { size: 16 * MIB });
    assert(partition!.to > 13 * MIB);
  },
);

test(
  "a signal stops grow() before the next step, and another grow() goes on",
  ["root"],
  async () => {
    const file = makeImage("stopped.img", 8, TWO);
    await using loop = await attach(file, { partscan: true });
    for (const step of ["table", "partition"] as const) {
      const stop = new AbortController();
      const onProgress = (now: GrowProgress) => {
        const isBefore = now.done === now.total &&
          (step === "table" ? "file" : "table") === now.step;
        if (isBefore) stop.abort(new Error(`stopped before ${step}`));
      };
      const options = { size: 16 * MIB, signal: stop.signal, onProgress };
      await assertRejects(() => loop.grow(2, options), Error, `stopped before ${step}`);
      assertEquals(statSync(file).size, 16 * MIB);
      assertEquals(loop.partitions[1].size < 8 * MIB, true);
    }
    const { partition, table } = await loop.grow(2);
    assertEquals([table?.writes, loop.partitions[1].size], [[], partition?.to]);
  },
);

test(
  "grow() takes the size of a file that has grown already, and of one within a file",
  ["root"],
  async () => {
    const file = makeImage("inside.img", 8, TWO);
    const disk = readFileSync(file);
    const outer = scratch("outer.img");
    const offset = 4096;
    writeFileSync(outer, new Uint8Array(offset));
    appendFileSync(outer, disk);
    await using loop = await attach(outer, { offset, partscan: true });
    truncateSync(outer, offset + 20 * MIB);
    const { file: size, device, partition } = await loop.grow();
    assertEquals([size.from, size.to], [offset + 20 * MIB, offset + 20 * MIB]);
    assertEquals([device.from, device.to], [8 * MIB, 20 * MIB]);
    assertEquals(loop.partitions[1].size, partition?.to);
    const { header, partitions } = await readPartitions(outer, { offset });
    assertEquals([header, partitions[1].size], ["primary", partition?.to]);
  },
);

test("grow() says beforehand what it would do, also of what cannot grow", ["root"], async () => {
  const file = makeImage("planned.img", 8, TWO);
  {
    // Without its partitions: the kernel gets the one that grows.
    await using loop = await attach(file);
    const planned = await loop.grow(2, { size: 16 * MIB, dryRun: true });
    assertEquals([loop.size, planned.file.from, planned.file.to], [8 * MIB, 8 * MIB, 16 * MIB]);
    await using theirs = await attach(loop.path);
    assertStringIncludes(
      await refusal("EINVAL", () => theirs.grow(2, { size: 16 * MIB })),
      "it lies on a block device",
    );
    const { partition } = await loop.grow(2, { size: 16 * MIB });
    assertEquals(loop.partitions.find(({ number }) => number === 2)?.size, partition?.to);
    truncateSync(file, 15 * MIB);
    assertStringIncludes(await refusal("EINVAL", () => loop.grow()), "shorter than the device");
  }
  const bare = makeImage("bare.img", 1);
  await refusal("ENXIO", () => growImage(bare, { partition: 1, dryRun: true }));
  assertEquals(Object.keys(await growImage(bare, { dryRun: true })), ["file", "device"]);
});

test("grow() grows a btrfs in pieces, and says that its driver takes no small one", [
  "root",
  "mkfs.btrfs",
], async () => {
  const file = makeImage("pieces.img", 120);
  output(["mkfs.btrfs", "-q", file]);
  const small = await growImage(file, { size: 200 * MIB });
  assertEquals(small.fileSystem?.to, small.fileSystem?.from);
  assertStringIncludes(small.fileSystem!.reason!, "it takes no size below 256 MiB");
  const GIB = 1024 * MIB;
  const stop = new AbortController();
  const onProgress = ({ step, done }: GrowProgress) => {
    if (step === "fileSystem" && done > 0) stop.abort(new Error("enough"));
  };
  const options = { size: 200 * GIB, onProgress, signal: stop.signal };
  await assertRejects(() => growImage(file, options), Error, "enough");
  assertDetached(file);
  const { fileSystem } = await growImage(file);
  assertEquals([fileSystem!.from! > 60 * GIB, fileSystem!.from! < 70 * GIB], [true, true]);
  assertEquals(fileSystem?.to, 200 * GIB);
  assertEquals(run(["btrfs", "check", file]).status, 0);
});

test("grow() says that somebody has changed the file, or the kernel's partitions, meanwhile", [
  "root",
  "partx",
], async () => {
  const file = makeImage("meanwhile.img", 16, "label: gpt\nsize=1MiB\nsize=2MiB\n");
  await using loop = await attach(file, { partscan: true });
  const onProgress = ({ step, done }: GrowProgress) => {
    if (step === "file" && done > 0) truncateSync(file, 18 * MIB);
  };
  const message = await refusal("EBUSY", () => loop.grow(2, { size: 20 * MIB, onProgress }));
  assertStringIncludes(message, `the device has ${18 * MIB} bytes, not ${20 * MIB}`);
  // A partition that is in no table, and in use: the kernel keeps it.
  output(["addpart", loop.path, "9", `${6 * 2048}`, "2048"]);
  {
    await using _ = await holdOpen(`${loop.path}p9`);
    const busy = await refusal("EBUSY", () => loop.grow(2));
    assertStringIncludes(busy, `${loop.path}p9: process `);
  }
  const { partition } = await loop.grow(2);
  assertEquals(loop.partitions[1].size, partition?.to);
});

test("grow() takes the table from the disk, not from what the device had read before", [
  "root",
  "sfdisk",
], async () => {
  const file = makeImage("behind.img", 16, "label: gpt\nsize=1MiB\n");
  await using loop = await attach(file, { partscan: true });
  await loop.grow(1, { dryRun: true });
  output(["sfdisk", "-q", "--append", "--no-reread", file], { input: "size=1MiB, name=new\n" });
  const message = await refusal("ENOSPC", () => loop.grow(1, { size: 32 * MIB }));
  assertStringIncludes(message, "partition 2 begins right behind it");
  const { partition } = await loop.grow({ name: "new" }, { size: 32 * MIB });
  assertEquals(loop.partitions.map(({ size }) => size), [MIB, partition?.to]);
});

test("grow() cuts no file that another program has made larger meanwhile", ["root"], async () => {
  const file = makeImage("larger.img", 16, TWO);
  await using loop = await attach(file);
  const onProgress = ({ step, done }: GrowProgress) => {
    if (step === "file" && done === 0) truncateSync(file, 40 * MIB);
  };
  const message = await refusal("EBUSY", () => loop.grow(2, { size: 20 * MIB, onProgress }));
  assertStringIncludes(message, `given its file ${40 * MIB} bytes meanwhile`);
  assertEquals(statSync(file).size, 40 * MIB);
  assertEquals((await loop.grow(2)).device.to, 40 * MIB);
});

test("grow() mounts no whole device for a partition that the kernel does not number", [
  "root",
  "mkfs.btrfs",
  "sfdisk",
], async () => {
  const file = makeImage("far.img", 200);
  const table = "label: gpt\ntable-length: 512\n300: start=2048, size=130MiB\n";
  output(["sfdisk", "-q", file], { input: table });
  {
    await using loop = await attach(file, { offset: MIB, sizelimit: 130 * MIB });
    output(["mkfs.btrfs", "-q", loop.path]);
  }
  const { partition, fileSystem } = await growImage(file, { size: 400 * MIB });
  assertEquals(fileSystem?.to, fileSystem?.from);
  const range = { offset: MIB, sizelimit: partition!.to };
  const { offset, sizelimit } = range;
  assertStringIncludes(
    fileSystem!.reason!,
    `growImage() with offset: ${offset}, sizelimit: ${sizelimit} grows it`,
  );
  assertEquals((await growImage(file, range)).fileSystem?.to, partition?.to);
});

test("grow() leaves the footer of a VHD where it is, and the raw image of it grows", [
  "root",
  "qemu-img",
], async () => {
  const raw = makeImage("raw.img", 16, "label: gpt\nsize=8MiB\n");
  const file = scratch("fixed.vhd");
  const fixed = ["-O", "vpc", "-o", "subformat=fixed,force_size=on"];
  output(["qemu-img", "convert", "-f", "raw", ...fixed, raw, file]);
  const before = sum(file);
  for (const options of [{}, { size: 32 * MIB }, { dryRun: true }]) {
    const message = await refusal("EOPNOTSUPP", () => growImage(file, options));
    assertStringIncludes(message, "qemu-img convert -f vpc -O raw FILE DISK");
    assertEquals(sum(file), before);
  }
  output(["qemu-img", "convert", "-f", "vpc", "-O", "raw", file, raw]);
  const { partition } = await growImage(raw, { size: 32 * MIB });
  assert(partition!.to > 30 * MIB);
});

/** A file with a superblock 1.0 of a RAID at the end of so many bytes. */
function putMember(file: string, start: number, size: number): void {
  const at = size - 8192;
  const raw = new DataView(new ArrayBuffer(256));
  raw.setUint32(0, 0xa92b4efc, true);
  raw.setUint32(4, 1, true);
  raw.setBigUint64(0x90, BigInt(at / 512), true);
  const bytes = readFileSync(file);
  bytes.set(new Uint8Array(raw.buffer), start + at);
  writeFileSync(file, bytes);
}

test(
  "grow() moves no end away from a RAID's superblock",
  ["root", "wipefs", "sfdisk"],
  async () => {
    const file = makeImage("member.img", 16, "label: gpt\nsize=8MiB\nsize=1MiB\n");
    putMember(file, MIB, 8 * MIB);
    const last = { size: 32 * MIB };
    assertEquals((await growImage(file, { ...last, dryRun: true })).partition?.number, 2);
    output(["sfdisk", "-q", "--delete", file, "2"]);
    const before = sum(file);
    const message = await refusal("EOPNOTSUPP", () => growImage(file, last));
    assertStringIncludes(message, "partition 1 cannot grow: it holds a linux_raid_member");
    assertEquals(sum(file), before);
    {
      await using loop = await attach(file, { partscan: true });
      output(["wipefs", "-a", "-t", "linux_raid_member", loop.partitions[0].path]);
    }
    assertDetached(file);
    assert((await growImage(file, last)).partition!.to > 30 * MIB);
    const whole = makeImage("whole.img", 16, "label: gpt\nsize=8MiB\n");
    putMember(whole, 0, 16 * MIB);
    // The backup of its GPT would be written over the superblock.
    assertStringIncludes(
      await refusal("EOPNOTSUPP", () => growImage(whole)),
      "it holds a linux_raid",
    );
    const bare = makeImage("bare-member.img", 16);
    putMember(bare, 0, 16 * MIB);
    await refusal("EOPNOTSUPP", () => growImage(bare, last));
    assertEquals((await growImage(bare)).fileSystem?.type, "linux_raid_member");
  },
);

test("grow() opens the device by its node where it can make none, and no other device", [
  "root",
  "mount",
], () => {
  const file = makeImage("node.img", 8, TWO);
  const script = scratch("node.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { spawnSync } from "node:child_process";
     await using loop = await attach(${JSON.stringify(file)}, { partscan: true });
     spawnSync("mount", ["--bind", "/dev/null", loop.path]);
     const refused = await loop.grow(2, { size: 16 * 2 ** 20 }).catch(({ code, message }) => code + message);
     spawnSync("umount", [loop.path]);
     const { partition } = await loop.grow(2);
     console.log(JSON.stringify([refused, partition.to === loop.partitions[1].size]));`,
  );
  const said = output([...isolated("read-only=/dev"), ...onThisRuntime(script)]);
  const [refused, isGrown] = JSON.parse(said);
  assertStringIncludes(refused, "ENOTBLK: block device required, '/dev/loop");
  assertStringIncludes(refused, "its node is another device's");
  assertEquals(isGrown, true);
});

test("grow() says that what its mount wrote is lost", [
  "root",
  "strace",
  "mkfs.btrfs",
], () => {
  const file = makeImage("lost.img", 256);
  output(["mkfs.btrfs", "-q", file]);
  const { stdout } = tracedWithFault(
    `const grow = async () => {
       await using loop = await attach(${JSON.stringify(file)});
       return await loop.grow(undefined, { size: loop.size + 2 ** 26 });
     };
     const told = await grow().catch(({ code, syscall, message }) => [code, syscall, message]);
     console.log(JSON.stringify(told));`,
    { calls: "openat,syncfs" },
    { call: /^syncfs/, how: (nth) => `error=EIO:when=${nth}` },
  );
  const [code, syscall, message] = JSON.parse(stdout);
  assertEquals([code, syscall], ["EIO", "syncfs"]);
  assertStringIncludes(message, `has reached ${file}: is there space left`);
});

test("grow() says that a kernel lets nobody write a device that is mounted", [
  "root",
  "strace",
  "mount",
], async () => {
  const file = makeImage("forbidden.img", 8, TWO);
  await using own = ownDevices(1);
  const [script, cmdline] = [scratch("forbidden.ts"), scratch("cmdline")];
  writeFileSync(cmdline, "quiet bdev_allow_write_mounted=0\n");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { spawnSync } from "node:child_process";
     const said = [];
     await using loop = await attach(${JSON.stringify(file)}, { partscan: true, number: ${
      own.numbers[0]
    } });
     for (const size of [16, 17]) {
       const { code, message } = await loop.grow(2, { size: size * 2 ** 20 }).catch((error) => error);
       said.push(code, message);
       spawnSync("mount", ["--bind", ${JSON.stringify(cmdline)}, "/proc/cmdline"]);
     }
     console.log(JSON.stringify(said));`,
  );
  // Where no node of its own can be made, the device's own is opened: for the bind, and then by grow().
  const strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", own.paths[0]];
  const fault = ["-e", "trace=openat", "-e", "inject=openat:error=EBUSY:when=2+"];
  const command = [...isolated("read-only=/dev"), ...strace, ...fault, ...onThisRuntime(script)];
  const [code, unknown, again, known] = JSON.parse(output(command));
  assertEquals([code, again], ["EBUSY", "EBUSY"]);
  assertStringIncludes(unknown, "this kernel lets nobody write to what is mounted");
  assertStringIncludes(
    known,
    "the kernel's command line has bdev_allow_write_mounted=0: unmount it",
  );
});

test("planFileSystem() says what grows the contents that loopdev does not", [], () => {
  const reason = (type: string, usage: string) =>
    planFileSystem({ type, usage } as FileSystem, undefined, MIB).reason;
  assertEquals(reason("LVM2_member", "raid")?.includes("pvresize"), true);
  assertStringIncludes(reason("swap", "swap")!, "mkswap again with the UUID (-U)");
  assertEquals(reason("bcache", "other"), "what is inside of it is yours to grow");
  assertEquals(reason("f2fs", "filesystem")?.includes("the tool for it is resize.f2fs"), true);
  assertEquals(reason("udf", "filesystem"), "the kernel has no request that grows udf");
  const size = { size: MIB, block: 4096 };
  assertEquals(
    planFileSystem({ type: "xfs", usage: "filesystem" } as FileSystem, size, MIB + 4095),
    { type: "xfs", from: MIB, to: MIB },
  );
});
