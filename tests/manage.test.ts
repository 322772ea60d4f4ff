/** Everything between attach and detach: devices of others, growing, changing, looking. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import {
  attach,
  attachAll,
  detach,
  find,
  list,
  LoopError,
  openLoop,
  readPartitions,
  status,
} from "../mod.ts";
import { writeTable } from "./cases/disk_image.ts";
import {
  attachElsewhere,
  detachElsewhere,
  type ElsewhereOptions,
  identity,
} from "./support/others.ts";
import { ownDevices } from "./support/own_devices.ts";
import {
  assertDetached,
  holdOpen,
  isFile,
  leftAttached,
  losetup,
  makeImage,
  MOD,
  openDescriptors,
  output,
  PATIENTLY,
  scratch,
  sysfs,
  test,
  THREE_PARTITIONS,
  until,
} from "./support/support.ts";
import { traced } from "./support/traced.ts";

const MIB = 1024 * 1024;

/** A device that somebody else attached; detached at the end, if it still is. */
function foreign(file: string, options?: ElsewhereOptions): { path: string } & Disposable {
  const path = attachElsewhere(file, options);
  return { path, [Symbol.dispose]: () => void detachElsewhere(path, isFile(file)) };
}

test("status(), list() and find() say what losetup says", ["root"], async () => {
  const file = makeImage("theirs.img", 4);
  using loop = foreign(file, { offset: 4096, sizelimit: MIB, readOnly: true });
  const [row] = losetup(file);
  const found = await status(loop.path);
  assertEquals(
    [
      found.path,
      found.backingFile,
      found.offset,
      found.sizelimit,
      found.readOnly,
      found.sectorSize,
    ],
    [row.name, row["back-file"], row.offset, row.sizelimit, row.ro, row["log-sec"]],
  );
  assertEquals([found.autoclear, found.directIo, found.size], [row.autoclear, row.dio, MIB]);
  assertEquals({
    "maj:min": found.dev,
    "back-maj:min": found.backingDev,
    "back-ino": Number(found.backingInode),
    partscan: found.partscan,
  }, identity(loop.path, file));
  assertEquals((await list()).find(({ path }) => path === loop.path), found);

  linkSync(file, scratch("other-name.img"));
  assertEquals(await find(scratch("other-name.img")), [found]);
  assertEquals(await find(file, { offset: 4096, sizelimit: MIB }), [found]);
  assertEquals(await find(file, { offset: 0 }), []);
});

test("status() says Infinity where a number cannot hold the kernel's 64 bits", [
  "root",
], async () => {
  const file = makeImage("limit.img", 1);
  using loop = foreign(file, { sizelimit: 2 ** 62 });
  const { sizelimit, size } = await status(loop.path);
  assertEquals([sizelimit, size], [Infinity, MIB]);
  const error = await assertRejects(() => attach(file, { overlap: "refuse" }), LoopError);
  assertEquals(error.code, "EEXIST");
});

test("status() and openLoop() say what is wrong", ["root"], async () => {
  // A device that no neighbour takes.
  await using own = ownDevices(1);
  const loop = await attach(makeImage("gone.img", 1), { number: own.numbers[0] });
  assertEquals(await loop.detach(PATIENTLY), "detached");
  const unbound = await assertRejects(() => status(loop.path), LoopError, "no file is bound to it");
  assertEquals(unbound.code, "ENXIO");
  await using parted = await attach(makeImage("parted.img", 8, THREE_PARTITIONS), {
    partscan: true,
  });
  const other = scratch("other");
  output(["mknod", other, "b", "240", "5"]);
  const nodes = [
    ["/dev/null", "a character device"],
    [other, "device 240:5"],
    [parted.partitions[1].path, `a partition of ${parted.path}`],
  ];
  for (const look of [status, openLoop]) {
    for (const [path, what] of nodes) {
      const says = `it is ${what}, not a loop device`;
      const error = await assertRejects(() => look(path), LoopError, says);
      assertEquals(error.code, "ENOTBLK");
    }
  }
});

test(
  "openLoop() leaves another's device alone, detach() detaches it",
  ["root"],
  async () => {
    const file = makeImage("open.img", 8, THREE_PARTITIONS);
    using theirs = foreign(file);
    {
      await using loop = await openLoop(theirs.path);
      assertEquals([loop.backingFile, loop.size, loop.strategy], [file, 8 * MIB, "none"]);
    }
    assertEquals(losetup(file).length, 1);
    const loop = await openLoop(theirs.path);
    assertEquals(await loop.detach(PATIENTLY), "detached");
    assertEquals([leftAttached(file), openDescriptors()], [[], []]);
  },
);

