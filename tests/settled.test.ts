/** Waiting for udevd: it is a fake here (fake_udevd.ts), in a /run of its own; the VMs have real ones. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  assertDetached,
  isolated,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  ROOT,
  RUNTIME,
  scratch,
  test,
  THREE_PARTITIONS,
} from "./support/support.ts";

/** Runs `body` beside a /run of its own and gives what it prints as JSON. */
function inOwnRun(
  body: string,
  surroundings: string[] = [],
  wrapper: string[] = [],
): Record<string, unknown> {
  const file = makeImage("settled.img", 8, THREE_PARTITIONS);
  const script = scratch("settled.ts");
  const fake = onThisRuntime(join(ROOT, "tests/support/fake_udevd.ts"));
  writeFileSync(
    script,
    `import { attach, openLoop } from ${JSON.stringify(MOD)};
     import { spawn, spawnSync } from "node:child_process";
     import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
     const file = ${JSON.stringify(file)};
     const startUdevd = async (loop, ...words) => {
       const [command, ...args] = ${JSON.stringify(fake)};
       const child = spawn(command, [...args, "loop" + loop.number, ...words],
         { stdio: ["ignore", "pipe", "inherit"] });
       await new Promise((resolve) => child.stdout.once("data", resolve));
       return { [Symbol.dispose]: () => child.kill("SIGKILL") };
     };
     const entryOf = (name) =>
       "/run/udev/data/b" + readFileSync("/sys/class/block/" + name + "/dev", "utf8").trim();
     const timed = async (wait) => {
       const start = performance.now();
       const outcome = await wait().then(() => "settled", (error) => error);
       return { ms: Math.round(performance.now() - start), outcome,
         code: outcome.code, message: outcome.message };
     };
     const tell = (seen) => console.log(JSON.stringify(seen));
     await using loop = await attach(file, { partscan: true });
     ${body}`,
  );
  const around = [...isolated("tmpfs=/run", ...surroundings), ...wrapper];
  const printed = output([...around, ...onThisRuntime(script)]);
  assertDetached(file);
  return JSON.parse(printed.split("\n").findLast((line) => line.startsWith("{"))!);
}

test("settled() resolves at once where no udevd runs", ["root"], () => {
  const seen = inOwnRun(`tell(await timed(() => loop.settled()));`);
  assertEquals(seen.outcome, "settled");
  // Half of what it waits for a udevd that does not answer.
  assert(Number(seen.ms) < 5000, `${seen.ms} ms`);
});

test("settled() waits until udevd has told of disk and partitions", ["root"], () => {
  const seen = inOwnRun(`
    using udevd = await startUdevd(loop, "chatty", "delay=150");
    // An entry that an earlier event has written says nothing.
    for (const name of ["loop" + loop.number, ...loop.partitions.map(({ path }) => path.slice(5))]) {
      writeFileSync(entryOf(name), "I:1\\n");
    }
    let turns = 0;
    const clock = setInterval(() => turns++, 5);
    const first = await timed(() => loop.settled());
    clearInterval(clock);
    const numbers = loop.partitions.map(({ path }) => readFileSync(entryOf(path.slice(5)), "utf8"));
    const again = await timed(() => loop.settled());
    tell({ first, again, turns, numbers });`);
  const { first, again } = seen as Record<string, { ms: number; outcome: string }>;
  assertEquals([first.outcome, again.outcome], ["settled", "settled"]);
  // Three partitions, one after another.
  assert(first.ms >= 450 && again.ms >= 450, `${first.ms} ms, ${again.ms} ms`);
  assert(Number(seen.turns) > 10, `the event loop turned ${seen.turns} times`);
  for (const entry of seen.numbers as string[]) assertStringIncludes(entry, "E:EVENT=");
});

