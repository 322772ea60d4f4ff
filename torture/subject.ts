/**
 * What the torture tests put under strace: does one scenario after the other, as the lines of stdin
 * say. "prepare NAME" makes what the act needs; "act NAME" acts, between two system calls that mark
 * the act in a trace; "undo NAME" takes back what the act rightly left. Each answers with a line of
 * JSON. Uses of the library nothing but mod.ts.
 */
import {
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { isatty } from "node:tty";
import {
  attach,
  type AttachOptions,
  detach,
  find,
  type LoopDevice,
  type LoopMount,
  mountImage,
  type MountOptions,
} from "../mod.ts";
import { readOptions } from "../dev/options.ts";
import { putEntries } from "../tests/cases/mbr.ts";
import { keepersOf, killAll } from "../tests/support/keepers.ts";
import { GROWN_SIZE, makeSmall } from "./grow_ends.ts";
import { MARKS, type ScenarioName, STAYING } from "./scenarios.ts";

const HELP = `Usage: torture/subject.ts GPT DOS EXT4 GROWN TREE

What parts "faults" and "kill" start, with five images. It reads what to do from stdin.

  -h, --help  this text`;
const { operands: [gpt, dos, ext4, grown, tree] } = readOptions(HELP, {}, { most: 5 });

let loop: LoopDevice | undefined;
let mounted: LoopMount | undefined;

/** What a handle says, for comparison with a run without faults. */
function describe({ path, size, backingFile, strategy, partitions }: LoopDevice) {
  return { path, size, backingFile, strategy, partitions };
}

/** MiB of each partition, one after the other from 1 MiB on; 0 leaves the entry empty. */
function writeTable(file: string, ...sizes: number[]): void {
  const sector = new Uint8Array(512);
  let start = 1;
  const entries = sizes.map((mib) => {
    const entry = { type: mib === 0 ? 0 : 0x83, start: mib && start * 2048, count: mib * 2048 };
    start += mib;
    return entry;
  });
  putEntries(sector, entries);
  const fd = openSync(file, "r+");
  writeSync(fd, sector, 0, 512, 0);
  closeSync(fd);
}

interface Scenario {
  prepare?(): Promise<void>;
  act(): Promise<unknown>;
  undo?(): Promise<void>;
}

const attachAndDetach = (options: AttachOptions): Scenario => ({
  async act() {
    await using loop = await attach(gpt, options);
    return { ...describe(loop), detached: await loop.detach() };
  },
});

async function detachLoop(): Promise<void> {
  if (await loop!.detach() === "deferred") throw new Error("detached only later");
}

/** Nobody's processes have this number. */
const USER = 65534;

const mountAndUnmount = (options: MountOptions, before = () => {}): Scenario => ({
  async prepare() {
    loop = await attach(ext4);
    mkdirSync(`${ext4}.at`, { recursive: true });
    before();
  },
  async act() {
    const root = await loop!.mount(undefined, options);
    const { type, readOnly } = root;
    return { path: loop!.path, type, readOnly, unmounted: await root.unmount() };
  },
  undo: detachLoop,
});

const killKeeper = () => killAll(keepersOf(process.pid));

async function detachAll(): Promise<void> {
  for (const { path } of await find(gpt)) await detach(path);
}

const SCENARIOS: Record<ScenarioName, Scenario> = {
  "none": attachAndDetach({}),
  "one-step": attachAndDetach({ partscan: true, workaround: "never" }),
  "two-step": attachAndDetach({ partscan: true, workaround: "always" }),
  "userspace": attachAndDetach({ partscan: "userspace", workaround: "never" }),
  "persist": {
    async prepare() {
      loop = await attach(gpt);
    },
    async act() {
      await loop!.persist();
      existsSync(MARKS.persisted);
      return { path: loop!.path };
    },
    async undo() {
      // A handle that could not persist still detaches; one that could does not.
      await loop!.detach().catch((error) => {
        if (!(error instanceof TypeError)) throw error;
      });
      await detachAll();
    },
  },
  "rescan": {
    async prepare() {
      writeTable(dos, 1, 1, 2, 1);
      loop = await attach(dos, { partscan: true });
      writeTable(dos, 1, 2, 0, 3);
    },
    act: async () => ({ path: loop!.path, partitions: await loop!.rescan() }),
    undo: detachLoop,
  },
  "grow": {
    async prepare() {
      makeSmall(grown);
      loop = await attach(grown, { partscan: true });
    },
    async act() {
      const { table, partition } = await loop!.grow(undefined, { size: GROWN_SIZE });
      const sizes = loop!.partitions.map(({ number, start, size }) => [number, start, size]);
      return { path: loop!.path, table, partition, sizes };
    },
    undo: detachLoop,
  },
  "detach-other": {
    async prepare() {
      loop = await attach(gpt);
      await loop.persist();
    },
    act: async () => ({ path: loop!.path, detached: await detach(loop!.path) }),
    undo: detachAll,
  },
  "mount": mountAndUnmount({ options: ["data=journal"] }),
  "mount-at": mountAndUnmount({ at: `${ext4}.at` }),
  "mount-detached": mountAndUnmount({ detached: true }),
  /** The first of this process: it makes its directory, and starts the keeper. */
  "mount-first": mountAndUnmount({}),
  /** It has a keeper no more. */
  "mount-again": mountAndUnmount({}, killKeeper),
  /** A command in a chroot leaves a daemon behind, which ends with it. */
  "mount-run": {
    async prepare() {
      loop = await attach(ext4);
      mounted = await loop.mount();
      for (const name of ["dev", "proc", "run", "tmp"]) {
        mkdirSync(`${mounted.path}/${name}`, { recursive: true });
      }
      copyFileSync("/bin/busybox", `${mounted.path}/busybox`);
    },
    async act() {
      const script = `/busybox setsid /busybox sleep ${STAYING} & echo x >/tmp/x; exit 3`;
      const { code } = await mounted!.run(["/busybox", "sh", "-c", script]);
      return { path: loop!.path, code };
    },
    undo: detachLoop,
  },
  /** With every lock there is. */
  "guarded": {
    async act() {
      const options = { partscan: "userspace", overlap: "refuse", lock: "shared" } as const;
      await using loop = await attach(gpt, { ...options, workaround: "never" });
      (await loop.lock()).release();
      return { ...describe(loop), detached: await loop.detach() };
    },
  },
  "change-file": {
    async prepare() {
      loop = await attach(gpt, { readOnly: true, partscan: "userspace" });
    },
    async act() {
      await loop!.changeFile(dos);
      return { path: loop!.path, partitions: loop!.partitions };
    },
    undo: detachLoop,
  },
  "mount-freeze": {
    async prepare() {
      loop = await attach(ext4);
      mounted = await loop.mount();
    },
    async act() {
      const frozen = await mounted!.freeze();
      await frozen.thaw();
      return { path: loop!.path };
    },
    undo: detachLoop,
  },
  "mount-owner": mountAndUnmount({ owner: USER }),
  "mount-image": {
    async act() {
      const image = await mountImage(tree, { root: 1 });
      // What cannot be mounted below the root is listed with its reason.
      const [root, ...others] = [...image.mounts.map(({ point }) => point), ...image.skipped];
      const { path } = image.loop;
      return { path, root, others: others.length, unmounted: await image.unmount() };
    },
  },
};

/** As many calls on this thread as a pool's thread may have made: their ordinals never coincide. */
function makeHarmlessCalls(): void {
  const tolerant = (call: () => unknown) => {
    try {
      return call();
    } catch {
      // A fault meant for another thread.
    }
  };
  for (let i = 0; i < 8; i++) {
    const fd = tolerant(() => openSync("/dev/zero", "r")) as number | undefined;
    if (fd !== undefined) {
      tolerant(() => readSync(fd, new Uint8Array(1), 0, 1, 0));
      tolerant(() => fstatSync(fd));
      tolerant(() => isatty(fd));
      tolerant(() => closeSync(fd));
    }
    tolerant(() => readdirSync("/dev/pts"));
    tolerant(() => readlinkSync("/proc/self/exe"));
    tolerant(() => unlinkSync("/dev/.loopdev-no-such-node"));
  }
}

/** What an error says that is behind it. */
function causesOf(error: unknown): Error[] {
  const { cause, suppressed, error: second, errors = [] } = error as
    & Partial<AggregateError>
    & Partial<SuppressedError>;
  const behind = [cause, suppressed, second, ...errors].filter((one) => one instanceof Error);
  return behind.flatMap((one) => [one, ...causesOf(one)]);
}

async function answer(line: string): Promise<unknown> {
  const [verb, name] = line.split(" ");
  const scenario = SCENARIOS[name as ScenarioName];
  if (verb === "undo") {
    const undone = scenario.undo?.() ?? Promise.resolve();
    return await undone.then(() => ({}), (error) => ({ error: error.message }));
  }
  if (verb === "prepare") {
    await scenario.prepare?.();
    return {};
  }
  makeHarmlessCalls();
  existsSync(MARKS.begin);
  const warned: string[] = [];
  console.warn = (text) => warned.push(text);
  const all = () => warned.length === 0 ? {} : { warned: warned.join("; ") };
  try {
    return { result: await scenario.act(), ...all() };
  } catch (thrown) {
    // A block's end that fails as well tells both: what failed in the block comes first.
    const error = thrown instanceof SuppressedError ? thrown.suppressed : thrown;
    const { name, code, syscall, request, path, message } = error as Record<string, unknown>;
    const behind = causesOf(thrown).map(({ message }) => message);
    return { error: { name, code, syscall, request, path, message, behind }, ...all() };
  } finally {
    existsSync(MARKS.end);
  }
}

console.log(JSON.stringify({ pid: process.pid }));
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(line)));
}
