/**
 * The lock that udev and systemd agree on (systemd.io/BLOCK_DEVICE_LOCKING): flock(2) on the whole
 * disk's own node, /dev/loopN. udevd takes it shared while it looks at the device or a partition, and
 * exclusively around BLKRRPART, which drops every partition and adds it again; it never waits for it.
 *
 *   shared       udevd goes on looking, but BLKRRPART stays away
 *   exclusive    udevd looks later: from systemd 251 on it tries again every 200 ms, for 3 minutes;
 *                before, it forgets what happened meanwhile
 *
 * One read-only descriptor has both: two of one process would exclude each other. Closing it is no
 * IN_CLOSE_WRITE, so nobody reads a table again for it.
 *
 * @module
 */
import { isRefusal, LoopError } from "../base/errors.ts";
import { O_RDONLY, open, type OpenFile, readLink } from "../kernel/file.ts";
import { LOCK_EX, LOCK_SH, tryFlock } from "../kernel/flock.ts";
import { findLockers } from "../holders/holders.ts";
import { loopClrFd, loopGetStatus64 } from "../kernel/loop.ts";
import { delay, poll } from "../base/retry.ts";
import { fileStatus } from "../kernel/stat.ts";
import { sysfsDev } from "../kernel/sysfs.ts";
import { announceAll } from "./udev.ts";
import { closeFlushed } from "../kernel/blocking.ts";

/**
 * An exclusive lock that {@linkcode LoopDevice.lock} took. The end of a `using` block gives it back.
 *
 * @example
 * ```ts
 * import { attach, type HeldLock } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 * const image = "/tmp/loopdev-example.img";
 * writeFileSync(image, new Uint8Array(2 ** 20));
 * await using loop = await attach(image);
 * {
 *   using held: HeldLock = await loop.lock();
 *   console.log(held.path, "is ours"); // now mkfs
 * }
 * await loop.settled(); // udevd has seen it
 * ```
 */
export interface HeldLock extends Disposable, AsyncDisposable {
  /** The locked node: "/dev/loop4". */
  readonly path: string;
  /** Gives it back; once it is, calling this again does nothing. udevd is told to look again. */
  release(): void;
}

/** The node that udevd opens, whatever the name by which we know the device. */
function openNode(number: number): OpenFile {
  const path = `/dev/loop${number}`;
  const node = open(path, O_RDONLY);
  try {
    const [{ rdev }, dev] = [fileStatus(node), sysfsDev(number)];
    if (rdev === dev) return node;
    const hint = `it is device ${rdev}, not ${dev}: a lock of it says nothing to anybody`;
    throw new LoopError({ code: "ENOTBLK", syscall: "open", path, hint });
  } catch (error) {
    node.close();
    throw error;
  }
}

/** Whether somebody, this process included, has the device locked exclusively now, as far as is known. */
export function isLockedExclusively(number: number): boolean {
  try {
    using node = openNode(number);
    return !tryFlock(node, LOCK_SH);
  } catch (error) {
    if (isRefusal(error)) return false;
    throw error;
  }
}

/** The locks of one handle. */
export class DeviceLock {
  readonly number: number;
  #node: OpenFile | undefined;
  #keepsShared = false;
  #regains = false;
  #held: HeldLock | undefined;

  constructor(number: number) {
    this.number = number;
  }

  /** Whether {@linkcode DeviceLock.takeExclusive} has given a lock that is not released yet. */
  get isExclusive(): boolean {
    return this.#held !== undefined;
  }

  /** Whether it has a shared lock until close(). */
  get keepsShared(): boolean {
    return this.#keepsShared;
  }

