/** Who is waited for when a device is let go, and for how long. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { spawn } from "node:child_process";
import { copyFileSync, writeFileSync } from "node:fs";
import { attach, detach, type Holder } from "../mod.ts";
import { O_RDONLY, open } from "../lib/kernel/file.ts";
import {
  assertDetached,
  holdOpen,
  isolated,
  leftAttached,
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  openDescriptors,
  output,
  run,
  scratch,
  test,
  until,
} from "./support/support.ts";

/** Detaches while a program of this name has the device open, for `ms`, or until detach() has given up. */
async function detachBeside(program: string, ms: number): Promise<string> {
  const file = makeImage("held.img", 1);
  const loop = await attach(file);
  // The kernel calls a process by its program's file.
  copyFileSync("/bin/sh", scratch(program));
  const script = 'exec 3<"$0" && echo held && read _ <&0';
  const child = spawn(scratch(program), ["-c", script, loop.path]);
  const closed = new Promise((resolve) => child.on("close", resolve));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  const [begin, outcome] = [performance.now(), loop.detach()];
  let said: string | undefined;
  outcome.then((outcome) => said = outcome);
  const isOver = () => said !== undefined || performance.now() - begin > ms;
  await until(isOver, "the end of somebody's patience", 60_000);
  child.stdin.end("\n");
  await closed;
  await outcome;
  await until(() => losetup(file).length === 0, "the device to go");
  return said!;
}

test("detach() waits for udevd longer than for others", ["quiet", "root", "losetup"], async () => {
  // If a neighbour has the device open after a second, too, detach() waits for udevd no longer.
  let said = "deferred";
  for (let times = 0; said === "deferred" && times < 5; times++) {
    said = await detachBeside("systemd-udevd", 1500);
  }
  assertEquals(said, "detached");
  assertEquals(await detachBeside("some-program", 30_000), "deferred");
});

const soon = (act: () => unknown, ms: number) => void setTimeout(act, ms);

test("detach() with timeout waits for whoever holds the device", ["quiet", "root"], async () => {
  const file = makeImage("waited.img", 1);
  const loop = await attach(file);
  await using child = await holdOpen(loop.path);
  const told: [path: string, holders: readonly Holder[]][] = [];
  const onDeferred = (...args: (typeof told)[number]) => void told.push(args);
  assertEquals(await loop.detach({ timeout: 30, onDeferred }), "deferred");
  assertEquals(told.map(([path]) => path), [loop.path]);
  // A neighbour who lists all devices may have it open, too.
  assertMatch(told[0][1].map(({ by }) => by).join(), /(^|,)\d+ \(sh\)(,|$)/);
  // Whoever asks again without a timeout hears what he heard; with one it is waited again.
  assertEquals(await loop.detach(), "deferred");
  soon(() => child[Symbol.asyncDispose](), 50);
  assertEquals(await loop.detach({ timeout: 60_000, onDeferred }), "detached");
  assertEquals([leftAttached(file), told.length], [[], 1]);
});

test("detach() with a signal stops waiting, and has let go all the same", ["root"], async () => {
  const file = makeImage("stopped.img", 1);
  const reason = new Error("enough");
  const loop = await attach(file);
  const refused = loop.detach({ signal: AbortSignal.abort(reason) }).catch((error) => error);
  assertEquals(await refused, reason);
  assertEquals(await loop.isCurrent(), true, "nothing has been done");
  {
    await using _child = await holdOpen(loop.path);
    const stop = new AbortController();
    soon(() => stop.abort(reason), 30);
    const options = { timeout: 60_000, signal: stop.signal };
    assertEquals(await loop.detach(options).catch((error) => error), reason);
    // What is written back at the signal holds the file until then.
    await until(() => openDescriptors().length === 0, "this process to let go");
    assertEquals(losetup(file).length, 1);
    // The end of a block asks again, and is not told of the signal.
    await loop[Symbol.asyncDispose]();
  }
  await until(() => losetup(file).length === 0, "the device to go");
});

