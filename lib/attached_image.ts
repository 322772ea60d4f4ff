/**
 * What the kernel says of an attached image, as the getters of its handle.
 *
 * @module
 */
import type { LoopFacts } from "./binding/facts.ts";
import type { Holder } from "./holders/holders.ts";
import type { OpenFile } from "./kernel/file.ts";
import type { DeviceLock } from "./udev/lock.ts";
import type { PartitionedDevice, ReadyPartitions } from "./binding/partitions.ts";
import type { Strategy } from "./binding/partscan_race.ts";

/** Of what a handle is made: an open device, and what is known of it. */
export interface LoopDeviceInit {
  readonly bound: PartitionedDevice & {
    readonly lock: DeviceLock;
    readonly since: number;
    /** As WrittenDevice has it. */
    readonly backing: OpenFile | undefined;
  };
  readonly strategy: Strategy;
  readonly facts: LoopFacts;
  /** Whether this handle bound the device, and so may undo it. */
  readonly owned: boolean;
  readonly ready: ReadyPartitions;
  /** See {@linkcode AttachOptions.onDeferred}. */
  readonly onDeferred?: (path: string, holders: readonly Holder[]) => void;
}

/** For the handle alone: what was last heard. */
export let factsOf: (image: AttachedImage) => LoopFacts;
export let setFacts: (image: AttachedImage, facts: LoopFacts) => void;

/**
 * What the kernel says of an attached image: it was asked when the handle was made, and after each change.
 *
 * @example
 * ```ts
 * import type { AttachedImage } from "@loopdev/loopdev";
 * const sectors = ({ size, sectorSize }: AttachedImage) => size / sectorSize;
 * ```
 */
export abstract class AttachedImage {
  /** The node: `"/dev/loop4"`. */
  readonly path: string;
  /** Of the device: 4. */
  readonly number: number;
  /** What {@linkcode attach} really did. */
  readonly strategy: Strategy;

  #facts: LoopFacts;

  static {
    factsOf = (image) => image.#facts;
    setFacts = (image, facts) => image.#facts = facts;
  }

  /** By attach() and openLoop(). */
  protected constructor({ bound, strategy, facts }: LoopDeviceInit) {
    this.path = bound.device.path;
    this.number = bound.number;
    this.strategy = strategy;
    this.#facts = facts;
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
}
