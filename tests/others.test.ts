/**
 * Others act on the same devices and the same file at the same time: what was looked up is looked at
 * again before anything is done to it, and overlap is decided once (overlap.test.ts: for all processes).
 */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import process from "node:process";
import { attach, attachAll, detach, find, type Holder, LoopError, openLoop } from "../mod.ts";
import { openFound } from "../lib/open_loop.ts";
import { attachElsewhere, detachElsewhere, detachOwn } from "./support/others.ts";
import { ownDevices } from "./support/own_devices.ts";
import {
  holdOpen,
  isolated,
  losetup,
  makeImage,
  onThisRuntime,
  openDescriptors,
  output,
  PATIENTLY,
  run,
  RUNTIME,
  scratch,
  sysfs,
  test,
  testsOf,
  THREE_PARTITIONS,
  until,
} from "./support/support.ts";

const withFileSystem = testsOf("a device that is mounted", ["mkfs.ext4"]);

/** A stranger who removes loop device `number` whenever it is free, until he is stopped. */
async function removeAgainAndAgain(number: number): Promise<AsyncDisposable> {
  const script = scratch("remove.ts");
  const lib = (name: string) => JSON.stringify(new URL(`../lib/kernel/${name}`, import.meta.url));
  writeFileSync(
    script,
    `import { O_RDWR, open } from ${lib("file.ts")};
     import { libc } from ${JSON.stringify(new URL("../lib/runtime/libc.ts", import.meta.url))};
     using control = open("/dev/loop-control", O_RDWR);
     const remove = () => control.call((fd) => libc().ioctl(fd, 0x4c81, ${number}));
     console.log("ready");
     for (;;) {
       for (let times = 0; times < 200; times++) remove();
       await new Promise((resolve) => setTimeout(resolve));
     }`,
  );
  const [name, ...args] = onThisRuntime(script);
  const child = spawn(name, args, { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await new Promise((resolve) => child.on("close", resolve));
    },
  };
}

test("detach(file) leaves a device alone that is somebody else's by now", [
  "root",
], async () => {
  const [a, b] = ["a.img", "b.img"].map((name) => makeImage(name, 1));
  await using own = ownDevices();
  const [first, second] = own.numbers.map((number) => attachElsewhere(a, { number }));
  const held = await holdOpen(first);
  const detaching = detach(a);
  // Held open, the first one takes a second; meanwhile a stranger takes the other one over.
  await until(() => losetup(a).every(({ name }) => name !== second), "the second to be detached");
  attachElsewhere(b, { number: own.numbers[1] });
  assertEquals(await detaching, "deferred");
  assertEquals(sysfs(`${second.slice(5)}/loop/backing_file`), b);
  assertEquals(detachElsewhere(second), 0);
  await held[Symbol.asyncDispose]();
});

test("openFound() opens no device that is in another use by now", ["root"], async () => {
  const [a, b] = ["a.img", "b.img"].map((name) => makeImage(name, 1));
  await using own = ownDevices(1);
  const [number] = own.numbers;
  const device = attachElsewhere(a, { number });
  const [found] = await find(a);
  await detachOwn(device);
  assertEquals(await openFound(found), undefined);
  for (const file of [b, a]) {
    attachElsewhere(file, { number });
    // The same file again is still another use: its diskseq says so.
    assertEquals(await openFound(found), undefined, file);
    await detachOwn(device);
  }
  assertEquals(openDescriptors(), []);
});