test(
  "detach() takes a node or a file, and says what is not attached",
  ["root"],
  async () => {
    const file = makeImage("detach.img", 1);
    foreign(file), foreign(file);
    assertEquals(losetup(file).length, 2);
    assertEquals(await detach(file, PATIENTLY), "detached");
    assertDetached(file);
    using again = foreign(file);
    assertEquals(await detach(again.path, PATIENTLY), "detached");
    const error = await assertRejects(
      () => detach(file),
      LoopError,
      "not attached to any loop device",
    );
    assertEquals(error.code, "ENXIO");
  },
);

test("detach() of a partition names the device that can be detached", ["root"], async () => {
  const file = makeImage("partition.img", 4, "label: gpt\nsize=1MiB\n");
  await using loop = await attach(file, { partscan: true });
  const [{ path }] = loop.partitions;
  const error = await assertRejects(() => detach(path), LoopError);
  assertEquals([error.code, error.path], ["ENXIO", path]);
  assertStringIncludes(error.message, `it is a partition of ${loop.path}`);
  assertEquals(await loop.isCurrent(), true);
});

test(
  "detach() with remove takes the device away, attach() with number makes it",
  ["root"],
  async () => {
    const file = makeImage("number.img", 1);
    await using own = ownDevices(1);
    const [[number], [path]] = [own.numbers, own.paths];
    const loop = await attach(file, { number });
    assertEquals(loop.path, path);
    const taken = await assertRejects(() => attach(file, { number }), LoopError);
    assertEquals(taken.code, "EBUSY");
    await loop.persist();
    {
      await using _held = await holdOpen(path);
      const options = { remove: true, timeout: 0 };
      assertEquals(await detach(path, options), "deferred");
      assertEquals(existsSync(`/sys/block/loop${number}`), true);
    }
    await until(() => losetup(file).length === 0, "the device to go");
    const last = await attach(file, { number });
    await last.persist();
    assertEquals(await detach(path, { remove: true, ...PATIENTLY }), "detached");
    assertEquals(existsSync(`/sys/block/loop${number}`), false);
    // Its handle does not take that for an error.
    const gone = await attach(file, { number });
    assertEquals(await gone.detach(PATIENTLY), "detached");
    await own[Symbol.asyncDispose]();
    assertEquals([await gone.holders(), existsSync(`/sys/block/loop${number}`)], [[], false]);
  },
);

test("detach() with remove waits for those who look at the free device", [
  "root",
  "strace",
], async () => {
  const file = makeImage("looked.img", 1);
  await using own = ownDevices(1);
  const [[number], [path]] = [own.numbers, own.paths];
  const body = `const { detach } = await import(${JSON.stringify(MOD)});
    console.log(await detach("${path}", { remove: true, timeout: 30_000 }));`;
  const on = "/dev/loop-control";
  for (const inject of ["error=EBUSY:when=1..2", "error=ENODEV:when=1"]) {
    attachElsewhere(file, { number });
    const tracing = { calls: "ioctl", on, here: true, inject: `ioctl:${inject}` };
    assertEquals(traced(body, tracing).stdout, "detached\n", inject);
  }
});

test("holders() names who holds the device or a partition", ["root"], async () => {
  const file = makeImage("holders.img", 8, THREE_PARTITIONS);
  await using loop = await attach(file, { partscan: true });
  const { path } = loop.partitions[1];
  await using _ = await holdOpen(path);
  // Whoever looks at all devices may hold it for a moment, too.
  const held = (await loop.holders()).filter((one) => one.path === path && one.by.includes("(sh)"));
  assertEquals(held.map(({ kind }) => kind), ["process"]);
});

test("attach() with overlap refuses what is attached, or reuses it", ["root"], async () => {
  const file = makeImage("overlap.img", 4);
  await using first = await attach(file, { offset: MIB, sizelimit: MIB });
  for (const range of [{ offset: MIB, sizelimit: MIB }, { offset: 0 }, { offset: 1.5 * MIB }]) {
    const error = await assertRejects(
      () => attach(file, { ...range, overlap: "refuse" }),
      LoopError,
    );
    assertEquals(error.code, "EEXIST");
    assertStringIncludes(error.message, `${first.path} (offset 1048576, sizelimit 1048576)`);
  }
  await using beside = await attach(file, { offset: 2 * MIB, overlap: "refuse" });
  assert(beside.number !== first.number);
  {
    await using same = await attach(file, { offset: MIB, sizelimit: MIB, overlap: "reuse" });
    assertEquals(same.path, first.path);
  }
  assertEquals(await first.isCurrent(), true, "the second handle must leave it alone");
  await assertRejects(
    () => attach(file, { offset: MIB, sizelimit: MIB, overlap: "reuse", readOnly: true }),
    LoopError,
    "attached writable",
  );
});

