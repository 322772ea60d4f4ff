/**
 * What can wait for long is made by another thread: who makes which call, as strace sees it, and what
 * becomes of the process, of an AbortSignal and of an exception meanwhile.
 */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { attach, type AttachOptions } from "../mod.ts";
import { chainOnThread, eachOnThread, uninterruptedOnThread } from "../lib/kernel/chain.ts";
import {
  AT_FDCWD,
  cString,
  O_CLOEXEC,
  O_CREAT,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  open,
  OpenFile,
} from "../lib/kernel/file.ts";
import { libc } from "../lib/runtime/libc.ts";
import { SYS } from "../lib/kernel/syscalls.ts";
import { type Thread, type ThreadEvents, Threads } from "../lib/runtime/threads.ts";
import {
  losetup,
  losetupFromSysfs,
  type LosetupRow,
  makeImage,
  MOD,
  onThisRuntime,
  openDescriptors,
  output,
  run,
  RUNTIME,
  scratch,
  test,
  testsOf,
  THREE_PARTITIONS,
  until,
} from "./support/support.ts";
import { traced } from "./support/traced.ts";

const withStrace = testsOf("what waits is done by another thread", ["strace"]);

const TWO_STEPS = { partscan: true, workaround: "always" } as const;

/** A script of its own, in which loopdev is imported and `file` is the image. */
function script(body: string, file: string): string {
  const path = scratch("script.ts");
  const lib = JSON.stringify(new URL("lib/runtime/libc.ts", MOD));
  writeFileSync(
    path,
    `import { attach, detach } from ${JSON.stringify(MOD)};
     import { libc } from ${lib};
     const file = ${JSON.stringify(file)};
     ${body}`,
  );
  return path;
}

/** Attaches and detaches under strace: the calls that match, each with whether the main thread made it. */
function whoMakes(which: RegExp, file: string, options: AttachOptions): string[] {
  const body = `const loop = await attach(${JSON.stringify(file)}, ${JSON.stringify(options)});
    await loop.detach();`;
  const tracing = { calls: "?open,openat,openat2,pread64,fsync,close,ioctl", names: true };
  return traced(body, tracing).calls.flatMap(({ text, isMain }) => {
    const name = which.exec(text)?.[0];
    return name === undefined ? [] : [`${isMain ? "main" : "other"} ${name}`];
  });
}

withStrace("LOOP_SET_STATUS64 is made by another thread, LOOP_CONFIGURE by the main one", [
  "root",
  "strace",
], () => {
  const calls = whoMakes(/LOOP_CONFIGURE|LOOP_SET_STATUS64/, makeImage("steps.img", 1), TWO_STEPS);
  assertEquals(calls, ["main LOOP_CONFIGURE", "other LOOP_SET_STATUS64"]);
});

