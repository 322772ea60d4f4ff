/**
 * The handle of an attached image: a bound device as its users see it, and the queue of its operations.
 *
 * @module
 */
import { openBackingFile } from "./binding/backing_file.ts";
import type { BoundDevice } from "./binding/bound_device.ts";
import { afterUndoing, laterToExplain } from "./base/errors.ts";
import { checkBoolean, checkPath } from "./base/checks.ts";
import { checkPartition, type PartitionSelector } from "./base/selector.ts";
import { checkSectorSize, type SectorSize } from "./table/sectors.ts";
import {
  checkDetachOptions,
  type DetachOptions,
  isDetached,
  warnDeferred,
} from "./binding/detach.ts";
import { checkWaiting } from "./base/options.ts";
import { absolutePath } from "./kernel/file.ts";
import { findHolders, type Holder } from "./holders/holders.ts";
import { type HeldLock, whenUnlocked } from "./udev/lock.ts";
import { loopSetBlockSize, loopSetCapacity, loopSetDirectIo } from "./kernel/loop.ts";
import { loadGrow } from "./grow/late.ts";
import type { GrowOptions, Growth } from "./grow/options.ts";
import type { MountOptions } from "./mount/options.ts";
import type { LoopMount } from "./mount/mounted.ts";
import { MountSet, partitionOf, withAbsoluteAt } from "./mount/mounts.ts";
import type { Partition, SkippedPartition } from "./binding/partitions.ts";
import type { Strategy } from "./binding/partscan_race.ts";
import { udevSettled } from "./udev/settled.ts";
import { dataOf, type LoopDeviceField, showAsData } from "./base/shown.ts";
import type { FileSystem } from "./superblocks/file_systems.ts";
import { heeding, untilAborted } from "./base/retry.ts";
import { Turns } from "./base/turns.ts";
import { yieldToEventLoop } from "./runtime/event_loop.ts";

/** For attach() and openLoop() alone: `bound` is the handle's from then on. */
export let makeLoopDevice: (
  bound: BoundDevice,
  onDeferred?: DetachOptions["onDeferred"],
) => LoopDevice;

/**
 * For `loopdev mount` alone: the mounts that lie on directories of the user's outlive this process, and the
 * device is detached after the last of them. The handle is done with then.
 */
export let leaveToMounts: (loop: LoopDevice) => Promise<void>;

/** Why a closed handle does nothing, by how it was closed. */
const CLOSED = {
  detached: "has been detached: this handle is closed",
  persistent: "is persistent: openLoop() opens it, detach() of its path detaches it",
  closed: "has been closed: openLoop() opens it again",
};

/**
 * An attached image. One that {@linkcode attach} bound lives as long as this handle's process at
 * most, unless {@linkcode LoopDevice.persist} is called: the kernel detaches it when the last
 * descriptor is closed, even after SIGKILL. `await using` detaches it at the end of the block. One
 * that {@linkcode openLoop} opened is left alone by all that. What the getters say is what the kernel
 * said when the handle was made, or at its last change through this handle.
 *
 * Operations take place one after another, in the order in which they were called, awaited or not;
 * the end of an `await using` block waits for those before it. After {@linkcode LoopDevice.detach} or
 * {@linkcode LoopDevice.persist} the handle is closed: what is called later rejects with a TypeError.
 *
 * @example
 * ```ts
 * import type { LoopDevice } from "@loopdev/loopdev";
 * const describe = ({ path, size }: LoopDevice) => `${path}: ${size} bytes`;
 * ```
 */
export class LoopDevice implements AsyncDisposable {
  /** The node: `"/dev/loop4"`. */
  readonly path: string;
  /** Of the device: 4. */
  readonly number: number;
  /** What {@linkcode attach} really did. */
  readonly strategy: Strategy;

  readonly #bound: BoundDevice;
  readonly #onDeferred: DetachOptions["onDeferred"];
  readonly #mounts = new MountSet();
  readonly #turns = new Turns();
  #state: "open" | keyof typeof CLOSED = "open";
  #detached: Promise<"detached" | "deferred"> | undefined;
  /** The end of the use, by detach() or by the end of the block. */
  #ending: Promise<"detached" | "deferred"> | undefined;
  /** How many callers hear what becomes of it, or have heard. */
  #asking = 0;

