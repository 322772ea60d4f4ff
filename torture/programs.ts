/**
 * Random programs that do not await: kinds of them, and what must hold after each. They use the
 * public API alone, and ask sysfs, not the library, what became of the devices.
 */
import { readFileSync } from "node:fs";
import { attach, attachAll, detach, find, type LoopDevice, openLoop } from "../mod.ts";
import type { Random } from "../tests/cases/random.ts";

/** What a program may use; nobody else has these files. */
export interface Lane {
  readonly random: Random;
  readonly files: readonly string[];
  /** Files of a stranger, and the devices that are his alone. */
  readonly foreign: readonly string[];
  readonly numbers: readonly number[];
  /** Asks the stranger to do something; throws {@linkcode Unable} if he cannot. */
  ask(request: string): Promise<{ diskseq?: number }>;
  /** Says what was done, for whoever reads about a violation. */
  log(text: string): void;
}

/** What a program needs was taken by somebody else on this machine: it says nothing. */
export class Unable extends Error {}

/** Throws an Error that says what was violated. */
type Program = (lane: Lane) => Promise<void>;

export function sysfs(number: number, attribute: string): string | undefined {
  try {
    return readFileSync(`/sys/block/loop${number}/${attribute}`, "utf8").trim();
  } catch {
    return undefined;
  }
}