withStrace("a file with dirty pages is flushed by another thread, a clean one not at all", [
  "root",
  "strace",
], () => {
  const file = makeImage("dirty.img", 16);
  // Deno flushes a cache of its own now and then.
  const flush = /fsync(?=\(\d+<\S*dirty\.img>)/;
  let flushes: string[] = [];
  // A neighbour's sync(1) may have written the pages before we come to it.
  for (let tries = 0; tries < 5 && flushes.length === 0; tries++) {
    output(["dd", "if=/dev/urandom", `of=${file}`, "bs=1M", "count=8", "conv=notrunc"]);
    flushes = whoMakes(flush, file, {});
  }
  assertEquals(flushes, ["other fsync"]);
  assertEquals(whoMakes(flush, file, {}), []);
});

/** How often attach() and detach() ask for the cached pages of the file or the device. */
function looksAtPages(file: string): number {
  const body = `const loop = await attach(${JSON.stringify(file)});
    await loop.detach();`;
  // cachestat(): strace may not know its name.
  const { calls } = traced(body, { calls: "all" });
  return calls.filter(({ text }) => /^(cachestat|syscall_0x1c3)\(/.test(text)).length;
}

withStrace("a device that was just written back is closed without another look", [
  "quiet",
  "root",
  "strace",
], () => {
  const looks = looksAtPages(makeImage("looked_at.img", 1));
  assertEquals(looks, 3, "of the file at the attach, of both at the detach");
});

withStrace("a file whose directory must be read from a disk is opened by another thread", [
  "quiet",
  "root",
  "strace",
  "mkfs.ext4",
  "mount",
], async () => {
  const [folder, mount, image] = ["content", "mount", "disk.img"].map(scratch);
  mkdirSync(folder);
  mkdirSync(mount);
  output(["truncate", "-s", "1M", `${folder}/inner.img`]);
  output(["truncate", "-s", "16M", image]);
  output(["mkfs.ext4", "-q", "-d", folder, image]);
  await using loop = await attach(image);
  output(["mount", loop.path, mount]);
  try {
    const opens = () => whoMakes(/openat2?\(.*inner\.img"/, `${mount}/inner.img`, {});
    const who = (calls: string[]) => calls.map((call) => call.replace(/\(.*/, ""));
    let first = who(opens());
    // A run that a neighbour disturbed was made again, and then the name was known.
    for (let tries = 1; tries < 10 && first.length < 2; tries++) {
      output(["umount", mount]);
      output(["mount", loop.path, mount]);
      first = who(opens());
    }
    assertEquals(first, ["main openat2", "other openat"]);
    assertEquals(who(opens()), ["main openat2"], "its name is known now");
  } finally {
    output(["umount", mount]);
  }
});

withStrace(
  "a file on tmpfs has no disk: the main thread reads its holes, nobody counts its pages",
  [
    "quiet",
    "root",
    "strace",
    "mount",
  ],
  () => {
    const who = (file: string) =>
      new Set(whoMakes(/pread64(?=\(\d+<\S*hole\.img>)/, file, { partscan: true }));
    const mount = scratch("tmpfs");
    mkdirSync(mount);
    output(["mount", "-t", "tmpfs", "none", mount]);
    try {
      output(["truncate", "-s", "8M", `${mount}/hole.img`]);
      assertEquals(who(`${mount}/hole.img`), new Set(["main pread64"]));
      assertEquals(looksAtPages(`${mount}/hole.img`), 1, "of the device at the detach");
    } finally {
      output(["umount", mount]);
    }
  },
);

test("a process ends by itself: idle threads do not keep it", ["root"], () => {
  const file = makeImage("ends.img", 1);
  const options = JSON.stringify(TWO_STEPS);
  const detached = `await (await attach(file, ${options})).detach(); console.log("end");`;
  assertEquals(output(onThisRuntime(script(detached, file))), "end\n");
  const attached = `await attach(file, ${options}); console.log("end");`;
  assertEquals(output(onThisRuntime(script(attached, file))), "end\n");
});

test(
  "no timer is left of calls that waited for a thread: the process would wait for it",
  [],
  () => {
    const chain = JSON.stringify(new URL("lib/kernel/chain.ts", MOD));
    const body = `const { uninterruptedOnThread } = await import(${chain});
    const live = new Set();
    const { setTimeout: begin, clearTimeout: end } = globalThis;
    globalThis.setTimeout = (callback, ms) => {
      const timer = begin(() => live.delete(timer) && callback(), ms);
      live.add(timer);
      return timer;
    };
    globalThis.clearTimeout = (timer) => live.delete(timer) && end(timer);
    await Promise.all(Array.from({ length: 3 }, () => uninterruptedOnThread("fsync", -1)));
    console.log(live.size);`;
    assertEquals(output(onThisRuntime(script(body, ""))), "0\n");
  },
);

test("a process does not end before its call has", ["root"], () => {
  const file = makeImage("waits.img", 1);
  const body = `attach(file, ${JSON.stringify(TWO_STEPS)}).then(async (loop) => {
    console.log(loop.strategy, await loop.detach());
  });`;
  assertEquals(output(onThisRuntime(script(body, file))), "two-step detached\n");
});

test("a process ends while a call hangs that nobody waits for any more", [], () => {
  const fifo = scratch("sick");
  output(["mkfifo", fifo]);
  const from = (file: string) => JSON.stringify(new URL(`lib/kernel/${file}.ts`, MOD));
  // Deno itself waits for its pool, except in exit().
  const ends = ["process.exit(3)", ...RUNTIME === "deno" ? [] : ["process.exitCode = 3"]];
  for (const [index, end] of ends.entries()) {
    const body = `import { existsSync } from "node:fs";
      import process from "node:process";
      import { chainOnThread } from ${from("chain")};
      import { cString } from ${from("file")};
      const [begun, sick] = [${JSON.stringify(scratch(`begun-${index}`))}, ${JSON.stringify(fifo)}];
      const controller = new AbortController();
      const open = (path, ...how) => ({ name: "openat", args: [${AT_FDCWD}, cString(path), ...how] });
      const steps = [open(begun, ${O_CREAT}, 0o600), open(sick, ${O_RDONLY}, 0)];
      void chainOnThread(steps, controller.signal);
      while (!existsSync(begun)) await new Promise((resolve) => setTimeout(resolve, 1));
      controller.abort();
      console.log("end");
      ${end};`;
    const command = onThisRuntime(script(body, ""));
    const { status, stdout } = run(command, { killSignal: "SIGKILL" });
    assertEquals([status, stdout], [3, "end\n"], end);
  }
});

test("attach() that is aborted while the kernel is busy undoes everything", ["root"], async () => {
  const file = makeImage("aborted.img", 8, THREE_PARTITIONS);
  // A flush by a thread would come before the bind.
  output(["sync", file]);
  for (let caught = 0, round = 0; caught < 5; round++) {
    assert(round < 100, "attach() was never aborted while the kernel was busy");
    const controller = new AbortController();
    const reason = new Error("enough");
    let busy: LosetupRow[] = [];
    // LOOP_SET_STATUS64 takes 5 to 16 ms: a turn of the event loop soon comes in its midst. Not by
    // losetup: Bun 1.3 lets other things happen while it waits for a child process.
    const look = setInterval(() => {
      const bound = losetupFromSysfs(file);
      if (bound.length === 0) return;
      busy = bound;
      controller.abort(reason);
    }, 1);
    try {
      const loop = await attach(file, { ...TWO_STEPS, signal: controller.signal });
      // It was quicker than we were.
      await loop.detach();
    } catch (error) {
      assertEquals(error, reason);
      assertEquals(busy.length, 1, "it was bound when it was aborted");
      caught++;
    } finally {
      clearInterval(look);
    }
    // On a busy machine the undoing may outlast the promise, which waits 250 ms for it.
    await until(() => openDescriptors().length === 0, "the descriptors to be closed");
    await until(() => losetup(file).length === 0, "the device to be detached");
  }
});

function throws(act: () => unknown): boolean {
  try {
    act();
    return false;
  } catch {
    return true;
  }
}

test("an exception in a thread rejects its call, and the next one works", ["root"], async () => {
  const noNumber = "no number" as unknown as number;
  // Bun 1.3 takes anything for a number: there is no exception then.
  if (throws(() => libc().syscall(SYS("fsync"), noNumber))) {
    await assertRejects(() => uninterruptedOnThread("fsync", noNumber), Error);
  }
  await using loop = await attach(makeImage("after.img", 1), TWO_STEPS);
  assertEquals(loop.strategy, "two-step");
});

/**
 * Puts a class with this body in the place of Bun's Worker and of Node's: Deno's threads are no Workers.
 * `tell(event, value)` is what a Worker tells whoever started it.
 */
function fakeWorker(body: string): string {
  return `import { createRequire } from "node:module";
    class Fake {
      #told = {};
      on(event, callback) { this.#told[event] = callback; }
      tell(event, value) {
        const told = event === "message" ? { data: value } : value;
        setTimeout(() => this[\`on\${event}\`] ? this[\`on\${event}\`](told) : this.#told[event](value), 1);
      }
      ref() {}
      unref() {}
      terminate() {}
      ${body}
    }
    globalThis.Worker = Fake;
    if (process.versions.node && !process.versions.bun) {
      createRequire(import.meta.url)("node:worker_threads").Worker = Fake;
    }`;
}

test("where no thread can be started the main one makes the calls", ["root"], () => {
  const file = makeImage("threadless.img", 1);
  // The second kind fails later, as one does that cannot load.
  const later = "this.tell('error', { message: 'no thread' })";
  for (const failing of ["throw new Error('no thread')", later]) {
    const body = `${fakeWorker(`constructor() { ${failing}; }`)}
      const loop = await attach(file, ${JSON.stringify(TWO_STEPS)});
      console.log(loop.strategy, await loop.detach());`;
    assertEquals(output(onThisRuntime(script(body, file))), "two-step detached\n");
  }
});

/** Opens a FIFO so many times, which waits for who writes to it, as a read waits for a sick disk. */
function hang(path: string, count: number): { ended: Promise<void>; end(): void } {
  if (!existsSync(path)) output(["mkfifo", path]);
  const opens = Array.from({ length: count }, async () => {
    const fd = await uninterruptedOnThread("openat", AT_FDCWD, cString(path), O_RDONLY, 0);
    new OpenFile(fd, path).close();
  });
  const ended = Promise.all(opens).then(() => {});
  const end = () => {
    const writer = open(path, O_RDWR);
    void ended.finally(() => writer.close());
  };
  return { ended, end };
}

const O_WRONLY = 1;
const threadsOfProcess = () => readdirSync("/proc/self/task").length;

test("calls that hang stop no other", [], async () => {
  // More than the usual threads of Bun and Node.
  const sick = hang(scratch("sick"), 20);
  try {
    for (let n = 0; n < 20; n++) {
      const asked = performance.now();
      assertEquals(await uninterruptedOnThread("fsync", -1), -9);
      assert(performance.now() - asked < 10_000, "it waited for the others");
    }
    await using loop = await attach(makeImage("well.img", 1), TWO_STEPS);
    assertEquals(loop.strategy, "two-step");
    assertEquals(await Promise.race([sick.ended, "hangs"]), "hangs");
  } finally {
    sick.end();
  }
  await sick.ended;
});

test("a call that waits for a thread is taken back by its signal", [], async () => {
  const before = threadsOfProcess();
  // More than there are threads, on any runtime: they take the calls in their order.
  const sick = hang(scratch("sick"), 80);
  try {
    const path = scratch("never");
    const flags = O_CREAT | O_CLOEXEC;
    const step = { name: "openat", args: [AT_FDCWD, cString(path), flags, 0o600] } as const;
    const reason = new Error("enough");
    const controller = new AbortController();
    const waiting = chainOnThread([step], controller.signal);
    setTimeout(() => controller.abort(reason), 500);
    // The others still hang: nothing but the signal can end it.
    assertEquals(await assertRejects(() => waiting), reason);
    assertEquals(
      await assertRejects(() => chainOnThread([step], AbortSignal.abort(reason))),
      reason,
    );
    sick.end();
    await sick.ended;
    assertEquals(await uninterruptedOnThread("fsync", -1), -9);
    assert(!existsSync(path), "it was made after all");
  } finally {
    sick.end();
  }
  // The usual ones stay, and the runtimes have some of their own.
  await until(() => threadsOfProcess() < before + 40, "threads to end");
});

test("a signal that comes when a thread has begun leaves the call alone", [], async () => {
  const path = scratch("begun");
  output(["mkfifo", path]);
  const controller = new AbortController();
  const step = { name: "openat", args: [AT_FDCWD, cString(path), O_RDONLY, 0] } as const;
  const opening = chainOnThread([step], controller.signal);
  // Whoever opens it for writing without waiting is refused until somebody reads.
  let writer: OpenFile | undefined;
  await until(() => {
    return !throws(() => writer = open(path, O_WRONLY | O_NONBLOCK));
  }, "the thread to begin");
  controller.abort();
  const [fd] = await opening;
  new OpenFile(fd, path).close();
  writer!.close();
});

test("an empty buffer goes to the kernel as any other", [], async () => {
  const path = scratch("empty");
  writeFileSync(path, "text");
  const [fd] = await chainOnThread([{
    ...{ name: "openat", args: [AT_FDCWD, cString(path), O_RDONLY, 0] },
  }]);
  using file = new OpenFile(fd, path);
  for (const empty of [new Uint8Array(0), new Uint8Array(new ArrayBuffer(8)).subarray(3, 3)]) {
    assertEquals(typeof libc().addressOf(empty), "bigint");
    assertEquals(file.call((fd) => libc().syscall(SYS("pread64"), fd, empty, 0, 0)), 0);
    assertEquals(await uninterruptedOnThread("pread64", fd, empty, 0, 0), 0);
  }
});

/** Counts Workers of Bun and Node: `starts`, how many started at the same time, `sends` to them. */
const COUNTED = `import { createRequire } from "node:module";
  const isNode = process.versions.node && !process.versions.bun;
  const threads = isNode ? createRequire(import.meta.url)("node:worker_threads") : globalThis;
  const counts = { starts: 0, together: 0, sends: 0 };
  let starting = 0;
  threads.Worker = class extends threads.Worker {
    constructor(...args) {
      super(...args);
      counts.starts++;
      counts.together = Math.max(counts.together, ++starting);
      const ready = () => starting--;
      if (isNode) this.once("message", ready);
      else this.addEventListener("message", ready, { once: true });
    }
    postMessage(...args) {
      if (!isNode) counts.sends++;
      super.postMessage(...args);
    }
  };
  const { notify } = Atomics;
  // Node's find their chains in shared memory.
  if (isNode) Atomics.notify = (...args) => (counts.sends++, notify(...args));`;

test("one thread starts after the other, and one without a processor does not hang", [], () => {
  if (RUNTIME === "deno") return;
  const chain = JSON.stringify(new URL("lib/kernel/chain.ts", MOD));
  // A busy program hears late that a call has ended: that is no reason to start more threads.
  const body = `${COUNTED}
    const { uninterruptedOnThread } = await import(${chain});
    const busy = (ms) => { for (const end = performance.now() + ms; performance.now() < end;); };
    await Promise.all(Array.from({ length: 90 }, async (_, i) => {
      await uninterruptedOnThread("fsync", -1);
      if (i % 30 === 29) busy(200);
    }));
    console.log(JSON.stringify(counts));`;
  const { starts, together, sends } = JSON.parse(output(onThisRuntime(script(body, ""))));
  assert(starts >= 1 && starts <= 8, `${starts} threads`);
  assertEquals([together, sends], [1, 90]);
});

test(
  "a chain that waits gets another thread after a while, and many chains at once",
  [],
  async () => {
    const answers: ((answer: number[]) => void)[] = [];
    const start = ({ answered }: ThreadEvents): Thread => {
      answers.push(answered);
      return { isReady: true, isInCall: () => false, send() {}, ref() {}, unref() {}, end() {} };
    };
    const threads = new Threads({ start, usual: 8, patienceMs: 20, most: 8, here: () => [] });
    const chains = [threads.chain([]), threads.chain([])];
    assertEquals(answers.length, 1);
    await until(() => answers.length === 2, "a second thread");
    chains.push(threads.chain([]), threads.chain([]));
    assertEquals(answers.length, 2);
    chains.push(threads.chain([]));
    assertEquals(answers.length, 3, "three wait for two");
    await until(() => answers.length === 5, "a thread for each chain");
    for (const answer of answers) answer([0]);
    assertEquals(await Promise.all(chains), chains.map(() => [0]));
  },
);

/** What a script prints that has mounted a file system as `root`; `sends(act)`: what Workers were sent. */
function inMount(name: string, body: string): string[] {
  const image = scratch(name);
  output(["truncate", "-s", "8M", image]);
  output(["mkfs.ext4", "-q", image]);
  const mounting = `${COUNTED}
    async function sends(act) {
      const before = counts.sends;
      await act();
      return counts.sends - before;
    }
    await using loop = await attach(file);
    await using root = await loop.mount();
    ${body}`;
  return output(onThisRuntime(script(mounting, image))).trim().split(" ");
}

test("holders() asks a thread for the files of many processes at once", [
  "quiet",
  "root",
  "mkfs.ext4",
], () => {
  if (RUNTIME === "deno") return;
  const [isThere, sends] = inMount(
    "held.img",
    `let holders;
    const count = await sends(async () => holders = await loop.holders());
    console.log(holders.some(({ by }) => by === root.path), count);`,
  );
  assertEquals(isThere, "true");
  const processes = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).length;
  // Asked one by one it would be one for each process. Beside neighbours it was 23 for 141.
  assert(Number(sends) < 10 + processes / 5, `${sends} for ${processes} processes`);
});

test("resolve() asks a thread for what the kernel has to read from the disk alone", [
  "root",
  "mkfs.ext4",
], () => {
  if (RUNTIME === "deno") return;
  const sends = inMount(
    "resolved.img",
    `const { mkdirSync, symlinkSync, writeFileSync } = await import("node:fs");
    mkdirSync(\`\${root.path}/a/b/c\`, { recursive: true });
    writeFileSync(\`\${root.path}/a/b/c/file\`, "");
    symlinkSync("/a/b", \`\${root.path}/link\`);
    const of = (name) => sends(() => root.resolve(name));
    console.log(await of("a/b/c/file"), await of("a/b/c/new/er"), await of("link/c/file"));`,
  );
  assertEquals(sends, ["0", "1", "1"]);
});

test("a thread that dies, or cannot make a call, says so in a line", [], () => {
  // The message is as long as the source that Bun puts into one.
  const dying = `constructor() {
      this.tell("message", []);
      Atomics.notify = () => this.postMessage();
    }
    postMessage() {
      const message = "1 | source\\n".repeat(100) + "TypeError: " + "x".repeat(1000);
      this.tell("error", { message, toString: () => message });
    }`;
  const chain = JSON.stringify(new URL("lib/kernel/chain.ts", MOD));
  const body = `${fakeWorker(dying)}
    const { uninterruptedOnThread } = await import(${chain});
    const { open } = await import(${JSON.stringify(new URL("lib/kernel/file.ts", MOD))});
    const nothing = open("/dev/null", 0);
    const syncing = nothing.callOnThread((fd) => uninterruptedOnThread("fsync", fd));
    // It is closed by another thread, after the call. That one dies, too, and nobody waits for it.
    nothing.close();
    await syncing.then((result) => console.log(result), ({ message }) => console.log(message));`;
  const said = output(onThisRuntime(script(body, "")));
  if (RUNTIME === "deno") return assertEquals(said, "-22\n");
  assert(said.length < 300, said);
  assertMatch(said, /^a thread of loopdev's died: TypeError: x+\n$/);
});

test("a chain of many calls gives what each returned", [], async () => {
  // More than Node's threads have shared memory for.
  using file = open(scratch("many"), O_RDWR | O_CREAT, 0o600);
  const sync = { number: SYS("fsync"), args: [file.call((fd) => fd)] };
  const many = Array.from({ length: 300 }, () => sync);
  const bad = { ...sync, args: [-1] };
  assertEquals(await libc().chain([...many, bad, sync]), [...many.map(() => 0), -9]);
});

test("errno comes back from a thread", [], async () => {
  assertEquals(await uninterruptedOnThread("fsync", -1), -9);
  assertEquals(await uninterruptedOnThread("ioctl", -1, 0x4c82, 0), -9);
  assertEquals(await uninterruptedOnThread("openat", AT_FDCWD, cString("/no/such"), 0, 0), -2);
  const both = await Promise.all(
    Array.from({ length: 40 }, () => uninterruptedOnThread("fsync", -1)),
  );
  assertEquals(new Set(both), new Set([-9]));
});

test("a chain hands descriptors on, and ends where a call fails", [], async () => {
  const folder = scratch("chain");
  mkdirSync(folder);
  writeFileSync(`${folder}/file`, "what is in it");
  const bytes = new Uint8Array(new ArrayBuffer(4));
  const opened = (path: string, on?: number) => ({
    ...{ name: "openat" as const, args: [cString(path), O_RDONLY, 0], on },
  });
  const read = { name: "pread64" as const, on: 1, args: [bytes, 4, 5] };
  const start = { ...opened(folder), args: [AT_FDCWD, ...opened(folder).args] };
  const good = await chainOnThread([start, opened("file", 0), read]);
  using _directory = new OpenFile(good[0], folder);
  using _file = new OpenFile(good[1], "file");
  assertEquals([good[2], new TextDecoder().decode(bytes)], [4, "is i"]);

  const bad = [opened("no-file"), read].map((step) => ({ ...step, on: 0 }));
  const [descriptor, ...rest] = await chainOnThread([start, ...bad]);
  using _again = new OpenFile(descriptor, folder);
  assertEquals(rest, [-2], "read() was not called any more");
  const sync = (fd: number) => ({ name: "fsync" as const, args: [fd] });
  assertEquals(await eachOnThread([sync(-1), sync(descriptor), sync(-1)]), [-9, 0, -9]);
});
