/**
 * What a caller may ask of grow(), and what it says of what it did.
 *
 * @module
 */
import { checkBoolean, checkByteCount, checkFunction, checkSignal } from "../base/checks.ts";
import { checkAgainst, type Checked, type Rows } from "../base/options.ts";

/**
 * Options of {@linkcode LoopDevice.grow}.
 *
 * @example
 * ```ts
 * import type { GrowOptions } from "@loopdev/loopdev";
 * const options: GrowOptions = {
 *   size: 8 * 2 ** 30,
 *   onProgress: ({ step, done, total }) => console.log(step, done / total),
 * };
 * console.log(options.dryRun); // undefined
 * ```
 */
export interface GrowOptions {
  /**
   * The backing file's new size in bytes, which is not less than the one it has. What is added is a hole:
   * it takes no room until it is written. Default: the size that it has.
   */
  size?: number;
  /** `true`: says what would be done, and writes nothing. Default `false`. */
  dryRun?: boolean;
  /**
   * Stops before the next step, or within that of the file system, which can take long: grow() rejects
   * with the signal's reason. What has been done is whole, and another grow() goes on from there.
   */
  signal?: AbortSignal;
  /** Called at the begin and at the end of each step, and several times in that of a large file system. */
  onProgress?: (progress: GrowProgress) => void;
}

/**
 * How far a growth is; bytes.
 *
 * @example
 * ```ts
 * import type { GrowProgress } from "@loopdev/loopdev";
 * const show = ({ step, done, total }: GrowProgress) => `${step}: ${done} of ${total}`;
 * console.log(show({ step: "file", done: 0, total: 2 ** 20 })); // file: 0 of 1048576
 * ```
 */
export interface GrowProgress {
  /** What grows: first the file, then the table on it, the kernel's partition, the file system. */
  readonly step: "file" | "table" | "partition" | "fileSystem";
  /** From 0 on; `total` at the step's end. */
  readonly done: number;
  /** By how much it grows, or how much is written. */
  readonly total: number;
}

/**
 * What grew, from which size to which; bytes. With `dryRun`, what would.
 *
 * @example
 * ```ts
 * import type { Growth } from "@loopdev/loopdev";
 * const isAllUsed = ({ partition, fileSystem }: Growth) =>
 *   fileSystem?.reason === undefined && fileSystem?.to === partition?.to;
 * console.log(typeof isAllUsed); // function
 * ```
 */
export interface Growth {
  /** The backing file. */
  readonly file: GrownSize & { readonly path: string };
  /** The loop device, or what would be one. */
  readonly device: GrownSize;
  /** Undefined: the disk has no table. */
  readonly table?: {
    readonly kind: "gpt" | "mbr";
    /** What was written, in this order; nothing if the table was right already. */
    readonly writes: readonly TableWritten[];
  };
  /** Undefined: the disk has no table. */
  readonly partition?: GrownSize & {
    readonly number: number;
    /** Where it begins on the device. */
    readonly start: number;
  };
  /** Undefined: there is nothing that is known. */
  readonly fileSystem?: GrownFileSystem;
}

/**
 * A size before and after; bytes.
 *
 * @example
 * ```ts
 * import type { GrownSize } from "@loopdev/loopdev";
 * const by = ({ from, to }: GrownSize) => to - from;
 * console.log(by({ from: 1024, to: 4096 })); // 3072
 * ```
 */
export interface GrownSize {
  /** Before. */
  readonly from: number;
  /** Afterwards; the same, where nothing grew. */
  readonly to: number;
}

/**
 * Bytes of a table that were written.
 *
 * @example
 * ```ts
 * import type { TableWritten } from "@loopdev/loopdev";
 * const show = ({ offset, length, what }: TableWritten) => `${length} bytes at ${offset}: ${what}`;
 * console.log(show({ offset: 512, length: 512, what: "the primary header" }));
 * ```
 */
export interface TableWritten {
  /** Where, from the begin of the device. */
  readonly offset: number;
  /** How many. */
  readonly length: number;
  /** In words: "the primary header". */
  readonly what: string;
}

/**
 * What became of a file system, or of what else is there; bytes.
 *
 * @example
 * ```ts
 * import type { GrownFileSystem } from "@loopdev/loopdev";
 * const warn = ({ type, reason }: GrownFileSystem) => reason && `${type} did not grow: ${reason}`;
 * console.log(typeof warn); // function
 * ```
 */
export interface GrownFileSystem {
  /** blkid's TYPE: `"ext4"`, `"crypto_LUKS"`. */
  readonly type: string;
  /** Undefined for types that the kernel does not grow. Of a btrfs on several devices, its part on this one. */
  readonly from?: number;
  /** Afterwards, as its driver says; the same, where it did not grow. */
  readonly to?: number;
  /** Why it did not grow though there is room, and what helps. */
  readonly reason?: string;
}

/** The options of grow(), one a row. */
const GROW = {
  size: { check: checkByteCount },
  dryRun: { check: checkBoolean, default: false },
  signal: { check: checkSignal },
  onProgress: { check: checkFunction },
} satisfies Rows<GrowOptions>;

export type CheckedGrow = Checked<GrowOptions, typeof GROW>;

/** Throws a TypeError or RangeError that names the option and what it takes. */
export function checkGrowOptions(options: GrowOptions): CheckedGrow {
  return checkAgainst(options, GROW);
}
