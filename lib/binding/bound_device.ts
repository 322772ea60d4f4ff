/**
 * A loop device with a file bound to it, open here: from the bind, or from openLoop(), to its release.
 *
 * @module
 */
import {
  afterUndoing,
  isRefusal,
  laterToExplain,
  unlessRefused,
  withMore,
} from "../base/errors.ts";
import { poll, unlessAborted } from "../base/retry.ts";
import { holdOf, isHeldExclusively } from "../holders/exclusive.ts";
import { heldBy, othersThan } from "../holders/holders.ts";
import { closeFlushed, type WrittenBack } from "../kernel/blocking.ts";
import type { OpenFile } from "../kernel/file.ts";
import { LO_FLAGS_AUTOCLEAR, loopChangeFd, loopClrFd } from "../kernel/loop.ts";
import { boundPartitions, type SysfsPartition, sysfsPartitionIdentity } from "../kernel/sysfs.ts";
import type { FoundTable } from "../table/disk.ts";
import { DeviceLock } from "../udev/lock.ts";
import { type BackingFile, deviceSize } from "./backing_file.ts";
import { changeDevice, changeFlags, removeDevice } from "./change.ts";
import { type DetachOptions, isDetached, sweepDetached } from "./detach.ts";
import { isStill, type LoopFacts, readFacts } from "./facts.ts";
import { readTableIn, refuseUnreadable } from "./image_table.ts";
import { DevNodes, lastingNodes, removeLeftNodes } from "./nodes.ts";
import { DevicePartitions } from "./partitions.ts";
import { drain, type Strategy } from "./partscan_race.ts";
import { isSamePartition, refuseUsed, withLeft } from "./removal.ts";
import { lossOf, writeAllBack } from "./write_back.ts";

/** Others (udev above all) open a device for moments at a time; longer than this, they hold it. */
const PASSING_OPENERS_MS = 1000;
/** udevd finishes one day, however busy the machine is. No other program is waited for so long. */
const UDEVD_MS = 10_000;
/** LOOP_CLR_FD is tried so often: the moments in which nobody else has the device open are short. */
const CLEARING_PAUSE_MS = 8;

/** A bound loop device. It stays bound as long as this is not closed, if we bound it. */
export class BoundDevice {
  readonly path: string;
  readonly number: number;
  /** Open since the bind, if we bound it: it remembers each write that failed since then. */
  readonly device: OpenFile;
  readonly nodes: DevNodes;
  readonly lock: DeviceLock;
  readonly partitions: DevicePartitions;
  /** Whether we bound it, and so end its use. */
  readonly isOwn: boolean;
  /** When it was not bound yet, in ms since 1970; 0 if another process bound it. */
  readonly since: number;
  /** How its partitions came to be. */
  strategy: Strategy = "none";
  /** The bound file, which remembers failed writes as the kernel's does; none if it is read-only. */
  readonly backing: OpenFile | undefined;
  /** Whether its page cache was written back just now: its close waits for nothing then. */
  #isWrittenBack = false;
  /** Whether the device itself exists only because we asked for its number. */
  readonly #isMade: boolean;
  /** What the kernel said of it at the bind, or after the last change that was made here. */
  facts: LoopFacts;

  /** `own`: what a bind of ours came with; left out where another process bound the device. */
  constructor(
    device: OpenFile,
    facts: LoopFacts,
    own?: {
      nodes: DevNodes;
      lock: DeviceLock;
      since: number;
      backing: OpenFile | undefined;
      isMade: boolean;
    },
  ) {
    this.device = device;
    this.path = device.path;
    this.number = facts.number;
    this.facts = facts;
    this.isOwn = own !== undefined;
    this.nodes = own?.nodes ?? new DevNodes("auto");
    this.lock = own?.lock ?? new DeviceLock(this.number);
    this.since = own?.since ?? 0;
    this.backing = own?.backing;
    this.#isMade = own?.isMade ?? false;
    this.partitions = new DevicePartitions(device, facts, this.nodes);
  }

  /** Whether it is still in the use that the facts are of. */
  isCurrent(): boolean {
    return !this.device.isClosed && isStill(this.device, this.facts);
  }

  /** Makes a request that changes it, and asks the kernel what it is then. */
  async change(request: (device: OpenFile) => void | Promise<void>): Promise<void> {
    await changeDevice(this.device, request);
    this.facts = readFacts(this.device);
  }

  /** Reads the table again and brings the kernel's partitions in line with it. */
  async rescan(timeout: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    // Where nothing was scanned yet, an affected kernel still owes a scan that would drop ours.
    if (boundPartitions(this.number).length === 0) drain(this.device);
    await this.partitions.rescan((one) => this.partitions.isKnown(one), timeout, signal);
  }

