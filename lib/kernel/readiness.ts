/**
 * Waits until files can be read. One thread waits for all of them, however many commands run: threads are
 * few, and one that waits for hours would be missing for the calls that wait for disks.
 *
 * @module
 */
import { libc } from "../runtime/libc.ts";
import { uninterruptedOnThread } from "./chain.ts";
import { check, O_NONBLOCK, type OpenFile, setStatusFlags, uninterrupted } from "./file.ts";
import { pipe } from "./pipe.ts";
import { SYS } from "./syscalls.ts";

/** `<asm-generic/poll.h>` */
const POLLIN = 1;

interface Waiter {
  readonly files: readonly OpenFile[];
  resolve(ready: readonly boolean[]): void;
  reject(error: unknown): void;
}

const waiters = new Set<Waiter>();
let isWaiting = false;
/** Interrupts the call that is in flight; undefined: none is. */
let interrupt: (() => void) | undefined;

/** Resolves to which of them can be read, or have ended, when one can. Whoever waits must keep them open. */
export function readable(files: readonly OpenFile[]): Promise<readonly boolean[]> {
  return new Promise((resolve, reject) => {
    waiters.add({ files, resolve, reject });
    if (isWaiting) interrupt?.();
    else void waitForAll();
  });
}

async function waitForAll(): Promise<void> {
  isWaiting = true;
  try {
    const { readEnd, writeEnd } = pipe("the pipe that interrupts a wait");
    using woken = readEnd;
    using waking = writeEnd;
    setStatusFlags(woken, O_NONBLOCK);
    while (waiters.size > 0) {
      await waitOnce(woken, waking);
      // Those that wait again do so in promises that are settled already.
      for (let i = 0; i < 8; i++) await undefined;
    }
  } catch (error) {
    for (const { reject } of waiters) reject(error);
    waiters.clear();
  } finally {
    isWaiting = false;
  }
}

async function waitOnce(woken: OpenFile, waking: OpenFile): Promise<void> {
  const all = [...waiters];
  const files = [woken, ...all.flatMap(({ files }) => files)];
  // struct pollfd: fd int, events short, revents short
  const pollfds = new Int32Array(new ArrayBuffer(8 * files.length));
  files.forEach((file, i) => pollfds.set([file.call((fd) => fd), POLLIN], 2 * i));
  const bytes = new Uint8Array(pollfds.buffer);
  interrupt = () => {
    interrupt = undefined;
    waking.call((fd) => uninterrupted(() => libc().syscall(SYS("write"), fd, ONE, 1)));
  };
  const result = await lending(
    files,
    () => uninterruptedOnThread("ppoll", bytes, files.length, 0, 0, 0),
  ).finally(() => interrupt = undefined);
  check(result, "ppoll", woken.path);
  const ready = files.map((_, i) => (pollfds[2 * i + 1] >>> 16) !== 0);
  if (ready[0]) woken.call((fd) => libc().syscall(SYS("read"), fd, few, few.length));
  let at = 1;
  for (const waiter of all) {
    const own = ready.slice(at, at += waiter.files.length);
    if (!own.includes(true)) continue;
    waiters.delete(waiter);
    waiter.resolve(own);
  }
}

const ONE = new Uint8Array(new ArrayBuffer(1));
const few = new Uint8Array(new ArrayBuffer(16));

/** Keeps files open until the promise is settled. */
async function lending<T>(files: readonly OpenFile[], make: () => Promise<T>): Promise<T> {
  const [first, ...rest] = files;
  return first ? await first.callOnThread(() => lending(rest, make)) : await make();
}