test(
  "detach() of a file waits, too, and says who holds which device",
  ["quiet", "root"],
  async () => {
    const file = makeImage("function.img", 1);
    const paths = await Promise.all([0, 1].map(async () => {
      const loop = await attach(file);
      await loop.persist();
      return loop.path;
    }));
    await using child = await holdOpen(paths[0]);
    const told: string[] = [];
    const onDeferred = (path: string) => void told.push(path);
    assertEquals(await detach(file, { timeout: 30, onDeferred }), "deferred");
    // A neighbour who lists all devices may have the other one open.
    assert(told.includes(paths[0]), told.join());
    soon(() => child[Symbol.asyncDispose](), 50);
    await until(() => losetup(file).length === 0, "the device to go");
    const reason = new Error("enough");
    const stopped = detach(file, { signal: AbortSignal.abort(reason) }).catch((error) => error);
    assertEquals(await stopped, reason);
    // A signal stops the wait, and the device goes all the same.
    const loop = await attach(file);
    await loop.persist();
    await using _other = await holdOpen(loop.path);
    const stop = new AbortController();
    soon(() => stop.abort(reason), 50);
    const waiting = detach(loop.path, { timeout: 60_000, signal: stop.signal });
    assertEquals(await waiting.catch((error) => error), reason);
    await until(() => openDescriptors().length === 0, "this process to let go");
    assertEquals(losetup(file).map(({ autoclear }) => autoclear), [true]);
  },
);

test("holders() and detach() of a device that goes meanwhile say so", ["root"], async () => {
  const file = makeImage("meanwhile.img", 1);
  // Whoever looks at all devices just then has the last close.
  let [holders, outcome]: [unknown, unknown] = [undefined, undefined];
  for (let tries = 0; tries < 20 && JSON.stringify(holders) !== "[]"; tries++) {
    const loop = await attach(file);
    const holder = open(loop.path, O_RDONLY);
    assertEquals(await loop.detach({ timeout: 0 }), "deferred");
    const asking = loop.holders();
    holder.close();
    holders = await asking;
  }
  assertEquals(holders, []);
  for (let tries = 0; tries < 20 && outcome !== "detached"; tries++) {
    const loop = await attach(file);
    const holder = open(loop.path, O_RDONLY);
    const stop = new AbortController();
    const detaching = loop.detach({ signal: stop.signal }).catch((error) => error);
    await until(() => openDescriptors().length === 1, "detach() to have let go");
    stop.abort("enough");
    holder.close();
    assertEquals(await detaching, "enough");
    outcome = await loop.detach();
  }
  assertEquals(outcome, "detached");
});

