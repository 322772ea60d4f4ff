/**
 * Letting go of a loop device, and whether the kernel has.
 *
 * @module
 */
import { checkFunction, checkNames, checkWait } from "../base/checks.ts";
import { changeFlags } from "./bind.ts";
import { isRefusal } from "../base/errors.ts";
import { ifExists, type OpenFile, readLink } from "../kernel/file.ts";
import type { LoopFacts } from "./facts.ts";
import { holdOf, isHeldExclusively } from "../holders/exclusive.ts";
import { describeHolders, heldBy, type Holder, othersThan } from "../holders/holders.ts";
import { ownUses } from "../holders/own_uses.ts";
import type { DeviceLock } from "../udev/lock.ts";
import { LO_FLAGS_AUTOCLEAR, loopClrFd } from "../kernel/loop.ts";
import { lastingNodes, removeLeftNodes } from "./nodes.ts";
import type { PartitionedDevice, ReadyPartitions } from "./partitions.ts";
import { removePartitions, removeStalePartitions } from "./removal.ts";
import { poll, unlessAborted } from "../base/retry.ts";
import { sysfsBackingFile, sysfsDiskseq, sysfsIsBare, sysfsPartitions } from "../kernel/sysfs.ts";
import { closeFlushed } from "../kernel/blocking.ts";
import { lossOf, writeAllBack, type WrittenDevice } from "./write_back.ts";

/** Others (udev above all) open a device for moments at a time; longer than this, they hold it. */
const PASSING_OPENERS_MS = 1000;
/** udevd is done with it one day, however slow or busy the machine. Nobody else is waited for so long. */
const UDEVD_MS = 10_000;

/** The moment without another opener is short. */
const CLEARING_PAUSE_MS = 8;

/** An open device that is to be let go, and what the handle knows of it. */
export interface Parting extends PartitionedDevice, WrittenDevice {
  /** Partitions that exist only because we added them. */
  readonly added: ReadyPartitions["added"];
  /** Whether we bound it. */
  readonly owned: boolean;
  readonly lock: DeviceLock;
}

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
   * How many ms to wait for others, whoever they are, to let go of it. By default a second for who just
   * looks at it, ten for udevd, and none for who has it mounted.
   */
  timeout?: number;
  /**
   * Stops the waiting, for others and for what is written back: detach() rejects with its reason. The
   * device is let go of all the same.
   */
  signal?: AbortSignal;
  /** Called before detach() resolves to `"deferred"`, with those who hold the device then. */
  onDeferred?: (path: string, holders: readonly Holder[]) => void;
}

/** Throws a TypeError or RangeError that names the option. `others`: more names that may stand there. */
export function checkDetachOptions(options: DetachOptions, others: readonly string[] = []): void {
  checkNames(options, ["timeout", "signal", "onDeferred", ...others]);
  checkWait(options);
  checkFunction("onDeferred", options.onDeferred);
}

/**
 * Closes the device; `"deferred"` if the kernel keeps it bound for others. Rejects if anything that was
 * written to it is lost, and has let go of it all the same.
 */
export async function letGo(
  parting: Parting,
  waiting: DetachOptions,
): Promise<"detached" | "deferred"> {
  const begun = performance.now();
  const lasting = lastingNodes(parting.facts.number);
  // First: a partition that is removed takes its failed writes with it.
  const failed = await writeAllBack(parting);
  let outcome: "detached" | "deferred" | undefined;
  try {
    await close(parting, waiting);
    const { timeout, ...rest } = waiting;
    const left = timeout && Math.max(0, timeout - (performance.now() - begun));
    outcome = await waitForOthers(parting, { ...rest, timeout: left });
    if (outcome === "detached") removeLeftNodes(parting.facts.number, lasting);
  } catch (error) {
    if (!failed) throw error;
  }
  if (!failed) return outcome!;
  const end = outcome === "detached" ? "is detached" : "goes when the last of its users does";
  throw lossOf(failed, parting.facts, `The device ${end}; attach the file and write it again`);
}

/**
 * Makes a device outlive us, with its nodes. Rejects, the device as it was, if anything that was written
 * to it is lost.
 */
export async function makePersistent(parting: Parting): Promise<void> {
  const { device, nodes, facts } = parting;
  const failed = await writeAllBack(parting);
  if (failed) throw lossOf(failed, facts, "Nothing was changed: write it again, then persist()");
  await changeFlags(device, (lo_flags) => lo_flags & ~LO_FLAGS_AUTOCLEAR);
  nodes.keep();
}

