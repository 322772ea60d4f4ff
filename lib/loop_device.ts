/**
 * The handle of an attached image.
 *
 * @module
 */
import { changeFlags } from "./bind.ts";
import { blkGetSize64, blkSszGet } from "./blkpg.ts";
import { LoopError } from "./errors.ts";
import type { OpenFile } from "./file.ts";
import {
  LO_FLAGS_AUTOCLEAR,
  LO_FLAGS_DIRECT_IO,
  LO_FLAGS_READ_ONLY,
  loopGetStatus64,
} from "./loop.ts";
import { type Partition, type ReadyPartitions, removePartitions } from "./partitions.ts";
import { poll } from "./retry.ts";
import { sysfsBackingFile, sysfsDiskseq, sysfsPartitions } from "./sysfs.ts";

/**
 * How partitions came to be: `"none"` not asked for; `"one-step"` LOOP_CONFIGURE scanned;
 * `"two-step"` around {@linkcode PARTSCAN_RACE}; `"userspace"` added by us, the kernel never scanned.
 */
export type Strategy = "none" | "one-step" | "two-step" | "userspace";

/** What the kernel says of a bound loop device; bytes. */
export interface LoopFacts {
  readonly backingFile: string;
  readonly offset: number;
  readonly sizelimit: number;
  readonly size: number;
  readonly sectorSize: number;
  readonly readOnly: boolean;
  readonly directIo: boolean;
  readonly diskseq: number | undefined;
}

/** Asks the kernel, not our memory of what we told it. */
export function readFacts(device: OpenFile, number: number): LoopFacts {
  const { lo_offset, lo_sizelimit, lo_flags } = loopGetStatus64(device);
  return {
    backingFile: sysfsBackingFile(number) ?? "",
    offset: Number(lo_offset),
    sizelimit: Number(lo_sizelimit),
    size: blkGetSize64(device),
    sectorSize: blkSszGet(device),
    readOnly: (lo_flags & LO_FLAGS_READ_ONLY) !== 0,
    directIo: (lo_flags & LO_FLAGS_DIRECT_IO) !== 0,
    diskseq: sysfsDiskseq(number),
  };
}

/** Others (udev above all) open a device for moments at a time; longer than this, they hold it. */
const PASSING_OPENERS_MS = 1000;

/** For attach() alone: a handle that takes over the open device. */
export let makeLoopDevice: (
  device: OpenFile,
  number: number,
  strategy: Strategy,
  facts: LoopFacts,
  ready: ReadyPartitions,
) => LoopDevice;

/**
 * An attached image. The device lives as long as this handle's process at most, unless
 * {@linkcode LoopDevice.persist} is called: the kernel detaches it when the last descriptor is
 * closed, even after SIGKILL. `await using` detaches it at the end of the block. Made by
 * {@linkcode attach}.
 */
export class LoopDevice implements AsyncDisposable {
  /** The node: `"/dev/loop4"`. */
  readonly path: string;
  /** Of the device: 4. */
  readonly number: number;
  /** Whole path of the backing file, as the kernel knows it (sysfs `loop/backing_file`). */
  readonly backingFile: string;
  /** Where the device begins in the backing file, in bytes. */
  readonly offset: number;
  /** The most bytes the device may have; 0: no limit. */
  readonly sizelimit: number;
  /** Bytes; whole 512-byte sectors, a rest of the file behind them is out of reach. */
  readonly size: number;
  /** Logical sector size in bytes. */
  readonly sectorSize: number;
  /** Whether the kernel refuses writes. */
  readonly readOnly: boolean;
  /** Whether the kernel bypasses the backing file's page cache. */
  readonly directIo: boolean;
  /** Tells this use of the device from an earlier or later one; undefined before Linux 5.15. */
  readonly diskseq: number | undefined;
  /** What {@linkcode attach} really did. */
  readonly strategy: Strategy;
  /** In the order of their numbers; every node existed and was right when attach() resolved. */
  readonly partitions: readonly Partition[];

  readonly #device: OpenFile;
  readonly #added: readonly number[];
  #detached: Promise<"detached" | "deferred"> | undefined;
  #persistent = false;

  static {
    makeLoopDevice = (...handle) => new LoopDevice(...handle);
  }

  private constructor(
    device: OpenFile,
    number: number,
    strategy: Strategy,
    facts: LoopFacts,
    { partitions, added }: ReadyPartitions,
  ) {
    this.#device = device;
    this.#added = added;
    this.path = device.path;
    this.number = number;
    this.strategy = strategy;
    this.backingFile = facts.backingFile;
    this.offset = facts.offset;
    this.sizelimit = facts.sizelimit;
    this.size = facts.size;
    this.sectorSize = facts.sectorSize;
    this.readOnly = facts.readOnly;
    this.directIo = facts.directIo;
    this.diskseq = facts.diskseq;
    this.partitions = partitions;
  }

  /**
   * Lets go of the device. Resolves to `"detached"` when the kernel has let go too, or to
   * `"deferred"` if others still hold it open or mounted: it then detaches by itself when the last
   * of them closes it. Calling it again gives the same answer. Bytes written through the device are
   * flushed to the backing file before.
   */
  detach(): Promise<"detached" | "deferred"> {
    if (this.#persistent) {
      return Promise.reject(new TypeError(`${this.path} is persistent; losetup -d detaches it`));
    }
    return this.#detached ??= this.#detach();
  }

  /**
   * Makes the device outlive this process: clears LO_FLAGS_AUTOCLEAR as the last step, and closes
   * without waking udev. The handle is done with then: `await using` leaves the device alone, and
   * `losetup -d` detaches it. Partitions of strategy `"userspace"` stay with the device; on kernels
   * between 267ec4d7223a and c4f4c0fc551c (7.2) they would even outlive it. Rejects with
   * {@linkcode LoopError}, device and handle unchanged, if others hold the device exclusively (from
   * Linux 6.19), and with TypeError after detach().
   */
  async persist(): Promise<void> {
    if (this.#detached) throw new TypeError(`${this.path} has been detached; it cannot persist`);
    if (this.#persistent) return;
    await changeFlags(this.#device, (lo_flags) => lo_flags & ~LO_FLAGS_AUTOCLEAR);
    this.#persistent = true;
    this.#device.close();
  }

  async #detach(): Promise<"detached" | "deferred"> {
    let inUse = false;
    try {
      await removePartitions(this.#device, this.#added);
    } catch (error) {
      // A mounted partition holds the disk too: closing defers, as it would without our partitions.
      if (!(error instanceof LoopError && error.code === "EBUSY")) throw error;
      inUse = true;
    } finally {
      this.#device.close();
    }
    const wait = inUse ? 0 : PASSING_OPENERS_MS;
    return await poll(() => this.#isGone() || undefined, wait) ? "detached" : "deferred";
  }

  /** Whether the kernel is done with our use of the device: it may be free, or somebody else's. */
  #isGone(): boolean {
    const backingFile = sysfsBackingFile(this.number);
    // The backing file goes first; where another opener was the last, partitions follow a bit later.
    if (backingFile === undefined) return sysfsPartitions(this.number).length === 0;
    return this.diskseq === undefined
      ? backingFile !== this.backingFile
      : this.diskseq !== sysfsDiskseq(this.number);
  }

  /** Detaches at the end of an `await using` block, unless persist() was called. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#persistent) await this.detach();
  }
}