test("attach() with reference sets lo_file_name", ["root"], async () => {
  const reference = "x".repeat(63);
  await using loop = await attach(makeImage("reference.img", 1), { reference });
  assertEquals((await status(loop.path)).reference, reference);
  await assertRejects(
    () => attach("/nowhere", { reference: "ü".repeat(32) }),
    RangeError,
    "64 bytes",
  );
  const none = 5 as unknown as string;
  await assertRejects(() => attach("/nowhere", { reference: none }), TypeError, "not 5");
});

test(
  "setCapacity(), setSectorSize() and setDirectIo() are what sysfs says then",
  ["root"],
  async () => {
    const file = makeImage("change.img", 4);
    await using loop = await attach(file);
    truncateSync(file, 6 * MIB);
    assertEquals(loop.size, 4 * MIB);
    await loop.setCapacity();
    assertEquals(loop.size, 6 * MIB);
    await loop.setSectorSize(4096);
    assertEquals(loop.sectorSize, Number(sysfs(`loop${loop.number}/queue/logical_block_size`)));
    assertEquals(loop.sectorSize, 4096);
    await loop.setDirectIo(true);
    assertEquals([loop.directIo, sysfs(`loop${loop.number}/loop/dio`)], [true, "1"]);
    await loop.setDirectIo(false);
    assertEquals([loop.directIo, sysfs(`loop${loop.number}/loop/dio`)], [false, "0"]);
    await assertRejects(
      () => loop.setSectorSize(513 as 512),
      RangeError,
      "sectorSize must be one of",
    );
  },
);

test("attach() and changeFile() refuse a file that the kernel makes up", ["root"], async () => {
  // What a file of sysfs says that it has: 4096 bytes.
  const [file, copy] = [scratch("page.img"), scratch("copy.img")];
  writeFileSync(file, new Uint8Array(4096));
  await using loop = await attach(file, { readOnly: true });
  const hint = (name: string) => `it is a file of ${name}, which the kernel makes up: copy it`;
  for (const made of ["/sys/block/zram0/uevent", `/sys/block/loop${loop.number}/uevent`]) {
    if (!existsSync(made)) continue;
    await assertRejects(() => attach(made), LoopError, hint("sysfs"));
    await assertRejects(() => attach(made, { readOnly: true }), LoopError, hint("sysfs"));
    await assertRejects(() => loop.changeFile(made), LoopError, hint("sysfs"));
  }
  await assertRejects(() => attach("/proc/kallsyms"), LoopError, hint("proc"));
  assertEquals(loop.backingFile, file);
  // As the message says.
  // Not copyFileSync(): on Node that copies as much as stat(2) says there is, nothing.
  writeFileSync(copy, readFileSync("/proc/kallsyms"));
  await (await attach(copy)).detach();
});

test("changeFile() needs a read-only device and the same size", ["root"], async () => {
  const [file, other] = [makeImage("one.img", 1), makeImage("two.img", 1)];
  const longer = makeImage("longer.img", 2);
  await using loop = await attach(file, { readOnly: true });
  assertEquals(await loop.isCurrent(), true);
  await loop.changeFile(other);
  assertEquals([loop.backingFile, await loop.isCurrent()], [other, true]);
  await assertRejects(() => loop.changeFile(longer), LoopError, "the same size");
  await using writable = await attach(file);
  await assertRejects(() => writable.changeFile(other), LoopError, "read-only device");
});

test("changeFile() refuses what is no image, and waits for no writer of a FIFO", [
  "root",
], async () => {
  const file = makeImage("page.img", 1);
  const fifo = scratch("fifo");
  output(["mkfifo", fifo]);
  await using loop = await attach(file, { readOnly: true });
  const cases = [
    [fifo, "EINVAL", "it is a FIFO; only regular files and block devices can be attached"],
    [scratch("."), "EISDIR", "a directory cannot be attached"],
    ["/dev/null", "EINVAL", "it is a character device"],
  ];
  for (const [path, code, says] of cases) {
    const error = await assertRejects(() => loop.changeFile(path), LoopError, says);
    assertEquals([error.code, loop.backingFile], [code, file]);
  }
});