test("detach() says deferred though nobody can say who holds the device", [
  "root",
  "umount",
], () => {
  const file = makeImage("unseen.img", 1);
  const script = scratch("unseen.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { spawn, spawnSync } from "node:child_process";
     const loop = await attach(${JSON.stringify(file)}, { lock: "shared" });
     const holder = spawn("sh", ["-c", 'exec 3<"$0" && echo held && read _ <&0', loop.path]);
     await new Promise((resolve) => holder.stdout.once("data", resolve));
     const closed = new Promise((resolve) => holder.on("close", resolve));
     spawnSync("umount", ["-l", "/proc"]);
     let told;
     const onDeferred = (path, holders) => told = [path === loop.path, holders];
     const outcome = await loop.detach({ onDeferred }).catch(({ message }) => message);
     holder.stdin.end("\\n");
     await closed;
     console.log(JSON.stringify([outcome, told]));`,
  );
  const said = output([...isolated("tmpfs=/mnt"), ...onThisRuntime(script)]);
  assertEquals(JSON.parse(said), ["deferred", [true, []]]);
  assertDetached(file);
});

test("detach() that nobody awaits lets go before the block ends", ["root"], async () => {
  const file = makeImage("unawaited.img", 1);
  {
    await using loop = await attach(file);
    loop.detach({ timeout: 60_000 });
  }
  assertDetached(file);
});

/** What the end of a block says on stderr, in a program that keeps its own device busy. */
function warningOf(file: string, body: string): string {
  const script = scratch("busy.ts");
  writeFileSync(
    script,
    `import { closeSync, openSync, writeFileSync } from "node:fs";
     import { attach, openLoop } from ${JSON.stringify(MOD)};
     import { pid } from "node:process";
     const file = ${JSON.stringify(file)};
     let kept, later;
     console.log(pid);
     ${body}`,
  );
  const { status, stdout, stderr } = run(onThisRuntime(script));
  assertEquals(status, 0, stderr);
  const pid = stdout.trim();
  // A neighbour who lists all devices may have it open, too; this process is no neighbour.
  const neighbours = /, and others do \(((?:[^()]|\([^()]*\))*)\); it detaches when they let go/;
  const others = neighbours.exec(stderr)?.[1] ?? "";
  assert(!new RegExp(`process ${pid}\\b`).test(others), stderr);
  return stderr.replace(neighbours, "; it detaches when that is closed").replaceAll(
    /loop\d+/g,
    "loopN",
  ).replaceAll(
    /descriptor \d+/g,
    "descriptor N",
  );
}

const warning = (what: string) =>
  `loopdev: /dev/loopN is still attached: this process holds it (${what}); it detaches when that ` +
  "is closed (detach() says so without this warning)\n";

test("the end of a block does not take this process for others", ["quiet", "root"], async () => {
  const file = makeImage("own.img", 1);
  const opened = `{
    await using loop = await attach(file);
    kept = openSync(loop.path, "r");
  }
  closeSync(kept);`;
  assertEquals(warningOf(file, opened), warning("descriptor N, /dev/loopN"));
  const handle = `{
    await using loop = await attach(file);
    kept = await openLoop(loop.path);
  }
  await kept[Symbol.asyncDispose]();`;
  assertEquals(warningOf(file, handle), warning("descriptor N, /dev/loopN"));
  await until(() => losetup(file).length === 0, "the device to go");
});

test("the end of a block names the image of ours that is attached from within", [
  "quiet",
  "root",
  "mkfs.ext4",
], async () => {
  const file = makeImage("outer.img", 16);
  output(["mkfs.ext4", "-q", file]);
  for (const readOnly of [true, false]) {
    const body = `{
      await using loop = await attach(file);
      await using root = await loop.mount();
      const inner = root.path + "/inner.img";
      writeFileSync(inner, new Uint8Array(65536));
      kept = await attach(inner, { readOnly: ${readOnly} });
    }
    await kept.detach();`;
    const what =
      /^loopdev: .*: this process holds it \(\/dev\/loopN, attached to \/.*inner\.img there\)/;
    assertMatch(warningOf(file, body), what);
    await until(() => losetup(file).length === 0, "the device to go");
  }
});

test("the end of a block names a file and the working directory of this process", [
  "quiet",
  "root",
  "mkfs.ext4",
], async () => {
  const file = makeImage("within.img", 8);
  output(["mkfs.ext4", "-q", file]);
  const body = `{
    await using loop = await attach(file);
    await using root = await loop.mount();
    kept = openSync(root.path + "/lost+found", "r");
    process.chdir(root.path);
  }
  process.chdir("/");
  closeSync(kept);`;
  const said = warningOf(file, `import process from "node:process";\n${body}`);
  assertMatch(said, /process holds it \(descriptor N, \/\S* there; its working directory\)/);
  await until(() => losetup(file).length === 0, "the device to go");
});

test("the end of a block says that others hold it, and who", ["quiet", "root"], async () => {
  const file = makeImage("both.img", 1);
  const body = `import { spawn } from "node:child_process";
  {
    await using loop = await attach(file);
    later = spawn("sh", ["-c", 'exec 3<"$0" && echo held && read _ <&0', loop.path]);
    await new Promise((resolve) => later.stdout.once("data", resolve));
  }
  later.stdin.end("\\n");`;
  const said = warningOf(file, body);
  assertMatch(
    said,
    /: others hold it \((.*, )?\/dev\/loopN: process \d+ \(sh\)(, .*)?\); it detaches when they/,
  );
  await until(() => losetup(file).length === 0, "the device to go");
});

test("detach() says what is wrong with its options", ["root"], async () => {
  await using loop = await attach(makeImage("options.img", 1));
  const cases: [options: unknown, message: string][] = [
    [{ timeout: -1 }, "timeout must be a number of ms"],
    [{ signal: {} }, "signal must be an AbortSignal"],
    [{ onDeferred: "yes" }, "onDeferred must be a function"],
    [{ wait: true }, "unknown option 'wait'"],
    [null, "options must be an object"],
  ];
  for (const [options, message] of cases) {
    await assertRejects(() => loop.detach(options as never), Error, message);
    await assertRejects(() => detach(loop.path, options as never), Error, message);
  }
  assertEquals(await loop.isCurrent(), true);
});
