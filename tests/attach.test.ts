import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { closeSync, openSync, readdirSync, writeFileSync, writeSync } from "node:fs";
import { attach, LoopError } from "../mod.ts";
import { blkpgAddPartition, blkRoSet } from "../lib/kernel/block.ts";
import { O_RDONLY, O_RDWR, open } from "../lib/kernel/file.ts";
import { ownDevices, withOwnDevices } from "./support/own_devices.ts";
import {
  assertDetached,
  holdOpen,
  leftAttached,
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  openDescriptors,
  output,
  PATIENTLY,
  run,
  scratch,
  sysfs,
  test,
  THREE_PARTITIONS,
  until,
  withStaticDev,
} from "./support/support.ts";

const MIB = 1024 * 1024;

test("attach() binds the file, and losetup and sysfs agree with the handle", ["root"], async () => {
  const file = makeImage("plain.img", 4);
  await using loop = await attach(file);
  assertEquals(losetup(file), [{
    name: loop.path,
    "back-file": loop.backingFile,
    offset: loop.offset,
    sizelimit: loop.sizelimit,
    autoclear: true,
    ro: loop.readOnly,
    dio: loop.directIo,
    "log-sec": loop.sectorSize,
  }]);
  assertEquals(loop.path, `/dev/loop${loop.number}`);
  assertEquals(loop.backingFile, file);
  assertEquals(loop.size, Number(sysfs(`loop${loop.number}/size`)) * 512);
  assertEquals(loop.size, 4 * MIB);
  assertEquals(loop.diskseq, Number(sysfs(`loop${loop.number}/diskseq`)));
  assertEquals([loop.strategy, loop.partitions], ["none", []]);
});

test("attach() sets offset, sizelimit, sectorSize, readOnly as losetup reads them back", [
  "root",
], async () => {
  const file = makeImage("options.img", 4);
  await using loop = await attach(file, {
    offset: 1 * MIB,
    sizelimit: 2 * MIB,
    sectorSize: 4096,
    readOnly: true,
  });
  const [row] = losetup(file);
  assertEquals(
    [row.offset, row.sizelimit, row["log-sec"], row.ro],
    [1 * MIB, 2 * MIB, 4096, true],
  );
  assertEquals(
    [loop.offset, loop.sizelimit, loop.sectorSize, loop.readOnly, loop.size],
    [1 * MIB, 2 * MIB, 4096, true, 2 * MIB],
  );
});

test("attach() with directIo bypasses the page cache, or rejects where that cannot be", [
  "root",
], async () => {
  const file = makeImage("dio.img", 4);
  await using loop = await attach(file, { directIo: true });
  assertEquals([loop.directIo, losetup(file)[0].dio], [true, true]);

  // A backing file on the loop device's own 512-byte sectors, asked for with an odd offset.
  const error = await assertRejects(() => attach(file, { directIo: true, offset: 100 }), LoopError);
  assertEquals([error.code, error.request], ["EOPNOTSUPP", "LOOP_CONFIGURE"]);
  assertStringIncludes(error.message, "direct I/O is false, asked for true");
  await until(() => losetup(file).length === 1, "the refused device to go");
});

test("attach() is read-only by itself where the file cannot be written", ["root"], async () => {
  const file = makeImage("ro.img", 1);
  await using outer = await attach(file, { readOnly: true });
  await using inner = await attach(outer.path);
  assertEquals([inner.readOnly, inner.backingFile], [true, outer.path]);
  await assertRejects(() => attach(outer.path, { readOnly: false }), LoopError);
});

test("attach() is writable though an earlier use has left the device read-only", [
  "root",
], async () => {
  const file = makeImage("earlier.img", 1);
  await using own = ownDevices(1);
  const [number] = own.numbers;
  {
    await using loop = await attach(file, { number });
    using device = open(loop.path, O_RDONLY);
    blkRoSet(device, true);
  }
  assertDetached(file);
  await using loop = await attach(file, { number });
  assertEquals([loop.readOnly, losetup(file)[0].ro], [false, false]);
  writeFileSync(loop.path, "written");
});

test("attach() clamps size to the file and to whole sectors", ["root"], async () => {
  const file = scratch("odd.img");
  writeFileSync(file, new Uint8Array(5 * 512 + 100));
  await using beyond = await attach(file, { sizelimit: 1 * MIB });
  assertEquals(beyond.size, 5 * 512);
  await using tail = await attach(file, { offset: 4 * 512 });
  assertEquals(tail.size, 512);
});