test(
  "isCurrent() knows when the device is somebody else's by now",
  ["root"],
  async () => {
    const file = makeImage("current.img", 1);
    using theirs = foreign(file);
    await using loop = await openLoop(theirs.path);
    assertEquals(await loop.isCurrent(), true);
    {
      await using again = await openLoop(theirs.path);
      assertEquals(await again.detach(), "deferred", "we hold it ourselves");
    }
    await loop[Symbol.asyncDispose]();
    // Whoever looks at all devices just then has the last close.
    await until(async () => !await loop.isCurrent(), "the device to be let go");
  },
);

test("rescan() adds, removes, resizes, and never touches what is unchanged", ["root"], async () => {
  const file = makeImage("rescan.img", 16, "label: gpt\n1: size=1MiB\n2: size=1MiB\n");
  await using loop = await attach(file);
  assertEquals(loop.partitions, []);
  await loop.rescan();
  assertEquals(loop.partitions.map(({ number, size }) => [number, size]), [[1, MIB], [2, MIB]]);
  // Held open the whole time: dropping it would fail, and so would the rescan.
  await using _ = await holdOpen(loop.partitions[0].path);
  const table = "label: gpt\n1: start=2048, size=2048\n2: start=4096, size=8192\n4: size=1MiB\n";
  writeTable(file, table);
  await loop.rescan();
  assertEquals(
    loop.partitions.map(({ number, start, size }) => [number, start, size]),
    [[1, MIB, MIB], [2, 2 * MIB, 4 * MIB], [4, 6 * MIB, MIB]],
  );
  assertEquals(Number(sysfs(`loop${loop.number}/loop${loop.number}p2/size`)) * 512, 4 * MIB);

  writeTable(
    file,
    "label: gpt\n1: start=2048, size=1024\n2: start=4096, size=6144\n4: size=1MiB\n",
  );
  await loop.rescan();
  assertEquals(loop.partitions.map(({ size }) => size), [MIB / 2, 3 * MIB, MIB]);

  writeTable(file, "label: gpt\n1: start=4096, size=2048\n");
  const error = await assertRejects(() => loop.rescan(), LoopError, "unmount it first");
  assertEquals([error.code, error.request], ["EBUSY", "BLKPG_DEL_PARTITION"]);
});

test("rescan() grows into a device that setCapacity() has grown", ["root"], async () => {
  const file = makeImage("grow.img", 4, "label: dos\nstart=2048, size=1MiB\n");
  await using loop = await attach(file, { partscan: true });
  truncateSync(file, 8 * MIB);
  await loop.setCapacity();
  writeTable(file, "label: dos\nstart=2048, size=6MiB\n");
  const [grown] = await loop.rescan();
  assertEquals([grown.start, grown.size], [MIB, 6 * MIB]);
});

test("a backing file may be deleted, or a block device", ["root"], async () => {
  const file = makeImage("deleted.img", 1);
  await using outer = await attach(file);
  await using inner = await attach(outer.path);
  writeFileSync(inner.path, "through both");
  output(["sync", inner.path]);
  assertStringIncludes(readFileSync(file, "latin1"), "through both");
  output(["rm", file]);
  assertEquals((await status(outer.path)).backingFile, `${file} (deleted)`);
});

test("a relative name is meant at the time of the call, wherever the process goes then", [
  "root",
], async () => {
  const folder = scratch("here");
  mkdirSync(folder);
  const image = makeImage("here/disk.img", 4, "label: gpt\nsize=1MiB\n");
  const back = process.cwd();
  /** Calls in the folder, and leaves it before the first turn of the event loop. */
  const there = async <T>(call: () => Promise<T>): Promise<T> => {
    process.chdir(folder);
    const calling = call();
    process.chdir(back);
    return await calling;
  };
  const { partitions } = await there(() => readPartitions("disk.img"));
  assertEquals(partitions.length, 1);
  {
    await using loop = await there(() => attach("disk.img"));
    assertEquals(loop.backingFile, image);
    const [found] = await there(() => find("disk.img"));
    assertEquals(found.path, loop.path);
  }
  const loops = await there(() => attachAll(["disk.img", "disk.img"], { overlap: "allow" }));
  assertEquals(loops.map(({ backingFile }) => backingFile), [image, image]);
  assertEquals(await there(() => detach("disk.img")), "deferred");
  await loops[Symbol.asyncDispose]();
  const error = await assertRejects(() => there(() => attach("none.img")), LoopError);
  assertEquals([error.code, error.path], ["ENOENT", join(folder, "none.img")]);
});