async function close(parting: Parting, waiting: DetachOptions): Promise<void> {
  const { device, backing, nodes, facts, added, owned, lock } = parting;
  try {
    // Removing one partition of a device that stays in use would only break it for its users.
    if (added.length > 0 && !isHeldExclusively(device.path)) {
      await removePartitions(parting, added).catch((error) => {
        // Held after all: closing defers, as it would without our partitions.
        if (!isRefusal(error, "EBUSY")) throw error;
      });
    }
    // Ours goes with its last descriptor (LO_FLAGS_AUTOCLEAR); another's must be told to.
    if (!owned) await clear(device);
  } finally {
    // Before the close: from then on the number, and so a node of that name, may be another's.
    nodes.remove();
    // Before the kernel's own, so that the last close of the file, which may wait for it, is not ours.
    backing?.close();
    await closeFlushed(device, facts.size);
    try {
      if (lock.keepsShared) await clearAlone(parting, waiting);
    } finally {
      // The last to close, and the one that detaches: until then nobody may have partitions dropped.
      await lock.close(facts.size);
    }
  }
}

/** Waits until the kernel has let go; `"deferred"` when the signal stops that. */
export async function waitForOthers(
  { device: { path }, facts }: Pick<Parting, "device" | "facts">,
  { timeout, signal }: DetachOptions,
): Promise<"detached" | "deferred"> {
  const isGone = () => isDetached(facts, path, true) || undefined;
  const wait = (ms: number) => unlessAborted(poll(isGone, ms, signal), signal);
  if (isGone()) return "detached";
  if (timeout !== undefined) return await wait(timeout) ? "detached" : "deferred";
  if (await holdOf(path) === "held") return "deferred";
  for (let waited = 0, unseen = 0; waited < UDEVD_MS; waited += PASSING_OPENERS_MS) {
    if (await wait(PASSING_OPENERS_MS)) return "detached";
    if (signal?.aborted) break;
    const who = await heldBy(facts.number);
    // Nobody: it was closed just now, or is held where we cannot look (another container).
    if (who === "others" || who === "nobody" && ++unseen > 1) break;
  }
  return isGone() ? "detached" : "deferred";
}

/**
 * Where the lock keeps udevd from BLKRRPART, and a passing opener is still there when we close, the device
 * would outlive its lock. LOOP_CLR_FD lets nobody in any more (18048c1af783), or unbinds at once (before),
 * if there is no other opener than the lock's descriptor; else it leaves the device bound. So it is tried
 * until it finds that moment, or somebody stays.
 */
async function clearAlone(
  { device: { path }, number, lock }: Parting,
  { timeout, signal }: DetachOptions,
): Promise<void> {
  const clears = async () => await lock.clear() || undefined;
  const isClear = (ms: number) =>
    unlessAborted(poll(clears, ms, signal, CLEARING_PAUSE_MS), signal);
  if (timeout !== undefined) return void await isClear(timeout);
  let stay: readonly string[] = [];
  for (let waited = 0; waited < UDEVD_MS; waited += PASSING_OPENERS_MS) {
    const before = stay;
    if (await isClear(waited === 0 ? 0 : PASSING_OPENERS_MS)) return;
    if (signal?.aborted || await holdOf(path) === "held") return;
    stay = await othersThan(number, lock.descriptor);
    if (stay.some((who) => before.includes(who))) return;
  }
}

/** Unbinds a device that another process bound; one that is unbound already is no error. */
async function clear(device: OpenFile): Promise<void> {
  try {
    await loopClrFd(device);
  } catch (error) {
    if (!isRefusal(error, "ENXIO")) throw error;
  }
}

/** One use of a loop device, from a bind to a detach. */
export type DeviceUse = Pick<LoopFacts, "number" | "diskseq"> & { backingFile: string | undefined };

/**
 * Whether this use of the device is over: it may be free, gone, or somebody else's. `sweep`: LOOP_CLR_FD,
 * whoever called it, leaves partitions behind on older kernels that somebody had open just then.
 */
export function isDetached(
  { number, backingFile, diskseq }: DeviceUse,
  path: string,
  sweep: boolean,
): boolean {
  if (ifExists(() => sysfsIsBare(number)) ?? true) return true;
  const now = sysfsBackingFile(number);
  if (now !== undefined) {
    return diskseq === undefined ? now !== backingFile : diskseq !== sysfsDiskseq(number);
  }
  // The backing file goes first; where another opener was the last, partitions follow a bit later.
  if (sweep) ifBusy(() => removeStalePartitions(path, number));
  return sysfsPartitions(number).length === 0;
}

/** A clean-up that somebody is in the way of, for now. */
function ifBusy(cleanUp: () => void): void {
  try {
    cleanUp();
  } catch (error) {
    if (!isRefusal(error, "EBUSY", "ENXIO")) throw error;
  }
}

/** What is lost must not stay unsaid where nobody can be told any more. */
export function warnLost(error: unknown): void {
  console.warn(`loopdev: ${error instanceof Error ? error.message : error}`);
}

/** What nobody asked about must not stay unsaid: the device is still there. */
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

/** This process is no other: what it has not closed is named. */
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
