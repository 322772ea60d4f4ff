/**
 * Loop devices that are one test's own, on a machine where others attach and detach all the time.
 *
 * The lowest free device is offered to whoever asks for one. A test that must have a certain device,
 * or that leaves one unbound for a moment, takes a number that nobody asks for by chance.
 */
import { existsSync, statSync } from "node:fs";
import { isRefusal, unlessRefused } from "../../lib/base/errors.ts";
import { O_RDWR, open, type OpenFile } from "../../lib/kernel/file.ts";
import { loopCtlAdd, loopCtlGetFree, loopCtlRemove } from "../../lib/kernel/loop.ts";
import { detachElsewhere } from "./others.ts";
import { bound, until } from "./support.ts";

/**
 * Numbers above what is offered, in groups: the first number's device marks a group as taken.
 */
const SMALL = { first: 2 ** 17, end: 2 ** 19, size: 16 };
const LARGE = { first: 2 ** 16, end: 2 ** 17, size: 1024 };
/** So many devices are never bound at once. */
const OFFERED = 96;
/** A detach by the last close takes effect a moment later. */
const LET_GO_MS = 2000;

/** Numbers that no other test has, until it is disposed of; then their devices are removed. */
export interface OwnDevices extends AsyncDisposable {
  readonly numbers: readonly number[];
  /** "/dev/loopN" of each. */
  readonly paths: readonly string[];
}

/** Takes `count` numbers, at most 1023. None of them has a device yet. */
export function ownDevices(count = 2): OwnDevices {
  using control = open("/dev/loop-control", O_RDWR);
  makeOffered(control);
  const mark = takeGroup(control, count < SMALL.size ? SMALL : LARGE);
  const numbers = Array.from({ length: count }, (_, i) => mark + 1 + i);
  return {
    numbers,
    paths: numbers.map((number) => `/dev/loop${number}`),
    async [Symbol.asyncDispose]() {
      await remove([...numbers, mark]);
    },
  };
}

/**
 * The kernel offers the lowest device that is free, and makes one only if there is none: where all low ones
 * are bound, a neighbour would be offered ours while it is free.
 */
function makeOffered(control: OpenFile): void {
  for (let number = 0; number < OFFERED; number++) {
    if (!exists(number)) unlessRefused(() => loopCtlAdd(control, number), "EEXIST");
  }
}

/** LOOP_CTL_ADD of a number succeeds for one process alone: EEXIST for every other. */
function takeGroup(control: OpenFile, { first, end, size }: typeof SMALL): number {
  const groups = (end - first) / size;
  for (;;) {
    const mark = first + size * Math.floor(Math.random() * groups);
    // flock(1) and a shell's redirection make a file of a node that has just gone: it would lie in the way.
    const nodes = Array.from({ length: size }, (_, i) => `/dev/loop${mark + i}`);
    if (nodes.some(isNoNode)) continue;
    try {
      return loopCtlAdd(control, mark);
    } catch (error) {
      if (!isRefusal(error, "EEXIST")) throw error;
    }
  }
}

const isNoNode = (path: string) =>
  statSync(path, { throwIfNoEntry: false })?.isBlockDevice() === false;

const exists = (number: number) => existsSync(`/sys/block/loop${number}`);

/** A device that is still in use stays: the test has failed, and says so itself. */
async function remove(numbers: readonly number[]): Promise<void> {
  using control = open("/dev/loop-control", O_RDWR);
  for (const number of numbers.filter(exists)) {
    const isLetGo = () => !existsSync(`/sys/block/loop${number}/loop`);
    await until(isLetGo, `loop${number} to be let go`, LET_GO_MS).catch(() => {});
    await tryToRemove(control, number);
  }
}

async function tryToRemove(control: OpenFile, number: number): Promise<void> {
  for (const end = Date.now() + LET_GO_MS;;) {
    try {
      return await loopCtlRemove(control, number);
    } catch (error) {
      // Whoever lists devices has each of them open for a moment.
      if (!isRefusal(error, "EBUSY") || Date.now() > end) return;
    }
  }
}

/**
 * Removes devices that the library made because no free one was left. The lowest unbound device
 * stays: the kernel offers it to everybody, and a process that has just been offered it would find
 * nothing to open.
 */
export async function removeMade(numbers: readonly number[]): Promise<void> {
  using control = open("/dev/loop-control", O_RDWR);
  for (const number of numbers.toSorted((a, b) => b - a)) {
    if (loopCtlGetFree(control) !== number) await tryToRemove(control, number);
  }
}

/** Makes two devices that nobody else is offered. They go at the end. */
export async function withOwnDevices(
  use: (a: number, b: number) => Promise<void> | void,
): Promise<void> {
  await using own = ownDevices(2);
  {
    using control = open("/dev/loop-control", O_RDWR);
    for (const number of own.numbers) loopCtlAdd(control, number);
  }
  await use(own.numbers[0], own.numbers[1]);
}

/** Detaches every device that is bound to a file below `folder`. */
export function detachBelow(folder: string): void {
  const isBelow = (path: string) => path.startsWith(`${folder}/`);
  for (const name of bound(isBelow)) detachElsewhere(`/dev/${name}`, isBelow);
}
