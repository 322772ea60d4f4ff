/** The lock that udev and systemd agree on: flock(1) says who has it. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import process from "node:process";
import { attach, attachAll, type LoopDevice, LoopError, openLoop } from "../mod.ts";
import { O_RDWR, open } from "../lib/kernel/file.ts";
import { loopCtlGetFree } from "../lib/kernel/loop.ts";
import { isLockedExclusively } from "../lib/udev/lock.ts";
import { ownDevices, withOwnDevices } from "./support/own_devices.ts";
import {
  assertDetached,
  holdBy,
  holdOpen,
  isolated,
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
  test,
  testsOf,
  THREE_PARTITIONS,
  until,
  withStaticDev,
} from "./support/support.ts";
import { traced } from "./support/traced.ts";

const testLock = testsOf("locks beside flock(1)", ["root", "flock"]);

type Kind = "shared" | "exclusive";

/** What somebody else may still lock. flock(1) must not be given the path: it makes a file where none is. */
function free(path: string): Kind[] {
  const kinds: Kind[] = ["shared", "exclusive"];
  const script = '[ -e "$0" ] || exit 0; exec 9<"$0" && flock --nonblock "--$1" 9';
  return kinds.filter((kind) => run(["sh", "-c", script, path, kind]).status === 0);
}

const NONE: Kind[] = [];
const SHARED: Kind[] = ["shared"];
const BOTH: Kind[] = ["shared", "exclusive"];

/** Somebody else's lock, until it is disposed of. */
const lockElsewhere = (path: string, kind: Kind) =>
  holdBy('exec 9<"$0" && flock "--$1" 9', path, kind);

/** Waits for a promise no longer than that, as programs do. */
const raced = <T>(promise: Promise<T>, ms: number) =>
  Promise.race([promise, new Promise<"late">((resolve) => setTimeout(resolve, ms, "late"))]);

testLock("attach() with lock holds a shared lock until the detach", ["root", "flock"], async () => {
  const file = makeImage("shared.img", 8, THREE_PARTITIONS);
  await using own = ownDevices(1);
  const [number] = own.numbers;
  const loop = await attach(file, { partscan: true, lock: "shared", number });
  assertEquals(free(loop.path), SHARED);
  // What a child inherited would keep the lock, and the device.
  await using _child = await lockElsewhere("/dev/null", "shared");
  assertEquals(await loop.detach(PATIENTLY), "detached");
  assertEquals([leftAttached(file), free(loop.path), openDescriptors()], [[], BOTH, []]);
  await using without = await attach(file, { number });
  assertEquals(free(without.path), BOTH);
});

