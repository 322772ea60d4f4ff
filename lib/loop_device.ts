/**
 * The handle of an attached image.
 *
 * @module
 */
import { changeFlags, SET_STATUS } from "./bind.ts";
import { isDetached } from "./detached.ts";
import { LoopError } from "./errors.ts";
import { type LoopFacts, readFacts } from "./facts.ts";
import { O_RDONLY, type OpenFile } from "./file.ts";
import { findHolders, type Holder } from "./holders.ts";
import {
  LO_FLAGS_AUTOCLEAR,
  loopChangeFd,
  loopClrFd,
  loopSetBlockSize,
  loopSetCapacity,
  loopSetDirectIo,
} from "./loop.ts";
import { checkSectorSize } from "./options.ts";
import {
  type Partition,
  type PartitionedDevice,
  type ReadyPartitions,
  removePartitions,
  rescanPartitions,
} from "./partitions.ts";
import { drain } from "./partscan_race.ts";
import { poll, retry } from "./retry.ts";
import { sysfsPartitions } from "./sysfs.ts";
import { closeFlushed, openUncached } from "./waiting.ts";

/**
 * How partitions came to be: `"none"` not by this handle; `"one-step"` LOOP_CONFIGURE scanned;
 * `"two-step"` around {@linkcode PARTSCAN_RACE}; `"userspace"` added by us, the kernel never scanned.
 */
export type Strategy = "none" | "one-step" | "two-step" | "userspace";

/** Others (udev above all) open a device for moments at a time; longer than this, they hold it. */
const PASSING_OPENERS_MS = 1000;
const RESCAN_MS = 10_000;

/** Unbinds a device that another process bound; one that is unbound already is no error. */
async function clear(device: OpenFile): Promise<void> {
  try {
    await loopClrFd(device);
  } catch (error) {
    if (!(error instanceof LoopError && error.code === "ENXIO")) throw error;
  }
}

/** Of what a handle is made: an open device, and what is known of it. */
export interface LoopDeviceInit {
  readonly bound: PartitionedDevice;
  readonly strategy: Strategy;
  readonly facts: LoopFacts;
  /** Whether this handle bound the device, and so may undo it. */
  readonly owned: boolean;
  readonly ready: ReadyPartitions;
}

/** For attach() and openLoop() alone. */
export let makeLoopDevice: (init: LoopDeviceInit) => LoopDevice;

/**
 * An attached image. One that {@linkcode attach} bound lives as long as this handle's process at
 * most, unless {@linkcode LoopDevice.persist} is called: the kernel detaches it when the last
 * descriptor is closed, even after SIGKILL. `await using` detaches it at the end of the block. One
 * that {@linkcode openLoop} opened is left alone by all that. What the getters say is what the kernel
 * said when the handle was made, or at its last change through this handle.
 */
export class LoopDevice implements AsyncDisposable {
  /** The node: `"/dev/loop4"`. */
  readonly path: string;
  /** Of the device: 4. */
  readonly number: number;
  /** What {@linkcode attach} really did. */
  readonly strategy: Strategy;

  readonly #bound: PartitionedDevice;
  readonly #owned: boolean;
  #facts: LoopFacts;
  #partitions: readonly Partition[];
  #added: readonly number[];
  #detached: Promise<"detached" | "deferred"> | undefined;
  #persistent = false;

  static {
    makeLoopDevice = (init) => new LoopDevice(init);
  }

  private constructor({ bound, strategy, facts, owned, ready }: LoopDeviceInit) {
    this.path = bound.device.path;
    this.number = bound.number;
    this.strategy = strategy;
    this.#bound = bound;
    this.#owned = owned;
    this.#facts = facts;
    this.#partitions = ready.partitions;
    this.#added = ready.added;
  }

  /** Whole path of the backing file, as the kernel knows it (sysfs `loop/backing_file`). */
  get backingFile(): string {
    return this.#facts.backingFile;
  }

  /** Where the device begins in the backing file, in bytes. */
  get offset(): number {
    return this.#facts.offset;
  }

  /** The most bytes the device may have; 0: no limit. */
  get sizelimit(): number {
    return this.#facts.sizelimit;
  }

  /** Bytes; whole 512-byte sectors, a rest of the file behind them is out of reach. */
  get size(): number {
    return this.#facts.size;
  }

  /** Logical sector size in bytes. */
  get sectorSize(): number {
    return this.#facts.sectorSize;
  }

  /** Whether the kernel refuses writes. */
  get readOnly(): boolean {
    return this.#facts.readOnly;
  }

  /** Whether the kernel bypasses the backing file's page cache. */
  get directIo(): boolean {
    return this.#facts.directIo;
  }

  /** Tells this use of the device from an earlier or later one; undefined before Linux 5.15. */
  get diskseq(): number | undefined {
    return this.#facts.diskseq;
  }

  /** In the order of their numbers; every node existed and was right when the promise resolved. */
  get partitions(): readonly Partition[] {
    return this.#partitions;
  }

  /**
   * Lets go of the device. Resolves to `"detached"` when the kernel has let go too, or to
   * `"deferred"` if others still hold it open or mounted ({@linkcode LoopDevice.holders} says who):
   * it then detaches by itself when the last of them closes it. Calling it again gives the same
   * answer. Bytes written through the device are flushed to the backing file before.
   */
  detach(): Promise<"detached" | "deferred"> {
    if (this.#persistent) {
      return Promise.reject(
        new TypeError(`${this.path} is persistent; detach("${this.path}") detaches it`),
      );
    }
    return this.#detached ??= this.#detach();
  }