test("settled() says what is missing, and what can be done", ["root"], () => {
  const seen = inOwnRun(`
    mkdirSync("/run/udev/data", { recursive: true });
    writeFileSync("/run/udev/control", "");
    const late = await timed(() => loop.settled({ timeout: 50 }));
    writeFileSync(entryOf("loop" + loop.number), "I:1\\n");
    const known = await timed(() => loop.settled({ timeout: 50 }));
    const stopped = await timed(() => loop.settled({ signal: AbortSignal.timeout(50) }));
    const held = await loop.lock();
    const locked = await timed(() => loop.settled());
    held.release();
    await using other = await openLoop(loop.path);
    using theirs = await other.lock();
    const kept = await timed(() => loop.settled({ timeout: 50 }));
    tell({ late, known, stopped, locked, kept, name: stopped.outcome.name });`);
  const { late, known, locked, kept } = seen as Record<string, { code: string; message: string }>;
  assertEquals([late.code, kept.code, locked.code], ["ETIMEDOUT", "ETIMEDOUT", "EBUSY"]);
  assert(/after 50 ms udevd is not done with \/dev\/loop\d+ \(nothing in/.test(late.message));
  assert(/\/dev\/loop\d+p3 \(nothing in \/run\/udev\/data\/b\d+:\d+\)/.test(late.message));
  assert(/is not done with \/dev\/loop\d+, \/dev\/loop\d+p1 \(nothing in/.test(known.message));
  assertStringIncludes(late.message, "udevadm control --ping");
  assert(/this process, \d+ \(.+\) has a lock/.test(kept.message), kept.message);
  assertStringIncludes(locked.message, "release it first");
  assertEquals(seen.name, "TimeoutError");
});

test("settled() asks again where udevd forgot, once nobody keeps it from looking", ["root"], () => {
  const seen = inOwnRun(`
    using udevd = await startUdevd(loop, "forgets=2");
    await using other = await openLoop(loop.path);
    const theirs = await other.lock();
    setTimeout(() => theirs.release(), 1100);
    tell(await timed(() => loop.settled()));`);
  assertEquals(seen.outcome, "settled");
  assert(Number(seen.ms) >= 1100, `${seen.ms} ms`);
});

test("settled() goes by udevd's database where no socket hears it", ["root", "strace"], () => {
  // Of this process's main thread alone: the fake udevd has a socket.
  const strace = [
    "strace",
    "-o",
    "/dev/null",
    "-e",
    "trace=bind",
    "-e",
    "inject=bind:error=EACCES",
  ];
  const seen = inOwnRun(
    `
    using udevd = await startUdevd(loop);
    tell(await timed(() => loop.settled()));`,
    [],
    strace,
  );
  assertEquals(seen.outcome, "settled");
});

test("settled() goes by udevd's database where its words do not get through", ["root"], () => {
  const seen = inOwnRun(`
    using udevd = await startUdevd(loop, "silent", "delay=100");
    tell({ ...await timed(() => loop.settled()),
      entries: loop.partitions.map(({ path }) => readFileSync(entryOf(path.slice(5)), "utf8")) });`);
  assertEquals(seen.outcome, "settled");
  assert(Number(seen.ms) >= 300, `${seen.ms} ms`);
});

test("settled() goes by udevd's database where /sys is read-only", ["root"], () => {
  const seen = inOwnRun(
    `
    mkdirSync("/run/udev/data", { recursive: true });
    writeFileSync("/run/udev/control", "");
    const missing = await timed(() => loop.settled({ timeout: 50 }));
    // When another process has bound its device, a handle does not know.
    await using other = await openLoop(loop.path);
    const opened = await timed(() => other.settled({ timeout: 50 }));
    const names = ["loop" + loop.number, ...loop.partitions.map(({ path }) => path.slice(5))];
    setTimeout(() => names.forEach((name) => writeFileSync(entryOf(name), "I:1\\n")), 100);
    const written = await timed(() => loop.settled());
    tell({ missing: missing.code, opened: opened.code, written });`,
    ["read-only=/sys"],
  );
  const { missing, opened, written } = seen as {
    missing: string;
    opened: string;
    written: { ms: number; outcome: string };
  };
  assertEquals([missing, opened, written.outcome], ["ETIMEDOUT", "ETIMEDOUT", "settled"]);
  assert(written.ms >= 90, `${written.ms} ms`);
});

test("settled() goes by the time of the bind where udevd answers no question of ours", [
  "root",
], () => {
  // Two seconds, which are the same on every runtime.
  if (RUNTIME !== "deno") return;
  const seen = inOwnRun(`
    using udevd = await startUdevd(loop, "forgets=99");
    const names = ["loop" + loop.number, ...loop.partitions.map(({ path }) => path.slice(5))];
    names.forEach((name) => writeFileSync(entryOf(name), "I:1\\n"));
    tell(await timed(() => loop.settled()));`);
  assertEquals(seen.outcome, "settled");
  // Each was asked for twice, and was silent for a second.
  assert(Number(seen.ms) >= 2000, `${seen.ms} ms`);
});

test("settled() waits for partitions that come meanwhile, and not for those that go", [
  "root",
], () => {
  const seen = inOwnRun(`
    using udevd = await startUdevd(loop, "delay=100");
    const waiting = timed(() => loop.settled());
    await new Promise((resolve) => setTimeout(resolve, 50));
    await using other = await openLoop(loop.path);
    const table = spawnSync("dd", ["if=/dev/zero", "of=" + file, "bs=512", "count=34", "conv=notrunc"]);
    spawnSync("dd", ["if=/dev/zero", "of=" + file, "bs=512", "seek=16350", "count=34", "conv=notrunc"]);
    const left = await other.rescan();
    tell({ ...await waiting, left: left.length });`);
  assertEquals([seen.outcome, seen.left], ["settled", 0]);
});

test(
  "settled() waits for a partition that was removed and added before it",
  ["root", "partx"],
  () => {
    const seen = inOwnRun(`
    using udevd = await startUdevd(loop, "delay=100");
    await loop.settled();
    const { path } = loop.partitions[2];
    const script = 'set -- "$1" $(cat "/sys/class/block/$2/start" "/sys/class/block/$2/size") && ' +
      'delpart "$1" 3 && addpart "$1" 3 "$2" "$3"';
    const again = spawnSync("sh", ["-c", script, "sh", loop.path, path.slice(5)]);
    const { outcome } = await timed(() => loop.settled());
    tell({ again: again.status, outcome, isThere: existsSync(entryOf(path.slice(5))) });`);
    assertEquals(seen, { again: 0, outcome: "settled", isThere: true });
  },
);

test("settled() that nobody awaits, or that a timer overtakes, leaves nothing", ["root"], () => {
  const seen = inOwnRun(`
    using udevd = await startUdevd(loop, "delay=200");
    loop.settled();
    const raced = await Promise.race([
      loop.settled(), new Promise((resolve) => setTimeout(resolve, 10, "late")),
    ]);
    const outcome = await loop.detach();
    const after = await timed(() => loop.settled());
    tell({ raced, outcome, after: after.outcome.name });`);
  assertEquals(seen, { raced: "late", outcome: "detached", after: "TypeError" });
});