for (const workaround of ["auto", "always", "never"] as const) {
  for (const partscan of [true, "userspace"] as const) {
    test(`attach() makes every partition usable: partscan ${partscan}, workaround ${workaround}`, [
      "root",
    ], async () => {
      const file = makeImage("gpt.img", 8, THREE_PARTITIONS);
      const marks = [1, 2, 4].map((mib, i) =>
        [mib * MIB, `contents of partition ${i + 1}`] as const
      );
      const fd = openSync(file, "r+");
      for (const [offset, mark] of marks) {
        writeSync(fd, new TextEncoder().encode(mark), 0, mark.length, offset);
      }
      closeSync(fd);

      // A device that nobody else takes in the moment in which we look at what is left of it.
      await using own = ownDevices(1);
      const [number] = own.numbers;
      await using loop = await attach(file, { partscan, workaround, number });
      const { partitions } = loop;
      assertEquals(
        partitions.map(({ number, path, start, size, name }) => [number, path, start, size, name]),
        [
          [1, `${loop.path}p1`, 1 * MIB, 1 * MIB, "one"],
          [2, `${loop.path}p2`, 2 * MIB, 2 * MIB, "zwei ü"],
          [3, `${loop.path}p3`, 4 * MIB, 3 * MIB, "three"],
        ],
      );
      for (const [i, { path, size, start }] of partitions.entries()) {
        const name = path.slice("/dev/".length);
        assertEquals(Number(sysfs(`loop${loop.number}/${name}/size`)) * 512, size);
        assertEquals(Number(sysfs(`loop${loop.number}/${name}/start`)) * 512, start);
        const begin = output(["head", "--bytes", "64", path]).replace(/\0.*/s, "");
        assertEquals(begin, marks[i][1]);
      }
      assertEquals(sysfs(`loop${loop.number}/loop/partscan`), partscan === true ? "1" : "0");
      const strategies = { auto: loop.strategy, always: "two-step", never: "one-step" };
      assertEquals(loop.strategy, partscan === true ? strategies[workaround] : "userspace");

      assertEquals(await loop.detach(PATIENTLY), "detached");
      assertDetached(file);
      assertEquals(run(["sh", "-c", `ls -d ${loop.path}p*`]).stdout, "", "nodes left behind");
    });
  }
}

test(
  "attach() with partscan resolves at once with [] where there is no table",
  ["root"],
  async () => {
    const file = makeImage("empty.img", 1);
    const start = performance.now();
    await using loop = await attach(file, { partscan: true, timeout: 60_000 });
    assertEquals(loop.partitions, []);
    assert(performance.now() - start < 10_000);
  },
);

test("attach() reads a table of 4096-byte sectors with sectorSize 4096", ["root"], async () => {
  const file = makeImage("4k.img", 8, THREE_PARTITIONS, 4096);
  await using loop = await attach(file, { partscan: true, sectorSize: 4096 });
  assertEquals(loop.partitions.map(({ start }) => start), [1 * MIB, 2 * MIB, 4 * MIB]);
});

test("attach() adds logical partitions and the extended one", ["root"], async () => {
  const table = "label: dos\nsize=1MiB, type=83\ntype=5\nsize=1MiB, type=82\ntype=83\n";
  const file = makeImage("ebr.img", 8, table);
  await using loop = await attach(file, { partscan: true });
  assertEquals(loop.partitions.map(({ number, type }) => [number, type]), [
    [1, "0x83"],
    [2, "0x5"],
    [5, "0x82"],
    [6, "0x83"],
  ]);
});

test("attach() removes partitions that an earlier user left on a free device", [
  "root",
], async () => {
  const file = makeImage("stale.img", 8);
  await using own = ownDevices(1);
  const [number] = own.numbers;
  await using earlier = await attach(file, { number });
  {
    using device = open(earlier.path, O_RDWR);
    blkpgAddPartition(device, { number: 7, start: 1 * MIB, size: 1 * MIB });
  }
  await earlier.detach(PATIENTLY);
  await using loop = await attach(file, { partscan: "userspace", number });
  assertEquals(loop.partitions, []);
  assertEquals(run(["sh", "-c", `ls -d ${loop.path}p*`]).stdout, "");
});

test("attach() gives many callers at once a device each", ["root"], async () => {
  const files = Array.from({ length: 24 }, (_, i) => makeImage(`many-${i}.img`, 1));
  const loops = await Promise.all(files.map((file) => attach(file)));
  assertEquals(new Set(loops.map(({ path }) => path)).size, files.length);
  for (const [i, file] of files.entries()) assertEquals(losetup(file)[0].name, loops[i].path);
  await Promise.all(loops.map((loop) => loop.detach()));
  for (const file of files) assertDetached(file);
});