  /** LOOP_CLR_FD through the lock's descriptor; whether the device is not bound any more. */
  async clear(): Promise<boolean> {
    try {
      await loopClrFd(this.#node!);
      loopGetStatus64(this.#node!);
      return false;
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return error.code === "ENXIO";
    }
  }

  /** The descriptor that has the lock, to tell it from those of others. */
  get descriptor(): number | undefined {
    return this.#node?.call((fd) => fd);
  }

  /** Takes the shared lock, until close(). EAGAIN if somebody has it exclusively. */
  keepShared(): void {
    this.#take(LOCK_SH);
    this.#keepsShared = true;
  }

  /** EAGAIN if somebody else has it in any way, or this handle exclusively. */
  takeExclusive(): HeldLock {
    if (this.#held) throw refusal(this.number);
    this.#take(LOCK_EX);
    const path = `/dev/loop${this.number}`;
    const release = () => {
      if (this.#held === held) this.#release();
    };
    const held: HeldLock = {
      path,
      release,
      [Symbol.dispose]: release,
      [Symbol.asyncDispose]: () => Promise.resolve(release()),
    };
    return this.#held = held;
  }

  #take(kind: number): void {
    const node = this.#node ??= openNode(this.number);
    if (tryFlock(node, kind)) return;
    // What we had is lost, but who refused us has his: udevd gets none in between.
    if (!this.#keepsShared) this.#closeNode();
    else if (!tryFlock(node, LOCK_SH)) this.#regainShared(node).catch(() => {});
    throw refusal(this.number);
  }

  /** Where another one was exclusive within a microsecond: after him. */
  async #regainShared(node: OpenFile): Promise<void> {
    if (this.#regains) return;
    this.#regains = true;
    while (!node.isClosed && !this.#held && !tryFlock(node, LOCK_SH)) await delay(1);
    this.#regains = false;
  }

  #closeNode(): void {
    this.#node?.close();
    this.#node = undefined;
  }

  #release(): void {
    this.#held = undefined;
    if (this.#keepsShared) tryFlock(this.#node!, LOCK_SH);
    else this.#closeNode();
    // What happened meanwhile udevd may have forgotten, and nobody closed the disk for writing.
    announceAll(this.number);
  }

  /** Gives all of it back, as the last of the handle's descriptors; `size` of the device in bytes. */
  async close(size: number): Promise<void> {
    const node = this.#forget();
    if (node) await closeFlushed(node, size);
  }

  /** The same where nothing was bound, and so nothing can be written back. */
  drop(): void {
    this.#forget()?.close();
  }

  #forget(): OpenFile | undefined {
    const node = this.#node;
    this.#held = this.#node = undefined;
    this.#keepsShared = false;
    return node;
  }
}

function refusal(number: number): LoopError {
  return new LoopError({
    code: "EAGAIN",
    syscall: "flock",
    path: `/dev/loop${number}`,
    hint: "somebody, perhaps this process, holds the lock of this device",
  });
}

const LONGEST_PAUSE_MS = 20;

/**
 * Makes an attempt again and again until no lock of `number` is in its way. After `timeout` ms it rejects
 * with ETIMEDOUT, which says for whom it has waited. `lock`: the one that is to be had.
 */
export async function whenUnlocked<T>(
  number: number,
  attempt: () => T | Promise<T>,
  timeout: number,
  signal?: AbortSignal,
  lock?: DeviceLock,
): Promise<T> {
  signal?.throwIfAborted();
  const once = async () => {
    try {
      return { result: await attempt() };
    } catch (error) {
      if (!isRefusal(error, "EAGAIN") || error.syscall !== "flock") throw error;
    }
  };
  const done = await poll(once, timeout, signal, LONGEST_PAUSE_MS);
  if (done) return done.result;
  throw new LoopError({
    code: "ETIMEDOUT",
    syscall: "flock",
    path: `/dev/loop${number}`,
    hint: `after ${timeout} ms still locked by ${await describeLockers(
      number,
      lock?.isExclusive ? undefined : lock?.descriptor,
    )}`,
  });
}

/** Who has the lock, for a message; beside descriptor `ours` of this process. */
export async function describeLockers(number: number, ours?: number): Promise<string> {
  const own = readLink("/proc/self");
  const lockers = (await findLockers(number))
    .filter(({ pid, fd }) => pid !== own || Number(fd) !== ours)
    .map(({ pid, by }) => pid === own ? `this process, ${by}` : `process ${by}`);
  return [...new Set(lockers)].join(", ") || "somebody out of sight";
}