function fail(text: string): never {
  throw new Error(text);
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** The answers of a LoopError, a TypeError for a closed handle, or the reason of an abort. */
function isExplained(error: unknown): boolean {
  const { name } = error as Error;
  return name === "LoopError" || name === "TypeError" || name === "AbortError";
}

/** A promise that the program awaits, forgets, or leaves behind when a timer is faster. */
async function leave(lane: Lane, promise: Promise<unknown>): Promise<void> {
  promise.catch(() => {});
  const how = lane.random.below(4);
  if (how === 0) await promise.catch(() => {});
  else if (how === 1) await Promise.race([promise, pause(lane.random.below(4))]).catch(() => {});
  else if (how === 2) await null;
}

/** A handle, and what its calls have answered so far. */
class Held {
  readonly calls: Promise<unknown>[] = [];
  /** As the last setSectorSize() that was fulfilled left it. */
  sectorSize = 512;
  persisted = false;
  detached: string | undefined;
  #problem: string | undefined;

  readonly loop: LoopDevice;
  readonly file: string;

  constructor(loop: LoopDevice, file: string) {
    this.loop = loop;
    this.file = file;
  }

  call(lane: Lane, operation: string): Promise<unknown> {
    lane.log(`${this.loop.path}.${operation}`);
    const promise = this.#make(lane, operation);
    promise.catch((error) => {
      if (!isExplained(error)) this.#problem ??= `${operation} failed with ${error}`;
    });
    this.calls.push(promise);
    return promise;
  }

  async #make({ random }: Lane, operation: string): Promise<unknown> {
    const { loop } = this;
    switch (operation) {
      case "setSectorSize": {
        const size = random.pick([512, 4096] as const);
        await loop.setSectorSize(size);
        return this.sectorSize = size;
      }
      case "setDirectIo":
        return await loop.setDirectIo(random.oneIn(2));
      case "setCapacity":
        return await loop.setCapacity();
      case "rescan":
        return await loop.rescan({ timeout: 1000 });
      case "changeFile":
        return await loop.changeFile(this.file);
      case "holders":
        return await loop.holders();
      case "isCurrent":
        return await loop.isCurrent();
      case "lock": {
        const held = await loop.lock({ timeout: random.below(20) });
        return random.oneIn(2) && held.release();
      }
      case "settled":
        return await loop.settled({ timeout: 1000 });
      case "persist":
        await loop.persist();
        return this.persisted = true;
      case "detach":
        return this.detached = await loop.detach(random.pick([{}, { timeout: random.below(20) }]));
      case "dispose":
        return await loop[Symbol.asyncDispose]();
    }
  }

  /** After all calls have been answered: is the device what the answers say? */
  check(): void {
    if (this.#problem) fail(this.#problem);
    const { number, diskseq, path } = this.loop;
    const isBound = sysfs(number, "diskseq") === String(diskseq) &&
      sysfs(number, "loop/backing_file") !== undefined;
    if (this.persisted && this.detached) {
      fail(`${path}: persist() resolved, and detach() said ${this.detached}`);
    }
    if (this.detached === "detached" && isBound) fail(`${path}: "detached", but it is bound`);
    if (!isBound && !this.detached) fail(`${path}: is not bound any more`);
    if (!isBound) return;
    if (sysfs(number, "loop/backing_file") !== this.file) fail(`${path}: shows another file`);
    const autoclear = sysfs(number, "loop/autoclear");
    if (this.persisted && autoclear !== "0") fail(`${path}: persist() resolved, autoclear is on`);
    if (!this.persisted && autoclear !== "1") fail(`${path}: autoclear is off`);
    const size = Number(sysfs(number, "queue/logical_block_size"));
    if (size !== this.sectorSize) fail(`${path}: sectors of ${size}, set were ${this.sectorSize}`);
  }
}

const OPERATIONS = [
  ...["setSectorSize", "setSectorSize", "setDirectIo", "setCapacity", "rescan", "changeFile"],
  ...["holders", "isCurrent", "lock", "settled", "persist", "detach", "dispose"],
];

async function attachOne(lane: Lane): Promise<Held | undefined> {
  const { random } = lane;
  const file = random.pick(lane.files);
  const controller = new AbortController();
  const abort = random.oneIn(6);
  const options = {
    partscan: random.pick([false, false, true, "userspace"] as const),
    workaround: random.pick(["never", "never", "always"] as const),
    lock: random.pick([undefined, "shared"] as const),
    ...abort ? { signal: controller.signal } : {},
  };
  lane.log(`attach ${file} ${JSON.stringify(options)}`);
  const attaching = attach(file, options);
  if (abort) pause(random.below(3)).then(() => controller.abort());
  try {
    return new Held(await attaching, file);
  } catch (error) {
    if (!abort || !controller.signal.aborted) fail(`attach() failed: ${error}`);
  }
}

/** Two to eight handles, calls in a muddle, blocks that end in their midst. */
const handles: Program = async (lane) => {
  const { random } = lane;
  const all: Held[] = [];
  let open: Held[] = [];
  const add = async () => {
    const held = await attachOne(lane);
    if (held) all.push(held), open.push(held);
  };
  for (let i = random.between(2, 4); i > 0; i--) await add();
  for (let step = random.between(4, 12); step > 0 && open.length > 0; step--) {
    const held = random.pick(open);
    const operation = random.pick(OPERATIONS);
    await leave(lane, held.call(lane, operation));
    if (!["persist", "detach", "dispose"].includes(operation)) continue;
    open = open.filter((other) => other !== held);
    if (all.length < 8) await add();
  }
  for (const held of all) await Promise.allSettled(held.calls);
  for (const held of open) held.check();
  for (const held of all.filter(({ detached, persisted }) => detached || persisted)) held.check();
  await Promise.all(open.map((held) => held.loop[Symbol.asyncDispose]()));
  for (const { persisted, loop } of all) if (persisted) await detach(loop.path);
};

/** persist(), detach() and the end of the block at once. */
const ending: Program = async (lane) => {
  const held = await attachOne(lane);
  if (!held) return;
  const operations = ["persist", "detach", "dispose", "setSectorSize", "isCurrent"];
  const calls = Array.from(
    { length: lane.random.between(2, 5) },
    () => held.call(lane, lane.random.pick(operations)),
  );
  await Promise.allSettled([...calls, held.call(lane, "dispose")]);
  // The end of the block says nothing.
  if (!held.persisted) held.detached ??= "deferred";
  held.check();
  if (held.persisted) await detach(held.loop.path);
};

/** The same file many times at once: refused, used again, or all or nothing. */
const overlap: Program = async (lane) => {
  const { random } = lane;
  const file = random.pick(lane.files);
  const kind = random.pick(["refuse", "reuse", "all"] as const);
  lane.log(`overlap ${kind} ${file}`);
  if (kind === "all") {
    const loops = await attachAll([file, file], { overlap: "refuse" }).catch(() => undefined);
    await loops?.[Symbol.asyncDispose]();
    if (loops) fail("attachAll() of one file twice, overlap refused, resolved");
    return;
  }
  const settled = await Promise.allSettled(
    Array.from({ length: random.between(2, 6) }, () => attach(file, { overlap: kind })),
  );
  const loops = settled.flatMap((one) => one.status === "fulfilled" ? [one.value] : []);
  const devices = new Set(loops.map(({ number }) => number)).size;
  const failed = settled.find((one) => one.status === "rejected" && one.reason.code !== "EEXIST");
  await Promise.all(loops.toReversed().map((loop) => loop[Symbol.asyncDispose]()));
  if (failed) fail(`attach() failed: ${(failed as PromiseRejectedResult).reason}`);
  if (devices !== 1) fail(`${devices} devices for one file, with overlap "${kind}"`);
  if (kind === "refuse" && loops.length !== 1) fail(`${loops.length} were not refused`);
};

/** A stranger swaps the files of his devices while one of them is to be used again. */
const swapping: Program = async (lane) => {
  const { random, foreign: [one, two], numbers: [number] } = lane;
  let swapped = false;
  const swap = (async () => {
    for (let i = 0; i < 6; i++) {
      // Held by us for a moment, his device may be busy: then the next one.
      await lane.ask(`attach ${number} ${i % 2 === 0 ? one : two}`).catch(() => {});
      await pause(random.below(2));
      await lane.ask(`detach ${number}`).catch(() => {});
    }
    swapped = true;
  })();
  while (!swapped) {
    const loop = await attach(one, { overlap: "reuse" });
    const shown = sysfs(loop.number, "loop/backing_file");
    await loop[Symbol.asyncDispose]();
    await pause(0);
    if (shown !== one) {
      await swap;
      fail(`${loop.path} was given for ${one} and shows ${shown}`);
    }
  }
  await swap;
};

/** detach() of a file on two devices; one is held open, the other gets a new owner meanwhile. */
const detaching: Program = async (lane) => {
  const { foreign: [one, two], numbers: [first, second] } = lane;
  await lane.ask(`attach ${first} ${one}`);
  await lane.ask(`attach ${second} ${one}`);
  await lane.ask(`hold ${first} 400`);
  const detached = detach(one);
  await pause(lane.random.below(20));
  await lane.ask(`detach ${second}`).catch(() => {});
  const { diskseq } = await lane.ask(`attach ${second} ${two}`);
  await detached;
  const isHis = sysfs(second, "loop/backing_file") === two &&
    sysfs(second, "diskseq") === String(diskseq);
  for (let tries = 0; tries < 200 && sysfs(first, "loop/backing_file"); tries++) await pause(10);
  await lane.ask(`detach ${second}`).catch(() => {});
  if (!isHis) fail(`detach() of ${one} detached a device that was ${two}'s by then`);
};

/** A handle of another's device that is left in the midst of its detach(), and then the next one. */
const leaving: Program = async (lane) => {
  const { random, files: [file], foreign: [theirs], numbers: [number] } = lane;
  const { diskseq } = await lane.ask(`attach ${number} ${theirs}`);
  const mine = await attach(file);
  await mine.persist();
  let detached: Promise<unknown> = Promise.resolve();
  {
    await using handle = await openLoop(mine.path);
    detached = handle.detach();
    await Promise.race([detached, pause(random.below(3))]);
  }
  await using next = await openLoop(`/dev/loop${number}`);
  await Promise.allSettled([detached, next.isCurrent(), pause(random.below(20))]);
  const isHis = sysfs(number, "diskseq") === String(diskseq) &&
    sysfs(number, "loop/backing_file") === theirs && sysfs(number, "loop/autoclear") === "0";
  const left = (await find(file)).length;
  for (const { path } of await find(file)) await detach(path);
  await next[Symbol.asyncDispose]();
  await lane.ask(`detach ${number}`);
  if (!isHis) fail(`/dev/loop${number} is not as its owner left it`);
  if (left > 0) fail(`${mine.path} is still there after its detach()`);
};

/** With how often each is drawn. */
export const PROGRAMS: Record<string, { weight: number; program: Program }> = {
  handles: { weight: 60, program: handles },
  ending: { weight: 20, program: ending },
  overlap: { weight: 12, program: overlap },
  swapping: { weight: 4, program: swapping },
  leaving: { weight: 3, program: leaving },
  detaching: { weight: 1, program: detaching },
};