test("attach() takes names with spaces, newlines, umlauts and 200 bytes", ["root"], async () => {
  for (const name of ["with space", "new\nline", "ümläüt", "x".repeat(63), "ü".repeat(100)]) {
    const file = makeImage(name, 1);
    await using loop = await attach(file);
    assertEquals(loop.backingFile, file);
  }
});

test("attach() undoes everything when it is aborted", ["root"], async () => {
  const file = makeImage("abort.img", 8, THREE_PARTITIONS);
  const reason = new Error("never mind");
  const already = AbortSignal.abort(reason);
  assertEquals(await attach(file, { signal: already }).catch((error) => error), reason);

  const later = new AbortController();
  const attaching = attach(file, { partscan: true, workaround: "always", signal: later.signal });
  later.abort(reason);
  assertEquals(await attaching.catch((error) => error), reason);
  assertEquals([leftAttached(file), openDescriptors()], [[], []]);
});

test("attach() that is aborted when its partitions are there removes them", ["root"], async () => {
  const file = makeImage("late.img", 8, THREE_PARTITIONS);
  const reason = new Error("never mind");
  await withOwnDevices(async (number) => {
    const partitions = () =>
      readdirSync(`/sys/block/loop${number}`).filter((name) => name.startsWith(`loop${number}p`));
    const stopping = new AbortController();
    const { signal } = stopping;
    // The last look at the signal is the first one after the partitions have come.
    Object.defineProperty(signal, "throwIfAborted", {
      value() {
        if (partitions().length > 0) stopping.abort(reason);
        AbortSignal.prototype.throwIfAborted.call(signal);
      },
    });
    const options = { partscan: "userspace", number, signal } as const;
    assertEquals(await attach(file, options).catch((error) => error), reason);
    assertEquals([leftAttached(file), openDescriptors(), partitions()], [[], [], []]);
  });
});

test("attach() names the missing nodes at the timeout, with everything undone", [
  "root",
], async () => {
  const file = makeImage("static.img", 8, THREE_PARTITIONS);
  await using own = ownDevices(1);
  const [[number], [path]] = [own.numbers, own.paths];
  const script = scratch("static.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     const options = { partscan: true, timeout: 200, nodes: "kernel", number: ${number} };
     const error = await attach(${JSON.stringify(file)}, options).catch((error) => error);
     console.log(JSON.stringify({ code: error.code, message: error.message }));`,
  );
  // The loop device is there, nobody makes nodes for partitions.
  const nodes = `mknod /dev/loop-control c 10 237 && mknod ${path} b 7 ${number}`;
  const printed = output([...withStaticDev(nodes), ...onThisRuntime(script)]);
  const { code, message } = JSON.parse(printed);
  assertEquals(code, "ETIMEDOUT");
  for (const n of [1, 2, 3]) {
    assertStringIncludes(message, `${path}p${n}: no such node`);
  }
  assertDetached(file);
});

test("detach() says deferred while others hold the device, and the kernel detaches after them", [
  "root",
], async () => {
  const file = makeImage("held.img", 1);
  await using loop = await attach(file);
  {
    await using _ = await holdOpen(loop.path);
    assertEquals(await loop.detach(), "deferred");
    assertEquals(losetup(file)[0].name, loop.path);
  }
  await until(() => losetup(file).length === 0, "the kernel to detach after the last close");
  assertEquals(await loop.detach(), "deferred", "the answer does not change");
});

test("detach() waits for a passing opener", ["root"], async () => {
  const file = makeImage("passing.img", 1);
  await using loop = await attach(file);
  const held = await holdOpen(loop.path);
  const detaching = loop.detach();
  await held[Symbol.asyncDispose]();
  assertEquals(await detaching, "detached");
});

test("detach() says deferred while a partition of ours is held", ["root"], async () => {
  const file = makeImage("held-partition.img", 8, THREE_PARTITIONS);
  await using loop = await attach(file, { partscan: "userspace" });
  {
    await using _ = await holdOpen(loop.partitions[1].path);
    assertEquals(await loop.detach(), "deferred");
  }
  await until(() => losetup(file).length === 0, "the kernel to detach after the last close");
});

test("detach() is the answer of every call, and leaves no descriptor", ["root"], async () => {
  const file = makeImage("twice.img", 1);
  await using loop = await attach(file);
  const detaching = [loop.detach(PATIENTLY), loop.detach(PATIENTLY)];
  assertEquals(await Promise.all(detaching), ["detached", "detached"]);
  assertEquals(openDescriptors(), []);
});