  static {
    makeLoopDevice = (bound, onDeferred) => new LoopDevice(bound, onDeferred);
    leaveToMounts = (loop) => loop.#leave();
    showAsData(this);
  }

  private constructor(bound: BoundDevice, onDeferred: DetachOptions["onDeferred"]) {
    this.path = bound.path;
    this.number = bound.number;
    this.strategy = bound.strategy;
    this.#bound = bound;
    this.#onDeferred = onDeferred;
  }

  /** Runs `operation` after those before it, whatever has become of the handle. */
  async #inTurn<T>(operation: () => T | Promise<T>): Promise<T> {
    using _turn = await this.#turns.begin();
    await yieldToEventLoop();
    return await operation();
  }

  /** The same on an open handle; a closed one refuses. `signal` ends the wait for those before. */
  async #take<T>(operation: () => T | Promise<T>, signal?: AbortSignal): Promise<T> {
    using _turn = await this.#turns.begin(signal);
    await yieldToEventLoop();
    this.#checkOpen();
    return await operation();
  }

  #checkOpen(): void {
    if (this.#state !== "open") throw new TypeError(`${this.path} ${CLOSED[this.#state]}`);
  }

  /** Whole path of the backing file, as the kernel knows it (sysfs `loop/backing_file`). */
  get backingFile(): string {
    return this.#bound.facts.backingFile;
  }

  /** Where the device begins in the backing file, in bytes. */
  get offset(): number {
    return this.#bound.facts.offset;
  }

  /** The most bytes the device may have; 0: no limit. */
  get sizelimit(): number {
    return this.#bound.facts.sizelimit;
  }

  /** Bytes; whole 512-byte sectors, a rest of the file behind them is out of reach. */
  get size(): number {
    return this.#bound.facts.size;
  }

  /** Logical sector size in bytes. */
  get sectorSize(): number {
    return this.#bound.facts.sectorSize;
  }

  /** Whether the kernel refuses writes. */
  get readOnly(): boolean {
    return this.#bound.facts.readOnly;
  }

  /** Whether the kernel bypasses the backing file's page cache. */
  get directIo(): boolean {
    return this.#bound.facts.directIo;
  }

  /** Tells this use of the device from an earlier or later one; undefined before Linux 5.15. */
  get diskseq(): number | undefined {
    return this.#bound.facts.diskseq;
  }

  /** In the order of their numbers; every node existed and was right when the promise resolved. */
  get partitions(): readonly Partition[] {
    return this.#bound.partitions.list;
  }

  /**
   * What is in the table, and cannot be a partition beside the others: each with its reason, and with the
   * `offset` and `sizelimit` by which {@linkcode attach} makes a device of it alone. Only BLKPG refuses
   * partitions that overlap: where the kernel itself reads the table, it has them all. Of two that overlap
   * the one that the kernel has already is taken, or else the one that comes first in the table; of an
   * extended partition, whose first KiB the kernel shows, and a logical one the logical one.
   */
  get skipped(): readonly SkippedPartition[] {
    return this.#bound.partitions.skipped;
  }

  /** All of these as plain data; what JSON.stringify() and console.log() show. */
  toJSON(): Pick<LoopDevice, LoopDeviceField> {
    return dataOf(this);
  }

  /**
   * Releases the device, after it has unmounted what this handle mounted. Resolves to `"detached"` when
   * the kernel has unbound it; all bytes that were written through it are in the backing file then. To
   * `"deferred"` if others, or another part of this program, still have it open or mounted (`onDeferred`
   * and {@linkcode LoopDevice.holders} say who): it detaches by itself, flushed, when the last of them
   * closes it. Called again it gives the same answer, or with `timeout` waits once more.
   *
   * Rejects with {@linkcode LoopError} EIO or ENOSPC, detached all the same, if anything is lost that
   * was written to the device, a partition or a mount: the backing file had no space left, or its disk
   * failed. With the signal's reason when that aborts: writing back and detaching go on, and the end
   * of the block, or another detach(), rejects if something is lost.
   */
  async detach(options: DetachOptions = {}): Promise<"detached" | "deferred"> {
    checkDetachOptions(options);
    const { timeout, signal, onDeferred } = options;
    signal?.throwIfAborted();
    const again = this.#isEnding && timeout !== undefined;
    this.#asking++;
    let outcome: "detached" | "deferred";
    try {
      outcome = await untilAborted(this.#end(options), signal);
    } catch (error) {
      // This caller does not hear how it ends.
      if (signal?.aborted) this.#asking--;
      throw error;
    }
    if (outcome === "deferred" && again) outcome = await this.#bound.waitForOthers(options);
    if (outcome === "detached") return outcome;
    signal?.throwIfAborted();
    onDeferred?.(this.path, await this.#holdersIfSeen());
    return outcome;
  }

  get #isEnding(): boolean {
    return this.#detached !== undefined || this.#ending !== undefined;
  }

  #end(options: DetachOptions): Promise<"detached" | "deferred"> {
    return this.#detached ??= this.#inTurn(() => this.#endInTurn(options));
  }

  /** Once: what asks again gets the same answer. */
  #endInTurn(options: DetachOptions): Promise<"detached" | "deferred"> {
    if (this.#ending) return this.#ending;
    this.#checkOpen();
    this.#state = "detached";
    return this.#ending = this.#release(options);
  }

  async #release(options: DetachOptions): Promise<"detached" | "deferred"> {
    const failed = await this.#mounts.end();
    const outcome = this.#bound.release(options);
    if (!failed) return await outcome;
    // The first error wins.
    throw await afterUndoing(failed.error, outcome);
  }

  /**
   * The partition that a selector means: `await loop.partition({ label: "data" })`. Rejects with
   * {@linkcode LoopError}, which lists what there is: ENXIO if none matches, EINVAL if several do.
   */
  async partition(selector: PartitionSelector): Promise<Partition> {
    return await this.#take(() => partitionOf(this.#bound, selector));
  }

  /**
   * Mounts a partition, or without one the whole device, on a directory of its own below
   * /run/loopdev: {@linkcode LoopMount.path}. The mount ends with this process, even if that is killed:
   * a small process that the first mount() starts, the keeper, sees to it. Needs Linux 5.9, /bin/sh and
   * umount(8). Rejects with {@linkcode LoopError}, in the file system's own words.
   */
  async mount(partition?: PartitionSelector, options: MountOptions = {}): Promise<LoopMount> {
    const meant = withAbsoluteAt(options);
    // checkMountOptions() refuses what is no signal.
    const signal = options?.signal instanceof AbortSignal ? options.signal : undefined;
    const mounting = this.#take(
      () => this.#mounts.mount(this.#bound, partition, meant),
      signal,
    );
    // It looks at the signal after its last wait, and undoes itself.
    return await heeding(mounting, signal);
  }

  /**
   * What a partition, or the whole device, holds, by its superblock; undefined: nothing that is known.
   * What `usage` calls anything but a file system cannot be mounted: LUKS, LVM, md, bcache, swap. Rejects
   * with {@linkcode LoopError} EUCLEAN if there are the superblocks of two file systems.
   */
  async fileSystem(partition?: PartitionSelector): Promise<FileSystem | undefined> {
    return await this.#take(() => this.#mounts.fileSystem(this.#bound, partition));
  }

  /**
   * Makes the device outlive this process: clears LO_FLAGS_AUTOCLEAR as the last step, and closes
   * without waking udev. The handle is done with then: `await using` leaves the device alone, and
   * `losetup -d` or {@linkcode detach} detaches it. Partitions of strategy `"userspace"` stay with
   * the device; on kernels between 267ec4d7223a and c4f4c0fc551c (7.2) they would even outlive it.
   * Rejects with {@linkcode LoopError}, device and handle unchanged, if the kernel refuses, or if
   * anything that was written to it is lost (EIO, ENOSPC); with TypeError after detach(). Calling it
   * again does nothing.
   */
  async persist(): Promise<void> {
    await this.#inTurn(async () => {
      if (this.#state === "persistent") return;
      this.#checkOpen();
      await this.#bound.persist();
      this.#state = "persistent";
      await this.#bound.close();
    });
  }

  /**
   * Locks the device exclusively with flock(2), as udev and systemd have agreed: as long as the lock is
   * held, udevd does not look at the device and its partitions. For mkfs, sfdisk, dd and the like, which
   * open the same node; but those that take this lock themselves (sfdisk with `--lock`, mtools, `udevadm
   * lock`) would wait for us: run them without. When the lock is released udevd is told to look.
   * A shared lock of attach() becomes exclusive for that time, and a detach ends it.
   *
   * Rejects with {@linkcode LoopError} ETIMEDOUT, which names who holds the lock, after `timeout` ms
   * (10 000); a TypeError if the handle is closed meanwhile.
   */
  async lock(options: { timeout?: number; signal?: AbortSignal } = {}): Promise<HeldLock> {
    const { timeout, signal } = checkWaiting(options);
    // Waits outside the queue: whoever has the lock may need an operation of this handle to release it.
    await this.#take(() => {}, signal);
    const { lock } = this.#bound;
    const attempt = () => (this.#checkOpen(), lock.takeExclusive());
    return await whenUnlocked(this.number, attempt, timeout, signal, lock);
  }

  /**
   * Resolves when udevd has done its work on the device and its partitions as they are now: their links
   * in /dev/disk are there. It is asked to look at each of them for that, which makes a change uevent. At
   * once where no udevd runs. Rejects with {@linkcode LoopError}: ETIMEDOUT after `timeout` ms (10 000),
   * EBUSY while a {@linkcode LoopDevice.lock} of this handle is held, since udevd waits for that.
   */
  async settled(options: { timeout?: number; signal?: AbortSignal } = {}): Promise<void> {
    const { timeout, signal } = checkWaiting(options);
    await this.#take(() => udevSettled(this.#bound, timeout, signal), signal);
  }

  /**
   * Who holds the device or one of its partitions, as far as this process may see: not only others.
   * After a detach, who still holds it; nobody, once it is detached.
   */
  async holders(): Promise<Holder[]> {
    const isClosed = ["detached", "closed"].includes(this.#state);
    const isOver = () => isClosed && isDetached(this.#bound.facts);
    if (isOver()) return [];
    const found = await findHolders(this.number);
    // After that the holders found may be those of the device's next use.
    return isOver() ? [] : found;
  }

  /** None where they cannot be looked for: that it is deferred is told all the same. */
  async #holdersIfSeen(): Promise<Holder[]> {
    return await laterToExplain(() => this.holders()) ?? [];
  }

  /**
   * Whether this is still the device that the handle was made for: the same use of it (diskseq), the
   * same range of the same backing file (inode). Ask before mkfs.
   */
  async isCurrent(): Promise<boolean> {
    return await this.#inTurn(() => this.#bound.isCurrent());
  }

  /** Gives the device the backing file's new size. Then {@linkcode LoopDevice.rescan} grows partitions. */
  async setCapacity(): Promise<void> {
    await this.#take(() => this.#bound.change(loopSetCapacity));
  }

  /**
   * Grows a partition, by default the last one on the disk, and all that is around and in it: the backing
   * file to `size`, this device, the partition in its GPT or MBR as far as there is room behind it, the
   * kernel's partition, and an ext4, xfs or btrfs in it, mounted or not. Nothing is dropped or unmounted.
   * A disk without a table is grown as a whole. The table is written so that the kernel finds a whole one
   * if the power fails at any moment, or this process is killed.
   *
   * Resolves to what grew; `fileSystem.reason` says why a file system did not. Rejects with
   * {@linkcode LoopError}, nothing changed: ENOSPC if another partition begins right behind it, EROFS if the
   * device is read-only, EPERM if somebody else attached it, EUCLEAN if the GPT is damaged, EMEDIUMTYPE if
   * it is made for other sectors, EOPNOTSUPP if the table is of another kind.
   *
   * @example
   * ```ts
   * import type { LoopDevice } from "@loopdev/loopdev";
   * const growRoot = (loop: LoopDevice) => loop.grow({ type: "root" }, { size: 8 * 2 ** 30 });
   * console.log(typeof growRoot); // function
   * ```
   */
  async grow(partition?: PartitionSelector, options: GrowOptions = {}): Promise<Growth> {
    checkPartition(partition);
    const signal = options?.signal instanceof AbortSignal ? options.signal : undefined;
    const growing = this.#take(async () => {
      const { growDevice } = await loadGrow();
      return await growDevice(this.#bound, partition, options);
    }, signal);
    return await heeding(growing, signal);
  }

  /** Bypasses the backing file's page cache, or stops that. EINVAL where it cannot be. */
  async setDirectIo(on: boolean): Promise<void> {
    checkBoolean("on", on);
    await this.#take(() => this.#bound.change((device) => loopSetDirectIo(device, on)));
  }

  /**
   * Another logical sector size: 512, 1024, 2048 or 4096 bytes; a RangeError otherwise. Rejects with
   * EBUSY while the device is mounted or somebody holds it exclusively (7e49538288e5).
   */
  async setSectorSize(size: SectorSize): Promise<void> {
    checkSectorSize(size);
    await this.#take(() => this.#bound.change((device) => loopSetBlockSize(device, size)));
  }

  /**
   * Another backing file of the same size, on a read-only device. Where the device has partitions, or
   * was attached with `partscan`, they are those of the new file when it resolves, as after
   * {@linkcode LoopDevice.rescan}. Rejects with EINVAL if the device is writable or the sizes differ; with
   * EBUSY, the file not changed, if a partition is in use that the new file has not; and where attach()
   * would reject the new file or its table.
   */
  async changeFile(file: string | URL): Promise<void> {
    const path = absolutePath(checkPath("file", file));
    const { timeout } = checkWaiting({});
    await this.#take(async () => {
      const { offset } = this.#bound.facts;
      using backing = await openBackingFile(path, { readOnly: true, offset });
      await this.#bound.changeFile(backing, timeout);
    });
  }

  /**
   * Reads the partition table again and brings the kernel in line: what is new is added, what is gone
   * or was moved is removed, what grew or shrank is resized. Unchanged partitions are never dropped,
   * mounted or not. A partition that the table does not account for stays where it is: one of a table that
   * is not read here, or one that somebody added to a device without a table (`partx -d` removes it).
   * Works on a device attached without `partscan`, too. Resolves when every node is there.
   *
   * Rejects with {@linkcode LoopError} EBUSY if a partition must go that is in use: the message says who
   * uses it, and no partition is removed. Likewise, before anything is changed, with EMEDIUMTYPE if the
   * GPT is made for another sector size, EUCLEAN if none of its headers is whole. With the signal's reason
   * when that aborts, also while the backing file's disk hangs.
   */
  async rescan(
    options: { timeout?: number; signal?: AbortSignal } = {},
  ): Promise<readonly Partition[]> {
    const { timeout, signal } = checkWaiting(options);
    const scanning = this.#take(async () => {
      await this.#bound.rescan(timeout, signal);
      return this.partitions;
    }, signal);
    // A backing file whose disk hangs keeps what is written back, and the table's reader, waiting.
    return await heeding(scanning, signal);
  }

  /**
   * Detaches at the end of an `await using` block what attach() bound, unless persist() was called.
   * If others hold it then, `onDeferred` is told. Rejects where something is lost, as detach() does,
   * unless a detach() has said so already.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    const isAsked = this.#isEnding;
    const outcome = await this.#inTurn(() => this.#endOfBlock());
    if (outcome !== "deferred" || isAsked) return;
    const holders = await this.#holdersIfSeen();
    if (this.#onDeferred) this.#onDeferred(this.path, holders);
    else await warnDeferred(this.path, this.number, holders);
  }

  /** In its turn, since what was called before may have been persist() or detach(). */
  async #endOfBlock(): Promise<"detached" | "deferred" | undefined> {
    if (this.#state === "persistent") return undefined;
    if (!this.#bound.isOwn && !this.#ending) {
      await this.#close();
      return undefined;
    }
    const heard = this.#asking++;
    return await this.#endInTurn({}).catch((error) => {
      if (heard === 0) throw error;
      return undefined;
    });
  }

  async #leave(): Promise<void> {
    await this.#take(async () => {
      await this.#mounts.leave();
      this.#state = "persistent";
      this.#bound.nodes.keep();
      await this.#bound.close();
    });
  }

  /** Closes the handle, and leaves the device to the process that attached it. */
  async #close(): Promise<void> {
    if (this.#state !== "open") return;
    this.#state = "closed";
    const failed = await this.#mounts.end();
    await this.#bound.close();
    if (failed) throw failed.error;
  }
}
