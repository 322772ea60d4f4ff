/**
 * `overlap` is decided for a file once, whoever attaches it: another process, a thread of this one, a
 * second copy of the library. Each racer attaches the same file again and again, at the same time as the
 * other one.
 */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { join } from "node:path";
import process from "node:process";
import { attach, detach, LoopError } from "../mod.ts";
import {
  assertDetached,
  holdBy,
  losetup,
  makeImage,
  MOD,
  onThisRuntime,
  output,
  PATIENTLY,
  ROOT,
  RUNTIME,
  scratch,
  test,
} from "./support/support.ts";
import { traced } from "./support/traced.ts";

const ROUNDS = 40;

/** Answers each line: "refuse" and "reuse" attach, with what came of it; "end" lets go. */
const racer = (mod: string, file: string) =>
  `import { attach } from ${JSON.stringify(mod)};
   let loop;
   export async function answer(line) {
     try {
       if (line === "end") await loop?.[Symbol.asyncDispose]();
       loop = line === "end" ? undefined : await attach(${JSON.stringify(file)}, { overlap: line });
       return loop?.path ?? "let go";
     } catch (error) {
       return error.code ?? String(error);
     }
   }
`;

interface Racer extends AsyncDisposable {
  answer(line: string): Promise<string>;
  readonly pid: number;
}