testLock("attach() takes the lock before it binds, on a read-only descriptor", [
  "root",
  "flock",
  "strace",
], () => {
  const file = makeImage("order.img", 8, THREE_PARTITIONS);
  const body = `await using loop = await attach(${
    JSON.stringify(file)
  }, { partscan: true, lock: "shared" });`;
  const tracing = { calls: "?open,openat,flock,ioctl,close", names: true };
  const lines = traced(body, tracing).calls.map(({ text }) => text);
  const first = (call: RegExp) => {
    const at = lines.findIndex((line) => call.test(line));
    assert(at >= 0, `${call}\n${lines.filter((line) => /loop/.test(line)).join("\n")}`);
    return at;
  };
  const locked = first(/flock\(\d+<\/dev\/loop\d+.*>, LOCK_SH\|LOCK_NB/);
  const [, fd, path] = /(\d+)<(\/dev\/loop\d+)/.exec(lines[locked])!;
  assert(first(new RegExp(`open.*"${path}", O_RDONLY\\|O_CLOEXEC`)) < locked, "read-only");
  assert(locked < first(/LOOP_CONFIGURE/), "before the bind");
  // The descriptor that detaches is the one with the lock: nobody gets it before.
  const unlocked = first(new RegExp(`close\\(${fd}<${path}`));
  assert(first(/close\(\d+<\/dev\/\.loopdev-loop/) < unlocked, "after the detach");
});

testLock("a lock ends with its process, by SIGKILL too", ["root", "flock"], async () => {
  const file = makeImage("killed.img", 1);
  await using own = ownDevices(1);
  const [number] = own.numbers;
  const script = scratch("killed.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     const loop = await attach(${JSON.stringify(file)}, { lock: "shared", number: ${number} });
     await loop.lock();
     console.log(loop.path);
     setTimeout(() => {}, 1e6);`,
  );
  const [command, ...args] = onThisRuntime(script);
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  const path = await new Promise<string>((resolve) =>
    child.stdout.once("data", (data) => resolve(String(data).trim()))
  );
  assertEquals(free(path), NONE);
  child.kill("SIGKILL");
  await until(() => losetup(file).length === 0, "the device to go");
  assertEquals(free(path), BOTH);
});

testLock("lock() keeps everybody else away until it is released", ["root", "flock"], async () => {
  await using own = ownDevices(1);
  const [number] = own.numbers;
  await using loop = await attach(makeImage("exclusive.img", 1), { number });
  {
    await using held = await loop.lock();
    assertEquals([held.path, free(loop.path)], [loop.path, NONE]);
  }
  assertEquals(free(loop.path), BOTH);
  {
    using held = await loop.lock();
    assertEquals(free(loop.path), NONE);
    held.release();
    assertEquals(free(loop.path), BOTH);
    using again = await loop.lock();
    held.release();
    assertEquals([again.path, free(loop.path)], [loop.path, NONE]);
  }
  assertEquals(free(loop.path), BOTH);
});

testLock("lock() of a device with a shared lock gives that back afterwards", [
  "root",
  "flock",
], async () => {
  await using own = ownDevices(1);
  const [number] = own.numbers;
  await using loop = await attach(makeImage("both.img", 1), { lock: "shared", number });
  for (let round = 0; round < 3; round++) {
    using held = await loop.lock();
    assertEquals([held.path, free(loop.path)], [loop.path, NONE]);
    held.release();
    assertEquals(free(loop.path), SHARED);
  }
  {
    await using _other = await lockElsewhere(loop.path, "shared");
    const error = await assertRejects(() => loop.lock({ timeout: 30 }), LoopError);
    assertMatch(error.message, /still locked by process \d+ \(sh\)\)$/);
  }
  assertEquals(free(loop.path), SHARED, "what lock() did not get must not cost what there was");
});

testLock(
  "a shared lock survives neighbours that lock all the time",
  ["root", "flock"],
  async () => {
    await using own = ownDevices(1);
    const [number] = own.numbers;
    await using loop = await attach(makeImage("busy.img", 1), { lock: "shared", number });
    const script = 'while :; do (flock -x -w 0.01 9; flock -u 9; flock -s 9) 9<"$0"; done';
    const neighbours = [0, 1].map(() => spawn("sh", ["-c", script, loop.path]));
    const ended = neighbours.map((each) => new Promise((resolve) => each.on("close", resolve)));
    let got = 0;
    for (let round = 0; round < 300; round++) {
      const held = await loop.lock({ timeout: round % 3 }).catch((error) => error);
      if (held instanceof LoopError) continue;
      got++;
      held.release();
    }
    for (const each of neighbours) each.kill("SIGKILL");
    await Promise.all(ended);
    assert(got > 0);
    // What a killed shell has started is on its way out.
    await until(() => free(loop.path).join() === SHARED.join(), "the shared lock");
  },
);

testLock("lock() says for whom it waits, and stops when it shall", ["root", "flock"], async () => {
  await using own = ownDevices(1);
  const [number] = own.numbers;
  await using loop = await attach(makeImage("waits.img", 1), { number });
  const before = openDescriptors();
  const other = await lockElsewhere(loop.path, "shared");
  const error = await assertRejects(() => loop.lock({ timeout: 30 }), LoopError);
  assertEquals([error.code, error.syscall, error.path], ["ETIMEDOUT", "flock", loop.path]);
  assertStringIncludes(error.message, "after 30 ms still locked by process ");
  assertStringIncludes(error.message, "(sh)");
  const reason = new Error("enough");
  const stop = new AbortController();
  setTimeout(() => stop.abort(reason), 30);
  assertEquals(await loop.lock({ signal: stop.signal }).catch((error) => error), reason);
  assertEquals(openDescriptors(), before);

  let turns = 0;
  const clock = setInterval(() => turns++, 1);
  const waiting = loop.lock();
  await until(() => turns > 5, "the event loop to turn while lock() waits");
  clearInterval(clock);
  assertEquals(await raced(waiting, 50), "late");
  await other[Symbol.asyncDispose]();
  using _held = await waiting;
  assertEquals(free(loop.path), NONE);
  for (const bad of [{ timeout: -1 }, { timeout: "1" }, { signal: 1 }, { wait: 1 }, null]) {
    await assertRejects(() => loop.lock(bad as never), Error);
  }
});

testLock("locks of one process exclude each other, by one handle or two", [
  "root",
  "flock",
], async () => {
  await using loop = await attach(makeImage("two.img", 1));
  await using same = await openLoop(loop.path);
  for (const other of [loop, same]) {
    const held = await loop.lock();
    const error = await assertRejects(() => other.lock({ timeout: 30 }), LoopError);
    assertStringIncludes(error.message, `this process, ${process.pid} (`);
    const waiting = other.lock();
    // Who has the lock can go on with the handle.
    await loop.rescan();
    assertEquals(await raced(waiting, 30), "late");
    held.release();
    using later = await waiting;
    assertEquals(later.path, loop.path);
  }
});

testLock("a lock goes when its handle is closed", ["root", "flock"], async () => {
  const file = makeImage("closed.img", 1);
  await withOwnDevices(async (number) => {
    const loop = await attach(file, { number });
    const held = await loop.lock();
    const late = loop.lock();
    assertEquals(await loop.detach(PATIENTLY), "detached");
    await assertRejects(() => late, TypeError, "has been detached");
    await assertRejects(() => loop.lock(), TypeError, "has been detached");
    assertEquals([free(loop.path), openDescriptors()], [BOTH, []]);
    await using next = await attach(file, { number, lock: "shared" });
    held.release();
    held[Symbol.dispose]();
    assertEquals(free(next.path), SHARED, "the next one's lock");
  });

  await using own = ownDevices(1);
  const theirs = await attach(file, { number: own.numbers[0] });
  await theirs.persist();
  try {
    const opened = await openLoop(theirs.path);
    await opened.lock();
    assertEquals(free(theirs.path), NONE);
    await opened[Symbol.asyncDispose]();
    assertEquals(free(theirs.path), BOTH);
  } finally {
    await using opened = await openLoop(theirs.path);
    await opened.detach();
  }
});

testLock("a detach keeps the shared lock until those who look are done", [
  "root",
  "flock",
], async () => {
  const file = makeImage("parting.img", 8, THREE_PARTITIONS);
  await using own = ownDevices(1);
  const [number] = own.numbers;
  const loop = await attach(file, { partscan: true, lock: "shared", number });
  const child = await holdOpen(loop.path);
  const detaching = loop.detach({ timeout: 60_000 });
  assertEquals(await raced(detaching, 100), "late");
  assertEquals(free(loop.path), SHARED);
  await child[Symbol.asyncDispose]();
  assertEquals(await detaching, "detached");
  assertEquals([leftAttached(file), free(loop.path), openDescriptors()], [[], BOTH, []]);
  // Who stays is not waited for so long.
  const held = await attach(file, { partscan: true, lock: "shared", number });
  await using _other = await holdOpen(held.path);
  assertEquals(await held.detach(), "deferred");
  assertEquals(free(held.path), BOTH);
  // Nor for anybody once the signal says so.
  const stopped = await attach(file, { lock: "shared" });
  await using _third = await holdOpen(stopped.path);
  const signal = AbortSignal.timeout(50);
  await assertRejects(() => stopped.detach({ signal }), DOMException);
  await until(() => free(stopped.path).length === 2, "the lock to be given back");
});

testLock("persist() gives up what was locked", ["root", "flock"], async () => {
  const file = makeImage("kept.img", 1);
  await using own = ownDevices(1);
  const loop = await attach(file, { lock: "shared", number: own.numbers[0] });
  await loop.persist();
  assertEquals([losetup(file).length, free(loop.path)], [1, BOTH]);
  const opened = await openLoop(loop.path);
  assertEquals(await opened.detach(PATIENTLY), "detached");
});

testLock("lock() that nobody awaits leaves nothing", ["root", "flock"], async () => {
  const file = makeImage("forgotten.img", 1);
  await using own = ownDevices(1);
  const [[number], [path]] = [own.numbers, own.paths];
  for (const ms of [0, 1, 2, 5, 10]) {
    {
      await using loop = await attach(file, { lock: ms % 2 ? "shared" : undefined, number });
      loop.lock();
      if (ms > 0) await raced(loop.lock().catch((error) => error), ms);
    }
    assertEquals([leftAttached(file), free(path), openDescriptors()], [[], BOTH, []]);
  }
});

testLock("a shared lock that a conversion loses is taken back, without a program that waits", [
  "root",
  "flock",
  "strace",
], async () => {
  const file = makeImage("regained.img", 1);
  await withOwnDevices((number) => {
    // The shared lock; then neither the exclusive one nor, at once, the shared one again. A wanted device,
    // since another try for one that a neighbour was faster to get would shift what fails.
    const body = `
      await using loop = await attach(${
      JSON.stringify(file)
    }, { lock: "shared", number: ${number} });
      const { code } = await loop.lock({ timeout: 0 }).catch((error) => error);
      await new Promise((resolve) => setTimeout(resolve, 50));
      using lock = await loop.lock();
      console.log(code);`;
    const inject = "flock:error=EAGAIN:when=2..4";
    const { stdout, calls } = traced(body, { calls: "?open,openat,flock", inject, here: true });
    assertEquals(stdout, "ETIMEDOUT\n");
    const locks = calls.map(({ text }) => text).filter((text) => text.startsWith("flock"));
    const made = locks.map((text) => text.replace(/^flock\(\d+, |\|LOCK_NB|\) +=.*$/g, ""));
    const results = locks.map((text) => text.endsWith("= 0"));
    const lost = results.indexOf(false);
    assertEquals(made.slice(lost, lost + 4), ["LOCK_EX", "LOCK_SH", "LOCK_SH", "LOCK_SH"]);
    assertEquals(results.slice(lost, lost + 4), [false, false, false, true]);
  });
});

testLock("attach() waits for a lock of the wanted device", [
  "root",
  "flock",
], async () => {
  const file = makeImage("wanted.img", 1);
  await withOwnDevices(async (number) => {
    const path = `/dev/loop${number}`;
    const other = await lockElsewhere(path, "exclusive");
    const options = { number, lock: "shared" } as const;
    const error = await assertRejects(() => attach(file, { ...options, timeout: 30 }), LoopError);
    assertEquals(error.code, "ETIMEDOUT");
    assertStringIncludes(error.message, "still locked by process ");
    const signal = AbortSignal.timeout(30);
    await assertRejects(() => attach(file, { ...options, signal }), DOMException);
    assertEquals([leftAttached(file), openDescriptors()], [[], []]);
    const waiting = attach(file, options);
    assertEquals(await raced(waiting, 50), "late");
    await other[Symbol.asyncDispose]();
    await using got = await waiting;
    assertEquals([got.number, free(path)], [number, SHARED]);
  });
});

testLock("attach() takes another device than one that is locked", ["root", "flock"], async () => {
  const file = makeImage("free.img", 1);
  // What is offered is the lowest that is free; another test may be faster than we.
  using control = open("/dev/loop-control", O_RDWR);
  const offered = `/dev/loop${loopCtlGetFree(control)}`;
  await using _other = await lockElsewhere(offered, "exclusive");
  await using loop = await attach(file, { lock: "shared" });
  assert(loop.path !== offered);
  assertEquals(free(loop.path), SHARED);
});

testLock("attach() without a lock does not care about locks", ["root", "flock"], async () => {
  const file = makeImage("careless.img", 1);
  await using loop = await attach(file);
  await using _other = await lockElsewhere(loop.path, "exclusive");
  assertEquals(await loop.detach(), "deferred", "who has the lock has it open");
});

testLock("attachAll() and overlap: reuse lock, too", ["root", "flock"], async () => {
  const files = ["a.img", "b.img"].map((name) => makeImage(name, 1));
  await using loops = await attachAll(files, { lock: "shared" });
  assertEquals(loops.map(({ path }: LoopDevice) => free(path)), [SHARED, SHARED]);
  await using own = ownDevices(1);
  await using first = await attach(makeImage("c.img", 1), { number: own.numbers[0] });
  {
    await using same = await attach(first.backingFile, { overlap: "reuse", lock: "shared" });
    assertEquals([same.path, free(first.path)], [first.path, SHARED]);
  }
  assertEquals(free(first.path), BOTH);
});

test("attach() says that a lock is shared or none", [], async () => {
  for (const lock of ["exclusive", true, null]) {
    const options = { lock } as never;
    await assertRejects(() => attach("/nowhere", options), TypeError, "lock must be one of");
  }
});

testLock("a lock needs the device's own node", ["root", "flock"], () => {
  assertEquals(isLockedExclusively(2 ** 20), false, "of a device that is not there");
  const file = makeImage("no-node.img", 1);
  const script = scratch("no-node.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { spawnSync } from "node:child_process";
     import { renameSync } from "node:fs";
     const file = ${JSON.stringify(file)};
     const loop = await attach(file, { lock: "shared" });
     const flock = () => spawnSync("flock", ["--nonblock", loop.path, "true"]).status;
     const seen = [flock()];
     {
       renameSync(loop.path, "/dev/elsewhere");
       const error = await loop.lock().then(() => "locked", (error) => error.message);
       seen.push(error);
       renameSync("/dev/elsewhere", loop.path);
     }
     await loop.detach();
     await using bare = await attach(file);
     renameSync(bare.path, "/dev/elsewhere");
     seen.push(await bare.lock().then(() => "locked", (error) => error.message));
     spawnSync("mknod", [bare.path, "b", "7", "1048575"]);
     seen.push(await bare.lock().then(() => "locked", (error) => error.code));
     console.log(JSON.stringify(seen));`,
  );
  const setup = "mknod /dev/loop-control c 10 237";
  const seen = JSON.parse(output([...withStaticDev(setup), ...onThisRuntime(script)]));
  assertEquals([seen[0], seen[1]], [1, "locked"], "the descriptor that it has is enough");
  assertStringIncludes(seen[2], "make the node with mknod");
  assert(["ENXIO", "ENODEV", "ENOTBLK"].includes(seen[3]), seen[3]);
  assertDetached(file);
});

test(
  "a detach that waits for others never ends the device's next use",
  ["root", "strace", "mount"],
  () => {
    const file = makeImage("next.img", 1);
    // Up to Linux 6.10 LOOP_CLR_FD unbinds at once, and another process can bind the device in the same moment. Here
    // the kernel's number of the use is another one.
    const body = `
    import { execFileSync, spawn } from "node:child_process";
    import { writeFileSync } from "node:fs";
    const loop = await attach(${JSON.stringify(file)}, { lock: "shared" });
    const holder = spawn("sh", ["-c", 'exec 3<"$0" && echo && read _', loop.path]);
    await new Promise((resolve) => holder.stdout.once("data", resolve));
    const ending = () => loop.detach({ timeout: 50 });
    if (process.env.NEXT) {
      writeFileSync("/mnt/diskseq", "1\\n");
      execFileSync("mount", ["--bind", "/mnt/diskseq", "/sys/block/loop" + loop.number + "/diskseq"]);
    }
    console.log(await ending());
    holder.stdin.end("\\n");`;
    if (existsSync("/sys/block/loop0/diskseq") === false) return;
    const clears = (next: string[]) => {
      const around = [...isolated("tmpfs=/mnt"), "env", ...next];
      const { stdout, calls } = traced(`import process from "node:process"; ${body}`, {
        calls: "ioctl",
        around,
      });
      return [stdout.trim(), calls.some(({ text }) => text.includes("LOOP_CLR_FD"))];
    };
    assertEquals(clears([]), ["deferred", true]);
    assertEquals(clears(["NEXT=1"]), ["detached", false]);
    assertDetached(file);
  },
);