test("overlap is decided once, whatever this process does at the same time", ["root"], async () => {
  const file = makeImage("once.img", 8);
  const attaches = (overlap: "refuse" | "reuse") =>
    Promise.allSettled(Array.from({ length: 8 }, () => attach(file, { overlap })));
  const refused = await attaches("refuse");
  const bound = refused.flatMap((one) => one.status === "fulfilled" ? [one.value] : []);
  const codes = refused.flatMap((one) => one.status === "rejected" ? [one.reason.code] : []);
  assertEquals([bound.length, codes], [1, Array(7).fill("EEXIST")]);
  assertEquals(losetup(file).length, 1);
  await bound[0].detach(PATIENTLY);

  const reused = (await attaches("reuse")).flatMap((one) =>
    one.status === "fulfilled" ? [one.value] : []
  );
  assertEquals(reused.length, 8);
  assertEquals(new Set(reused.map(({ path }) => path)).size, 1);
  for (const loop of reused) await loop[Symbol.asyncDispose]();
  await until(() => losetup(file).length === 0, "the device to be detached");

  const error = await assertRejects(
    () => attachAll([file, file], { overlap: "refuse" }),
    LoopError,
  );
  assertEquals(error.code, "EEXIST");
  await until(() => losetup(file).length === 0, "the device to be detached");
});

test("overlap: an attach that waits for its turn hears its signal", ["root"], async () => {
  const file = makeImage("turn.img", 1);
  const options = { partscan: true, workaround: "always", overlap: "refuse" } as const;
  const controller = new AbortController();
  const first = attach(file, options);
  const second = attach(file, { ...options, signal: controller.signal });
  controller.abort(new Error("enough"));
  await assertRejects(() => second, Error, "enough");
  await using _loop = await first;
  assertEquals(losetup(file).length, 1);
});

for (const runs of ["attach() and detach()", "attachAll()"]) {
  test(`${runs}: timers and an AbortSignal are heard meanwhile`, ["quiet", "root"], async () => {
    const file = makeImage("busy.img", 1);
    // Of this process's own time: a busy machine gives it to others for longer.
    const used = () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1000;
    };
    let longest = 0;
    let last = used();
    const timer = setInterval(() => {
      const now = used();
      longest = Math.max(longest, now - last);
      last = now;
    }, 1);
    let cycles = 0;
    const attachForLong = async (signal: AbortSignal) => {
      for (;; cycles++) await (await attach(file, { signal })).detach();
    };
    const work = runs === "attachAll()"
      ? (signal: AbortSignal) =>
        attachAll(Array(5000).fill(file), { signal, onProgress: () => void cycles++ })
      : attachForLong;
    const start = performance.now();
    // A busy machine may be slow, or somebody look at all devices: then the signal comes in the first cycle.
    for (let ms = 100; cycles === 0; ms *= 4) {
      const error = await assertRejects(() => work(AbortSignal.timeout(ms)));
      assertEquals((error as Error).name, "TimeoutError");
    }
    clearInterval(timer);
    assert(performance.now() - start < 30_000, `${cycles} cycles`);
    assert(longest < 1000, `${longest} ms between two turns of a timer`);
    await until(() => losetup(file).length === 0, "the devices to be detached");
    await until(() => openDescriptors().length === 0, "their descriptors to be closed");
  });
}

test("attach() with a number takes the device away again that it made in vain", [
  "root",
], async () => {
  await using own = ownDevices(1);
  const [number] = own.numbers;
  const error = await assertRejects(
    () => attach(makeImage("vain.img", 1), { number, directIo: true, offset: 100 }),
    LoopError,
  );
  assertEquals(error.code, "EOPNOTSUPP");
  await until(() => !existsSync(`/sys/block/loop${number}`), "the device to go");
});