  async #detach(): Promise<"detached" | "deferred"> {
    const { device, nodes } = this.#bound;
    if (device.isClosed) throw new TypeError(`the handle of ${this.path} is closed`);
    let inUse = false;
    try {
      await removePartitions(device, this.#added).catch((error) => {
        // A mounted partition holds the disk too: closing defers, as it would without our partitions.
        if (!(error instanceof LoopError && error.code === "EBUSY")) throw error;
        inUse = true;
      });
      // Ours goes with its last descriptor (LO_FLAGS_AUTOCLEAR); another's must be told to.
      if (!this.#owned) await clear(device);
    } finally {
      await closeFlushed(device, this.size);
      nodes.remove();
    }
    const wait = inUse ? 0 : PASSING_OPENERS_MS;
    return await poll(() => isDetached(this, !this.#owned) || undefined, wait)
      ? "detached"
      : "deferred";
  }

  /**
   * Makes the device outlive this process: clears LO_FLAGS_AUTOCLEAR as the last step, and closes
   * without waking udev. The handle is done with then: `await using` leaves the device alone, and
   * `losetup -d` or {@linkcode detach} detaches it. Partitions of strategy `"userspace"` stay with
   * the device; on kernels between 267ec4d7223a and c4f4c0fc551c (7.2) they would even outlive it.
   * Rejects with {@linkcode LoopError}, device and handle unchanged, if others hold the device
   * exclusively (from Linux 6.19), and with TypeError after detach().
   */
  async persist(): Promise<void> {
    if (this.#detached) throw new TypeError(`${this.path} has been detached; it cannot persist`);
    if (this.#persistent) return;
    await changeFlags(this.#bound.device, (lo_flags) => lo_flags & ~LO_FLAGS_AUTOCLEAR);
    this.#persistent = true;
    this.#bound.nodes.keep();
    await closeFlushed(this.#bound.device, this.size);
  }

  /** Who holds the device or one of its partitions, as far as this process may see: not only others. */
  async holders(): Promise<Holder[]> {
    return await Promise.resolve(findHolders(this.number));
  }

  /**
   * Whether this is still the device that the handle was made for: the same use of it (diskseq) and
   * the same backing file (inode). Ask before mkfs.
   */
  async isCurrent(): Promise<boolean> {
    if (this.#bound.device.isClosed) return false;
    try {
      const now = readFacts(this.#bound.device);
      return await Promise.resolve(
        now.diskseq === this.diskseq && now.backingIdentity === this.#facts.backingIdentity,
      );
    } catch (error) {
      // Unbound by somebody else.
      if (error instanceof LoopError && error.code === "ENXIO") return false;
      throw error;
    }
  }

  /** Takes a new size of the backing file over. Then {@linkcode LoopDevice.rescan} grows partitions. */
  async setCapacity(): Promise<void> {
    await this.#change(() => loopSetCapacity(this.#bound.device));
  }

  /** Bypasses the backing file's page cache, or stops that. Rejects with EINVAL where it cannot be. */
  async setDirectIo(on: boolean): Promise<void> {
    await this.#change(() => loopSetDirectIo(this.#bound.device, on));
  }

  /** Another logical sector size: 512, 1024, 2048 or 4096 bytes. A RangeError otherwise. */
  async setSectorSize(size: number): Promise<void> {
    checkSectorSize(size);
    await this.#change(() => loopSetBlockSize(this.#bound.device, size));
  }

  /**
   * Another backing file of the same size, on a read-only device. Rejects with EINVAL if the device
   * is writable or the sizes differ.
   */
  async changeFile(file: string): Promise<void> {
    using backing = await openUncached(file, O_RDONLY);
    await this.#change(() => loopChangeFd(this.#bound.device, backing));
  }

  async #change(request: () => void | Promise<void>): Promise<void> {
    await retry(SET_STATUS, request);
    this.#facts = readFacts(this.#bound.device);
  }

  /**
   * Reads the partition table again and brings the kernel in line: what is new is added, what is gone
   * or was moved is removed, what grew or shrank is resized. Unchanged partitions are never dropped,
   * mounted or not. Works on a device attached without `partscan`, too. Resolves when every node is
   * there; rejects with EBUSY if a partition must go that is in use.
   */
  async rescan(
    { timeout = RESCAN_MS, signal }: { timeout?: number; signal?: AbortSignal } = {},
  ): Promise<readonly Partition[]> {
    // Where nothing was scanned yet, an affected kernel still owes a scan that would drop ours.
    if (sysfsPartitions(this.number, true).length === 0) drain(this.#bound.device);
    const { partitions, added } = await rescanPartitions(this.#bound, timeout, signal);
    const numbers = partitions.map(({ number }) => number);
    this.#added = [...this.#added, ...added].filter((number) => numbers.includes(number));
    this.#partitions = partitions;
    return partitions;
  }

  /** Detaches at the end of an `await using` block what attach() bound, unless persist() was called. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#persistent) return;
    if (this.#owned) await this.detach();
    else await closeFlushed(this.#bound.device, this.size);
  }
}
