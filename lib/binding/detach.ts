/**
 * The end of a loop device's use: what a caller may ask of it, whether the kernel has ended it, and the
 * warnings where nobody asked.
 *
 * @module
 */
import { checkFunction, checkSignal, checkTimeout } from "../base/checks.ts";
import { unlessRefused } from "../base/errors.ts";
import { checkAgainst, type Rows } from "../base/options.ts";
import { describeHolders, type Holder } from "../holders/holders.ts";
import { ownUses } from "../holders/own_uses.ts";
import { ifExists, readLink } from "../kernel/file.ts";
import { sysfsBackingFile, sysfsDiskseq, sysfsIsBare, sysfsPartitions } from "../kernel/sysfs.ts";
import type { LoopStatus } from "./facts.ts";
import { removeStalePartitions } from "./removal.ts";

/**
 * How long others are waited for, and who is told about them.
 *
 * @example
 * ```ts
 * import type { DetachOptions } from "@loopdev/loopdev";
 * const patient: DetachOptions = {
 *   timeout: 60_000,
 *   onDeferred: (path, holders) => console.error(path, "is still held by", holders),
 * };
 * ```
 */
export interface DetachOptions {
  /**
   * How many ms to wait until all others have closed it. By default one second for a program that opened
   * it just to look, ten for udevd, and none for those who have it mounted.
   */
  timeout?: number;
  /**
   * Stops the waiting, for others and for what is written back: detach() rejects with its reason. The
   * device is released all the same.
   */
  signal?: AbortSignal;
  /** Called before detach() resolves to `"deferred"`, with those who hold the device then. */
  onDeferred?: (path: string, holders: readonly Holder[]) => void;
}

/** The options of detach(), one a row. */
export const DETACH = {
  timeout: { check: checkTimeout },
  signal: { check: checkSignal },
  onDeferred: { check: checkFunction },
} satisfies Rows<DetachOptions>;

/** Throws a TypeError or RangeError that names the option. */
export function checkDetachOptions(options: DetachOptions): DetachOptions {
  return checkAgainst(options, DETACH);
}

/** One use of a loop device, from a bind to a detach, as much as it takes to know it again. */
type Use = Pick<LoopStatus, "number" | "diskseq"> & { readonly backingFile: string | undefined };

/** Whether this use of the device is over: the device may be free, gone, or in another use. */
export function isDetached({ number, backingFile, diskseq }: Use): boolean {
  if (ifExists(() => sysfsIsBare(number)) ?? true) return true;
  const bound = sysfsBackingFile(number);
  // The backing file goes first; where another opener was the last, partitions follow a bit later.
  if (bound === undefined) return sysfsPartitions(number).length === 0;
  return diskseq === undefined ? bound !== backingFile : diskseq !== sysfsDiskseq(number);
}

/**
 * Removes the partitions that LOOP_CLR_FD, whoever called it, leaves behind on older kernels if somebody had
 * one open just then. Gives whether this use of the device at `path` is over.
 */
export function sweepDetached(use: Use, path: string): boolean {
  if (isDetached(use)) return true;
  if (sysfsBackingFile(use.number) !== undefined) return false;
  // Where somebody has the device or a partition open: next time.
  unlessRefused(() => removeStalePartitions(path, use.number), "EBUSY", "ENXIO");
  return isDetached(use);
}

/** For a loss of which no caller can be told any more. */
export function warnLost(error: unknown): void {
  console.warn(`loopdev: ${error instanceof Error ? error.message : error}`);
}

/** For a device that is still attached after a block that should have ended its use. */
export async function warnDeferred(
  path: string,
  number: number,
  holders: readonly Holder[],
): Promise<void> {
  console.warn(
    `loopdev: ${path} is still attached: ${await whoHolds(number, holders)} ` +
      "(detach() says so without this warning)",
  );
}

/** Names what this process itself has not closed apart from other holders. */
async function whoHolds(number: number, holders: readonly Holder[]): Promise<string> {
  const self = ifExists(() => readLink("/proc/self"));
  const uses = await ownUses(number);
  const isSelf = ({ kind, by }: Holder) =>
    kind === "process" ? by.split(" ")[0] === self : uses.some(({ device }) => device === by);
  const others = describeHolders(holders.filter((holder) => !isSelf(holder)));
  const goes = "it detaches when they let go";
  if (uses.length === 0 && (others || !holders.some(isSelf))) {
    return `others hold it (${others || "out of sight"}); ${goes}`;
  }
  if (uses.length === 0) return "this process held it until just now";
  const own = `this process holds it (${uses.map(({ what }) => what).join("; ")})`;
  if (others) return `${own}, and others do (${others}); ${goes}`;
  return `${own}; it detaches when that is closed`;
}
