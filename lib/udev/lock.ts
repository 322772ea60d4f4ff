/**
 * The lock that udev and systemd agree on (systemd.io/BLOCK_DEVICE_LOCKING): flock(2) on the whole
 * disk's own node, /dev/loopN. udevd takes it shared while it examines the device or a partition, and
 * exclusively around BLKRRPART, which drops every partition and adds it again. It never waits for it.
 *
 *   our lock     udevd
 *   shared       examines, but sends no BLKRRPART
 *   exclusive    does not examine: from systemd 251 on it tries again every 200 ms, for 3 minutes;
 *                before, it drops the event
 *
 * One read-only descriptor serves both kinds, since two descriptors of one process exclude each other.
 * Closing it raises no IN_CLOSE_WRITE, so udevd does not reread the table for it.
 *
 * @module
 */
import { isRefusal, laterToExplain, LoopError, unlessRefused } from "../base/errors.ts";
import { O_RDONLY, open, type OpenFile } from "../kernel/file.ts";
import { LOCK_EX, LOCK_SH, tryFlock } from "../kernel/flock.ts";
import { describeOpeners, loopNode } from "../holders/processes.ts";
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
  /** Releases it and has udevd examine the device again. A second call does nothing. */
  release(): void;
}

/** Opens the node that udevd opens, even if the device was opened by another name. */
function openNode(number: number): OpenFile {
  const path = `/dev/loop${number}`;
  const node = open(path, O_RDONLY);
  try {
    const [{ rdev }, dev] = [fileStatus(node), sysfsDev(number)];
    if (rdev === dev) return node;
    const hint = `it is device ${rdev}, not ${dev}: udevd does not heed a lock of it`;
    throw new LoopError({ code: "ENOTBLK", path, hint });
  } catch (error) {
    node.close();
    throw error;
  }
}

/** Whether anybody, this process included, holds the exclusive lock. False where that cannot be known. */
export function isLockedExclusively(number: number): boolean {
  const isLocked = () => {
    using node = openNode(number);
    return !tryFlock(node, LOCK_SH);
  };
  return unlessRefused(isLocked) ?? false;
}

/** The locks of one handle. */
export class DeviceLock {
  readonly number: number;
  #node: OpenFile | undefined;
  #keepsShared = false;
  #isRegaining = false;
  #held: HeldLock | undefined;

  constructor(number: number) {
    this.number = number;
  }

  /** Whether the lock that {@linkcode DeviceLock.takeExclusive} gave is still held. */
  get isExclusive(): boolean {
    return this.#held !== undefined;
  }

  /** Whether {@linkcode DeviceLock.keepShared} has been called. */
  get keepsShared(): boolean {
    return this.#keepsShared;
  }

  /** LOOP_CLR_FD through the lock's descriptor; gives whether the device is unbound. */
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

  /** The lock's descriptor, to tell it from those of others. */
  get descriptor(): number | undefined {
    return this.#node?.call((fd) => fd);
  }

  /** Takes the shared lock, until close(). EAGAIN if somebody holds the exclusive one. */
  keepShared(): void {
    this.#convertTo(LOCK_SH);
    this.#keepsShared = true;
  }

  /** EAGAIN if somebody else holds a lock, or this handle the exclusive one. */
  takeExclusive(): HeldLock {
    if (this.#held) throw lockedError(this.number);
    this.#convertTo(LOCK_EX);
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

  #convertTo(kind: number): void {
    const node = this.#node ??= openNode(this.number);
    if (tryFlock(node, kind)) return;
    // flock() dropped our shared lock when it could not convert it. Whoever blocked the conversion still
    // holds a lock, so udevd cannot take the exclusive one meanwhile.
    if (!this.#keepsShared) this.#closeNode();
    else if (!tryFlock(node, LOCK_SH)) this.#regainShared(node).catch(() => {});
    throw lockedError(this.number);
  }

  /** Takes the shared lock back as soon as the program that locked exclusively between our calls lets it. */
  async #regainShared(node: OpenFile): Promise<void> {
    if (this.#isRegaining) return;
    this.#isRegaining = true;
    while (!node.isClosed && !this.#held && !tryFlock(node, LOCK_SH)) await delay(1);
    this.#isRegaining = false;
  }

  #closeNode(): void {
    this.#node?.close();
    this.#node = undefined;
  }

  #release(): void {
    this.#held = undefined;
    if (this.#keepsShared) tryFlock(this.#node!, LOCK_SH);
    else this.#closeNode();
    // udevd may have dropped events meanwhile, and no writable close makes it look.
    announceAll(this.number);
  }

  /** Releases all locks. The last of the handle's descriptors to be closed; `size` of the device in bytes. */
  async close(size: number): Promise<void> {
    const node = this.#forget();
    if (node) await closeFlushed(node, size);
  }

  /** The same where no file was bound, so that closing cannot have to write anything back. */
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

function lockedError(number: number): LoopError {
  return new LoopError({
    code: "EAGAIN",
    syscall: "flock",
    path: `/dev/loop${number}`,
    hint: "somebody, perhaps this process, holds the lock of this device",
  });
}

const LONGEST_PAUSE_MS = 20;

/**
 * Repeats `attempt` while a lock of device `number` refuses it. After `timeout` ms it rejects with
 * ETIMEDOUT, which names the holders. `lock`: the handle's own, which counts only if it is exclusive.
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
  const ours = lock?.isExclusive ? undefined : lock?.descriptor;
  const lockers = await laterToExplain(() => describeFlockers(number, ours));
  throw new LoopError({
    code: "ETIMEDOUT",
    syscall: "flock",
    path: `/dev/loop${number}`,
    hint: `after ${timeout} ms still locked by ${lockers ?? "somebody out of sight"}`,
  });
}

/** Who holds a lock of the device; see {@linkcode describeOpeners}. */
export function describeFlockers(number: number, ours?: number): Promise<string | undefined> {
  return describeOpeners((link) => loopNode(link) === `loop${number}`, /^lock:.* FLOCK /m, ours);
}