  /**
   * Another backing file (LOOP_CHANGE_FD), and its partitions instead of the old file's. With
   * LO_FLAGS_PARTSCAN the kernel scans again by itself, as far as it can read the table and nobody has a
   * partition open. Without, it leaves the old file's partitions where they are, over the new file.
   */
  async changeFile(backing: BackingFile, timeout: number): Promise<void> {
    const isPartitioned = this.facts.partscan || this.strategy !== "none" ||
      boundPartitions(this.number).length > 0;
    const isOld = isPartitioned && await this.#refuseTableOf(backing);
    await this.change((device) => loopChangeFd(device, backing.file));
    if (!isOld) return;
    // LOOP_CHANGE_FD leaves GD_NEED_PART_SCAN behind: the next to open the device would drop ours.
    drain(this.device);
    await this.partitions.rescan(isOld, timeout);
  }

  /**
   * Throws EBUSY if a partition that the new file has not is in use, and what rescan() would throw of the
   * new file's table. Gives what tells, after the change, the old file's partitions from those that the
   * kernel has found in the new one.
   */
  async #refuseTableOf(backing: BackingFile): Promise<(partition: SysfsPartition) => boolean> {
    const { number } = this;
    const old = boundPartitions(number);
    const identities = new Map(old.map(({ name }) => [name, sysfsPartitionIdentity(number, name)]));
    const table = await tableAfterChange(backing, this.facts);
    if (table) {
      const isNew = (one: SysfsPartition) =>
        table.partitions.some((entry) => isSamePartition(entry, one));
      await refuseUsed(this.device, number, old.filter((one) => !isNew(one)));
    }
    return ({ name }) => {
      const identity = identities.get(name);
      return identity !== undefined && identity === sysfsPartitionIdentity(number, name);
    };
  }

  /**
   * Makes it outlive us, with its nodes. Rejects, the device as it was, if anything that was written to it
   * is lost.
   */
  async persist(): Promise<void> {
    const { backingFile } = this.facts;
    const { failed } = await this.#writeBack();
    if (failed) {
      throw lossOf(failed, backingFile, "Nothing was changed: write it again, then persist()");
    }
    await changeFlags(this.device, (lo_flags) => lo_flags & ~LO_FLAGS_AUTOCLEAR);
    this.nodes.keep();
  }

  /** Takes back all that the bind did: bound with LO_FLAGS_AUTOCLEAR, it is detached by the close. */
  async undo(): Promise<void> {
    try {
      // Without LO_FLAGS_PARTSCAN they would outlive the detach, and show on the next file.
      await this.partitions.removeAdded();
    } finally {
      this.nodes.remove();
      await this.close();
      // The first error is the one that matters; an unused device is in nobody's way.
      if (this.#isMade) await removeDevice(this.number).catch(() => {});
    }
  }

  /** Closes all that is open of it, and leaves the device as it is. */
  async close(): Promise<void> {
    await this.#closeDevice();
    await this.lock.close(this.facts.size);
  }

  async #closeDevice(): Promise<void> {
    // Before the kernel's own, so that the last close of the file, which may wait for it, is not ours.
    this.backing?.close();
    if (this.#isWrittenBack) this.device.close();
    else await closeFlushed(this.device, this.facts.size);
  }

  async #writeBack(): ReturnType<typeof writeAllBack> {
    return await writeAllBack(this.device, this.facts, this.backing);
  }

  /**
   * Ends its use; `"deferred"` if the kernel keeps it bound for others. Rejects if anything that was
   * written to it is lost, and has released it all the same.
   */
  async release(waiting: DetachOptions): Promise<"detached" | "deferred"> {
    const { backingFile } = this.facts;
    const begun = performance.now();
    let written: WrittenBack;
    try {
      // First: a partition that is removed takes its failed writes with it.
      written = await this.#writeBack();
    } catch (error) {
      // A kernel that cannot be asked what was written must not keep the device bound.
      throw await afterUndoing(error, this.#end(waiting, begun));
    }
    const { failed, isQuick } = written;
    // Others may write while partitions are removed, or while another's device is unbound.
    this.#isWrittenBack = isQuick && !failed && this.isOwn && this.partitions.added.length === 0;
    if (!failed) return await this.#end(waiting, begun);
    const outcome = await this.#end(waiting, begun).catch((error: unknown) => ({ error }));
    const end = outcome === "detached"
      ? "is detached"
      : outcome === "deferred"
      ? "goes when the last of its users does"
      // The first error wins, and the second one is told.
      : `is released (${outcome.error instanceof Error ? outcome.error.message : outcome.error})`;
    throw lossOf(failed, backingFile, `The device ${end}; attach the file and write it again`);
  }

  async #end(waiting: DetachOptions, begun: number): Promise<"detached" | "deferred"> {
    const { number } = this.facts;
    const lasting = lastingNodes(number);
    const isOver = async () => {
      const { timeout, ...rest } = waiting;
      const left = timeout && Math.max(0, timeout - (performance.now() - begun));
      const outcome = await this.waitForOthers({ ...rest, timeout: left });
      if (outcome === "detached") removeLeftNodes(number, lasting);
      return outcome;
    };
    try {
      await this.#unbind(waiting);
    } catch (error) {
      // It is closed. A partition that could not be removed before goes with the last that the kernel leaves.
      await isOver().catch(() => {});
      throw error;
    }
    try {
      return await isOver();
    } catch (error) {
      const { path, partitions } = this;
      const more = `the device is released; whether it is free could not be asked: losetup ${path}`;
      throw withLeft(withMore(error, more), number, partitions.added);
    }
  }

  async #unbind(waiting: DetachOptions): Promise<void> {
    try {
      // Removing one partition of a device that stays in use would only break it for its users.
      if (this.partitions.added.length > 0 && !isHeldExclusively(this.path)) {
        await this.partitions.removeAdded().catch((error) => {
          // Held after all: the close defers, as it would without our partitions.
          if (!isRefusal(error, "EBUSY")) throw error;
        });
      }
      // Ours goes with its last descriptor (LO_FLAGS_AUTOCLEAR); another's must be told to.
      if (!this.isOwn) await clear(this.device);
    } finally {
      // Before the close: from then on the number, and so a node of that name, may be another's.
      this.nodes.remove();
      await this.#closeDevice();
      try {
        if (this.lock.keepsShared) await this.#clearAlone(waiting);
      } finally {
        // The last to close, and the one that detaches: until then nobody may have partitions dropped.
        await this.lock.close(this.facts.size);
      }
    }
  }

  /**
   * A passing opener that is still there when we close would make the device outlive the lock that keeps
   * udevd from BLKRRPART. LOOP_CLR_FD lets nobody in any more (18048c1af783), or unbinds at once (before),
   * if the lock's descriptor is the only one; else it leaves the device bound. So it is tried until it
   * finds the device in that state, or somebody stays. Once it is unbound at once, another process may bind it:
   * that use is not ours to end.
   */
  async #clearAlone({ timeout, signal }: DetachOptions): Promise<void> {
    // Where that cannot be asked, the last close detaches.
    const isOver = () => unlessRefused(() => isDetached(this.facts)) ?? true;
    const clears = async () => isOver() || await this.lock.clear() || undefined;
    const isClear = (ms: number) =>
      unlessAborted(poll(clears, ms, signal, CLEARING_PAUSE_MS), signal);
    if (timeout !== undefined) return void await isClear(timeout);
    let stay: readonly string[] = [];
    for (let waited = 0; waited < UDEVD_MS; waited += PASSING_OPENERS_MS) {
      const before = stay;
      if (await isClear(waited === 0 ? 0 : PASSING_OPENERS_MS)) return;
      if (signal?.aborted || await holdOf(this.path) === "held") return;
      const { number, lock: { descriptor } } = this;
      const others = await laterToExplain(() => othersThan(number, descriptor));
      if (!others) return;
      stay = others;
      if (stay.some((who) => before.includes(who))) return;
    }
  }

  /** Waits until the kernel has ended its use; `"deferred"` when the signal stops that. */
  async waitForOthers({ timeout, signal }: DetachOptions): Promise<"detached" | "deferred"> {
    const { path } = this;
    const isGone = () => sweepDetached(this.facts, path) || undefined;
    const wait = (ms: number) => unlessAborted(poll(isGone, ms, signal), signal);
    if (isGone()) return "detached";
    if (timeout !== undefined) return await wait(timeout) ? "detached" : "deferred";
    if (await holdOf(path) === "held") return "deferred";
    for (let waited = 0, unseen = 0; waited < UDEVD_MS; waited += PASSING_OPENERS_MS) {
      if (await wait(PASSING_OPENERS_MS)) return "detached";
      if (signal?.aborted) break;
      // Where the holders cannot be asked for, the device is released all the same.
      const who = await laterToExplain(() => heldBy(this.number)) ?? "others";
      // Nobody: it was closed just now, or is held where we cannot look (another container).
      if (who === "others" || who === "nobody" && ++unseen > 1) break;
    }
    return isGone() ? "detached" : "deferred";
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

/** The table of a file that shall be bound instead; undefined if the kernel will refuse the file. */
async function tableAfterChange(
  { file, size: whole }: BackingFile,
  { size, sectorSize, offset, sizelimit, readOnly }: LoopFacts,
): Promise<FoundTable | undefined> {
  if (!readOnly || deviceSize(whole, { offset, sizelimit }) !== size) return undefined;
  const table = await readTableIn(file, { size, sectorSize, offset });
  const part = { file, offset, sizelimit };
  refuseUnreadable(table, { path: file.path, sectorSize, call: "attach", part });
  return table;
}