withFileSystem("a mounted partition: detach() says so at once and leaves the others alone", [
  "root",
  "mkfs.ext4",
], async () => {
  const file = makeImage("mounted.img", 8, THREE_PARTITIONS);
  const folder = scratch("mount");
  mkdirSync(folder);
  const loop = await attach(file, { partscan: "userspace", lock: "shared" });
  const [, second] = loop.partitions;
  output(["mkfs.ext4", "-q", second.path]);
  output(["mount", second.path, folder]);
  try {
    // A busy machine may take its time once, but who waits takes a second each time.
    let fastest = Infinity;
    for (let tries = 0; tries < 20 && fastest >= 800; tries++) {
      const start = performance.now();
      const handle = tries === 0 ? loop : await openLoop(loop.path);
      assertEquals(await handle.detach(), "deferred");
      fastest = Math.min(fastest, performance.now() - start);
    }
    assert(fastest < 800, "it did not wait for what cannot come");
    for (const { path } of loop.partitions) assert(existsSync(path), `${path} is there`);
    assertEquals(
      (await loop.holders()).filter(({ kind }) => kind === "mount").map(({ by }) => by),
      [folder],
    );
  } finally {
    output(["umount", folder]);
  }
  await until(() => losetup(file).length === 0, "the device to be detached");
  // Whoever looks at all devices has it open for a moment.
  await until(async () => (await loop.holders()).length === 0, "nobody to have it open");
});

withFileSystem("the end of a block tells onDeferred who holds the device", [
  "root",
  "mkfs.ext4",
], async () => {
  const file = makeImage("told.img", 8);
  output(["mkfs.ext4", "-q", file]);
  const folder = scratch("mount");
  mkdirSync(folder);
  const told: [path: string, holders: readonly Holder[]][] = [];
  let device = "";
  try {
    {
      await using loop = await attach(file, { onDeferred: (...args) => told.push(args) });
      output(["mount", device = loop.path, folder]);
    }
    assertEquals(told.map(([path]) => path), [device]);
    const mounts = told[0][1].filter(({ kind }) => kind === "mount");
    assertEquals(mounts.map(({ by }) => by), [folder]);
    // Who has asked knows.
    await using loop = await openLoop(device);
    assertEquals(await loop.isCurrent(), true);
  } finally {
    output(["umount", folder]);
  }
  await until(() => losetup(file).length === 0, "the device to be detached");
  assertEquals(told.length, 1);
});

withFileSystem("setSectorSize() on a mounted device says that it is mounted", [
  "root",
  "mkfs.ext4",
], async () => {
  const file = makeImage("sectors.img", 8);
  output(["mkfs.ext4", "-q", file]);
  const folder = scratch("mount");
  mkdirSync(folder);
  await using loop = await attach(file);
  output(["mount", loop.path, folder]);
  try {
    const error = await assertRejects(() => loop.setSectorSize(4096), LoopError);
    assertEquals([error.code, error.request], ["EBUSY", "LOOP_SET_BLOCK_SIZE"]);
    assertStringIncludes(error.message, "unmount it first");
  } finally {
    output(["umount", folder]);
  }
});

test("find() and detach() of a file say so when a device may not be asked", [
  "root",
], async () => {
  const file = makeImage("secret.img", 1);
  output(["chmod", "755", scratch(".")]);
  mkdirSync(scratch("home"));
  output(["chmod", "777", scratch("home")]);
  await using _loop = await attach(file);
  for (const call of ["find", "detach"]) {
    const code =
      `import("${new URL("../mod.ts", import.meta.url)}").then(async (l) => console.log(` +
      `await l.${call}(${JSON.stringify(file)}).catch(({ code }) => code)))`;
    const runtime = RUNTIME === "deno" ? ["eval", "--no-lock", code] : ["-e", code];
    const { stdout } = run([
      ...isolated("user=65534"),
      ...["env", `HOME=${scratch("home")}`, `DENO_DIR=${scratch("home")}`],
      ...[process.execPath, ...runtime],
    ]);
    assertMatch(stdout, /^EACCES$/m, call);
  }
  assertEquals((await find(file)).length, 1);
});

test("attach() with a wanted number makes the device again that others remove", [
  "root",
], async () => {
  const file = makeImage("removed.img", 1);
  await using own = ownDevices(1);
  const [number] = own.numbers;
  await using _stranger = await removeAgainAndAgain(number);
  for (let times = 0; times < 40; times++) {
    const loop = await attach(file, { number });
    assertEquals([loop.number, sysfs(`loop${number}/loop/backing_file`)], [number, file]);
    await loop.detach();
  }
});