/** A child process with two racers, or one: what `others` makes of them answers each line. */
function child(body: string): Racer {
  const path = scratch(`racer-${Math.random()}.ts`);
  writeFileSync(
    path,
    `import { createInterface } from "node:readline";
     ${body}
     for await (const line of createInterface({ input: process.stdin })) {
       console.log(await answers(line));
     }
     process.exit(0);`.replace("import {", 'import process from "node:process";\nimport {'),
  );
  const [name, ...args] = onThisRuntime(path);
  const spawned = spawn(name, args, { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: spawned.stdout })[Symbol.asyncIterator]();
  const closed = new Promise((resolve) => spawned.on("close", resolve));
  return {
    pid: spawned.pid!,
    async answer(line) {
      spawned.stdin.write(`${line}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error("a racer has ended");
      return value;
    },
    async [Symbol.asyncDispose]() {
      spawned.stdin.end();
      await closed;
    },
  };
}

/** In each round one attaches and the other is refused; or both have the same device. */
async function race(file: string, answers: (line: string) => Promise<string[]>): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    const overlap = round % 2 === 0 ? "refuse" : "reuse";
    const got = await answers(overlap);
    const devices = losetup(file).map(({ name }) => name);
    assertEquals(devices.length, 1, `round ${round}: ${got.join()}`);
    const expected = overlap === "refuse" ? [devices[0], "EEXIST"] : [devices[0], devices[0]];
    assertEquals(got.toSorted(), expected, `round ${round}`);
    await answers("end");
    // Whoever looks at all devices just then has the last close.
    assertDetached(file);
  }
}

const both = (a: string, b: string) =>
  `const answers = async (line) => (await Promise.all([${a}(line), ${b}(line)])).join(" ");`;

test("overlap is decided once for two processes", ["root"], async () => {
  const file = makeImage("processes.img", 1);
  const script = racer(MOD, file) + "const answers = answer;";
  await using first = child(script);
  await using second = child(script);
  await race(file, (line) => Promise.all([first.answer(line), second.answer(line)]));
});

test("overlap is decided once for two copies of the library", ["root"], async () => {
  const file = makeImage("copies.img", 1);
  const copy = scratch("copy");
  mkdirSync(copy);
  // dist/: where mod.ts is the built file.
  for (const folder of ["lib", "dist"].filter((name) => existsSync(join(ROOT, name)))) {
    cpSync(join(ROOT, folder), join(copy, folder), { recursive: true });
  }
  cpSync(join(ROOT, "mod.ts"), join(copy, "mod.ts"));
  const own = scratch("own.ts");
  writeFileSync(own, racer(MOD, file));
  const other = scratch("other.ts");
  writeFileSync(other, racer(join(copy, "mod.ts"), file));
  await using racers = child(
    `import { answer as a } from ${JSON.stringify(own)};
     import { answer as b } from ${JSON.stringify(other)};
     ${both("a", "b")}`,
  );
  await race(file, async (line) => (await racers.answer(line)).split(" "));
});

/** Both ends of a Worker: Node has those of worker_threads alone. */
const WORKER = RUNTIME === "node"
  ? {
    own: `import { parentPort } from "node:worker_threads";
     const tell = (data) => parentPort.postMessage(data);
     const hear = (told) => parentPort.on("message", told);`,
    start: (path: string) =>
      `import { Worker } from "node:worker_threads";
     const worker = new Worker(${JSON.stringify(path)});
     const hear = (told) => worker.once("message", told);`,
  }
  : {
    own: `const tell = (data) => self.postMessage(data);
     const hear = (told) => self.onmessage = ({ data }) => told(data);`,
    start: (path: string) =>
      `const worker = new Worker(${JSON.stringify(`file://${path}`)}, { type: "module" });
     const hear = (told) => worker.onmessage = ({ data }) => told(data);`,
  };

test("overlap is decided once for the main thread and a Worker", ["root"], async () => {
  const file = makeImage("worker.img", 1);
  const own = scratch("own.ts");
  writeFileSync(own, racer(MOD, file));
  const worker = scratch("worker.ts");
  writeFileSync(
    worker,
    `import { answer } from ${JSON.stringify(own)};
     ${WORKER.own}
     hear(async (line) => tell(await answer(line)));
     tell("ready");`,
  );
  await using racers = child(
    `import { answer as a } from ${JSON.stringify(own)};
     ${WORKER.start(worker)}
     const next = () => new Promise(hear);
     await next();
     const b = (line) => (worker.postMessage(line), next());
     ${both("a", "b")}`,
  );
  await race(file, async (line) => (await racers.answer(line)).split(" "));
});

/** Another process decides about `file`, and does not come to an end. */
async function decideElsewhere(file: string): Promise<Racer> {
  const lib = (name: string) => JSON.stringify(new URL(`lib/${name}`, MOD).href);
  const racer = child(
    `import { aloneWith } from ${lib("binding/file_lock.ts")};
     import { O_RDONLY, open } from ${lib("kernel/file.ts")};
     const file = open(${JSON.stringify(file)}, O_RDONLY);
     const answers = () => new Promise((resolve) => aloneWith(file, { timeout: 1000 }, async () => {
       resolve(process.pid);
       await new Promise(() => setInterval(() => {}, 1000));
     }));`,
  );
  assertEquals(await racer.answer("decide"), `${racer.pid}`);
  return racer;
}

test("overlap: attach() waits for who decides, says who it is, and hears its signal", [
  "root",
  "unshare",
], async () => {
  const file = makeImage("decided.img", 1);
  const other = await decideElsewhere(file);
  const options = { overlap: "refuse", timeout: 200 } as const;
  const error = await assertRejects(() => attach(file, options), LoopError);
  assertEquals([error.code, error.request], ["ETIMEDOUT", "F_OFD_SETLK"]);
  assertMatch(
    error.message,
    new RegExp(`after 200 ms still being attached by process ${other.pid} `),
  );
  const script = scratch("apart.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(MOD)};
     import { spawnSync } from "node:child_process";
     const attaching = () => attach(${JSON.stringify(file)}, { overlap: "refuse", timeout: 100 })
       .catch(({ message }) => message);
     const first = await attaching();
     const second = attaching();
     await new Promise((resolve) => setTimeout(resolve, 30));
     // The host's lies below it.
     for (let times = 0; times < 2; times++) spawnSync("umount", ["-l", "/proc"]);
     console.log(JSON.stringify([first, await second]));`,
  );
  // As in a container, which shares the file and sees no process of the host, or none at all.
  const apart = ["unshare", "--pid", "--fork", "--mount-proc", ...onThisRuntime(script)];
  for (const said of JSON.parse(output(apart))) {
    assertMatch(said, /after 100 ms still being attached by somebody out of sight/);
  }
  const enough = new Error("enough");
  const signal = AbortSignal.timeout(50);
  await assertRejects(() => attach(file, { overlap: "reuse", signal }), DOMException);
  await assertRejects(
    () => attach(file, { overlap: "reuse", signal: AbortSignal.abort(enough) }),
    Error,
    "enough",
  );
  // Who does not ask is not concerned.
  await (await attach(file)).detach();
  // The lock is gone with its process, however that ends.
  process.kill(other.pid, "SIGKILL");
  await (await attach(file, { overlap: "refuse" })).detach();
  await other[Symbol.asyncDispose]();
  assertDetached(file);
});

test("overlap: an attach whose lock takes too long is given up, and no handle is left of it", [
  "root",
  "strace",
], async () => {
  const file = makeImage("slow.img", 1);
  await using loop = await attach(file);
  const { stdout } = traced(
    `import { readdirSync, readlinkSync } from "node:fs";
     const own = () => readdirSync("/proc/self/fd").filter((fd) => {
       try {
         return readlinkSync("/proc/self/fd/" + fd) === ${JSON.stringify(loop.path)};
       } catch {
         return false;
       }
     });
     const options = { overlap: "reuse", signal: AbortSignal.timeout(500) };
     const { name } = await attach(${JSON.stringify(file)}, options).catch((error) => error);
     // A lock that ended before the signal came is none that took too long.
     await new Promise((resolve) => setTimeout(resolve, 500));
     console.log(name ?? "attached", name && own().length);`,
    { calls: "fcntl", inject: "fcntl:delay_enter=400000", on: file },
  );
  assertEquals(stdout, "TimeoutError 0\n");
  assertEquals(await loop.detach(PATIENTLY), "detached");
});

test("overlap: a file that others lock with flock(2), or that cannot be written, is attached", [
  "root",
  "flock",
], async () => {
  const file = makeImage("locked.img", 1);
  await using _held = await holdBy('exec 3<"$0" && flock -x 3', file);
  await using first = await attach(file, { overlap: "refuse", readOnly: true });
  // A block device's flock(2) is udev's; the lock is another one there, too.
  await using _locked = await holdBy('exec 3<"$0" && flock -x 3', first.path);
  await using over = await attach(first.path, { overlap: "refuse", readOnly: true });
  await assertRejects(() => attach(first.path, { overlap: "refuse", readOnly: true }), LoopError);
  assertEquals(over.size, first.size);
});

test("losetup -L: of two at the same time one attaches, and both have its device", [
  "root",
], async () => {
  const file = makeImage("nooverlap.img", 1);
  for (let round = 0; round < 10; round++) {
    const racers = [0, 1].map(() => {
      const [name, ...args] = onThisRuntime(join(ROOT, "cli.ts"), "-L", "-f", "--show", file);
      const child = spawn(name, args, { stdio: ["ignore", "pipe", "inherit"] });
      let printed = "";
      child.stdout.on("data", (data) => printed += data);
      return new Promise<string>((resolve) => child.on("close", () => resolve(printed)));
    });
    const [a, b] = await Promise.all(racers);
    assertEquals(losetup(file).map(({ name }) => `${name}\n`), [a]);
    assertEquals(b, a);
    await detach(file, PATIENTLY);
  }
});
