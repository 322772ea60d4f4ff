/**
 * attach(): options → config → a free device, bounded retry → LoopDevice.
 *
 * @module
 */
import { type BackingFile, openBackingFile, refusal } from "./binding/backing_file.ts";
import { bindFreeDevice } from "./binding/bind.ts";
import type { BoundDevice } from "./binding/bound_device.ts";
import { aloneWith } from "./binding/file_lock.ts";
import { checkPath } from "./base/checks.ts";
import { afterUndoing, isRefusal, LoopError, toExplain, withPath } from "./base/errors.ts";
import { heeding } from "./base/retry.ts";
import { startThread } from "./kernel/chain.ts";
import { absolutePath, O_EXCL, O_RDONLY, open, type OpenFile } from "./kernel/file.ts";
import type { LoopStatus } from "./binding/facts.ts";
import { inspectImage, partitionsOf, refuseSeen, type SeenTable } from "./inspect_image.ts";
import { type LoopDevice, makeLoopDevice } from "./device.ts";
import { type AttachOptions, type CheckedOptions, checkOptions } from "./binding/options.ts";
import { isNodev } from "./kernel/mountinfo.ts";
import { openFound } from "./open_loop.ts";
import { refuseWrapped } from "./refuse_wrapped.ts";
import {
  drain,
  isAffected,
  probePartscanRace,
  scanOnce,
  type Strategy,
} from "./binding/partscan_race.ts";
import { announceUnheard } from "./udev/lost_event.ts";
import { whenUnlocked } from "./udev/lock.ts";
import { fileStatus } from "./kernel/stat.ts";
import { findBackedBy, overlaps } from "./status.ts";
import { kernelRelease } from "./kernel/release.ts";
import { withFile } from "./base/turns.ts";
import { yieldToEventLoop } from "./runtime/event_loop.ts";
import { flush } from "./kernel/blocking.ts";

/**
 * Attaches a file as a loop device and resolves when it, and with `partscan` every partition of it,
 * is usable. On failure everything is undone.
 *
 * Throws (rejects with) TypeError or RangeError for a bad option, before any system call;
 * {@linkcode LoopError} for whatever the system refuses; the signal's reason if aborted.
 *
 * @param file Path of the image, or its file: URL; a regular file or a block device.
 *
 * @example
 * ```ts
 * import { attach } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 * const image = "/tmp/loopdev-example.img";
 * writeFileSync(image, new Uint8Array(2 ** 20));
 * await using loop = await attach(image, { partscan: true });
 * for (const { path, size, type } of loop.partitions) console.log(path, size, type);
 * ```
 */
export async function attach(
  file: string | URL,
  options: AttachOptions = {},
): Promise<LoopDevice> {
  const path = checkPath("file", file);
  const checked = checkOptions(options);
  return await attachChecked(absolutePath(path), checked);
}

/** attach() behind its checks: `path` and `reference` may be names that are no UTF-8. */
export async function attachChecked(path: string, asked: CheckedOptions): Promise<LoopDevice> {
  const { signal } = asked;
  await yieldToEventLoop();
  signal?.throwIfAborted();
  return await heeding(attachHeard(path, asked), signal);
}

async function attachHeard(path: string, asked: CheckedOptions): Promise<LoopDevice> {
  const { signal, overlap } = asked;
  const plan = await choosePlan(asked);
  if (plan.strategy === "two-step") startThread();

  // Until the bind, at which the kernel takes its own reference, and a writable device keeps it.
  using backing = await openBackingFile(path, asked);
  await flush(backing.file, backing.size, signal);
  // The queue is for the calls of this process, in their order; the lock is for all processes.
  return await withFile(
    backing.identity,
    overlap === "allow" ? "shared" : "exclusive",
    async () => {
      if (overlap === "allow") {
        return await attachAnew(backing, plan, asked, await inspectImage(backing, asked));
      }
      return await aloneWith(
        backing.file,
        asked,
        () => attachUnlessOverlapping(backing, plan, asked),
      );
    },
    signal,
  );
}

/**
 * No other process that asks with `overlap` may look before the device is usable, since `"reuse"` gives it
 * away at once.
 */
async function attachUnlessOverlapping(
  backing: BackingFile,
  plan: Plan,
  asked: CheckedOptions,
): Promise<LoopDevice> {
  if (backing.isBlockDevice && asked.overlap === "refuse") refuseHeld(backing.file);
  const ahead = await inspectImage(backing, asked);
  return await reuseSame(backing.file, asked, ahead.sectorSize) ??
    await attachAnew(backing, plan, asked, ahead);
}

async function attachAnew(
  backing: BackingFile,
  plan: Plan,
  asked: CheckedOptions,
  { sectorSize, seen }: Awaited<ReturnType<typeof inspectImage>>,
): Promise<LoopDevice> {
  const { file, readOnly, size } = backing;
  if (asked.partscan && seen) refuseSeen(seen);
  const isSuspect = seen === undefined || seen.wrapper !== undefined;
  if (asked.partscan && isSuspect) await refuseWrapped(file, { ...asked, size });
  const partscan = plan.strategy === "one-step";
  let bound: BoundDevice;
  // Not catch(): a stack trace ends at a promise's callback.
  try {
    const binding = { ...asked, sectorSize, backing: file, readOnly, partscan };
    bound = await bindFreeDevice(binding, asked.signal);
  } catch (error) {
    throw explainNodev(error);
  }
  try {
    verify(bound, asked, sectorSize);
    await makeReady(bound, file, plan, asked, seen);
    asked.signal?.throwIfAborted();
    const loop = makeLoopDevice(bound, asked.onDeferred);
    if (bound.backing) backing.handOver();
    return loop;
  } catch (error) {
    // The first error wins.
    throw await afterUndoing(error, bound.undo());
  }
}

/** EACCES is what root, too, gets for a device on a file system mounted nodev. */
function explainNodev(error: unknown): unknown {
  const isOfNode = isRefusal(error, "EACCES") && error.path.startsWith("/dev/");
  if (!isOfNode || !toExplain(() => isNodev("/dev"))) return error;
  return error.withHint("/dev is mounted nodev: mount -o remount,dev /dev");
}

/** From bound to usable. */
async function makeReady(
  bound: BoundDevice,
  backing: OpenFile,
  { strategy: planned, detour }: Plan,
  { timeout, signal }: CheckedOptions,
  seen: SeenTable | undefined,
): Promise<void> {
  const { device, facts, partitions } = bound;
  // With loop.max_part > 0 the kernel scans in LOOP_CONFIGURE, asked or not.
  const strategy = bound.strategy = facts.partscan ? "one-step" : planned;
  if (strategy === "two-step") await scanOnce(device, signal);
  if (strategy === "userspace" && detour) drain(device);
  signal?.throwIfAborted();
  if (strategy !== "none") {
    // The scan of two steps comes some ms after that look.
    const fresh = strategy === "two-step" ? undefined : seen;
    await partitions.ready(await partitionsOf(backing, facts, fresh, signal), timeout, signal);
  }
  // The kernel found no table: it has none, or we have added what the table says.
  if (partitions.added.length === partitions.list.length) announceUnheard(bound.number);
}

/**
 * A disk is in use without a loop device, too. The kernel tells by open(O_EXCL), also of its partitions. That
 * takes the disk for a moment, as the caller is about to do.
 */
function refuseHeld(disk: OpenFile): void {
  try {
    disk.call((fd) => open(`/proc/self/fd/${fd}`, O_RDONLY | O_EXCL)).close();
  } catch (error) {
    if (!isRefusal(error, "EBUSY")) throw withPath(error, disk.path);
    const hint =
      "this block device, its disk or a partition of it is mounted or held by another device: " +
      `lsblk ${disk.path} shows by which; end that first, or attach it with overlap: "allow"`;
    throw refusal(disk, hint, "EBUSY");
  }
}

/** Other processes detach and attach the file while we look: then we look again, so often. */
const LOOKS = 16;

/** A handle of the device with just the wanted range of the file, if there is one and it shall be used. */
async function reuseSame(
  file: OpenFile,
  asked: CheckedOptions,
  sectorSize: number | undefined,
): Promise<LoopDevice | undefined> {
  for (let looks = 1; looks <= LOOKS; looks++) {
    const same = await findSame(file, asked);
    if (!same) return undefined;
    const bound = await openFound(same);
    if (bound) return await reuse(bound, asked, sectorSize);
    asked.signal?.throwIfAborted();
  }
  throw refusal(file, "others attach and detach it all the time", "EBUSY");
}

/** The device with just the wanted range; rejects if another one overlaps it. */
async function findSame(
  file: OpenFile,
  { offset, sizelimit, overlap }: CheckedOptions,
): Promise<LoopStatus | undefined> {
  const range = { offset, sizelimit };
  const others = (await findBackedBy(fileStatus(file))).filter((one) => overlaps(one, range));
  const same = others.find((one) => one.offset === offset && one.sizelimit === sizelimit);
  if (overlap === "reuse" && same) return same;
  if (others.length === 0) return undefined;
  const known = others.map((d) => `${d.path} (offset ${d.offset}, sizelimit ${d.sizelimit})`);
  throw refusal(file, `this part of it is attached already: ${known.join(", ")}`, "EEXIST");
}

async function reuse(
  bound: BoundDevice,
  { readOnly, lock, partscan, timeout, signal }: CheckedOptions,
  sectorSize: number | undefined,
): Promise<LoopDevice> {
  const { facts, number, path } = bound;
  try {
    if (readOnly !== undefined && readOnly !== facts.readOnly) {
      const mode = facts.readOnly ? "read-only" : "writable";
      const hint = `it is attached ${mode} to this part of the file already`;
      throw new LoopError({ code: "EEXIST", path, hint });
    }
    if (sectorSize !== undefined && sectorSize !== facts.sectorSize) {
      const hint = `it is attached in sectors of ${facts.sectorSize} bytes, not ${sectorSize}`;
      throw new LoopError({ code: "EEXIST", path, hint });
    }
    if (lock) await whenUnlocked(number, () => bound.lock.keepShared(), timeout, signal);
    if (partscan) await bound.rescan(timeout, signal);
    // The file's lock, or its disk, may have taken long: after an abort nobody waits for the handle.
    signal?.throwIfAborted();
    return makeLoopDevice(bound);
  } catch (error) {
    // The first error wins.
    throw await afterUndoing(error, bound.close());
  }
}

/** How partitions shall come to be, and whether {@linkcode PARTSCAN_RACE} must be avoided. */
interface Plan {
  readonly strategy: Strategy;
  readonly detour: boolean;
}

async function choosePlan({ partscan, workaround }: CheckedOptions): Promise<Plan> {
  if (partscan === false) return { strategy: "none", detour: false };
  const detour = workaround === "probe"
    ? await probeOnce() !== "fixed"
    : workaround === "always" || workaround === "auto" && isAffected(kernelRelease());
  if (partscan === "userspace") return { strategy: "userspace", detour };
  return { strategy: detour ? "two-step" : "one-step", detour };
}

let probed: ReturnType<typeof probePartscanRace> | undefined;

/** Probes the running kernel once a process, or again after a probe that was refused or decides nothing. */
async function probeOnce(): ReturnType<typeof probePartscanRace> {
  let verdict: Awaited<ReturnType<typeof probePartscanRace>> | undefined;
  try {
    return verdict = await (probed ??= probePartscanRace());
  } finally {
    if (verdict === undefined || verdict === "inconclusive") probed = undefined;
  }
}

/** LOOP_CONFIGURE of Linux 5.8 ignores some fields, and every kernel drops direct I/O without an error. */
function verify({ path, facts }: BoundDevice, asked: CheckedOptions, sectorSize?: number): void {
  const differences: string[] = [];
  const compare = <T>(what: string, is: T, asked: T) => {
    if (is !== asked) differences.push(`${what} is ${is}, asked for ${asked}`);
  };
  compare("offset", facts.offset, asked.offset);
  compare("sizelimit", facts.sizelimit, asked.sizelimit);
  compare("sector size", facts.sectorSize, sectorSize ?? facts.sectorSize);
  compare("read-only", facts.readOnly, asked.readOnly ?? facts.readOnly);
  compare("direct I/O", facts.directIo, asked.directIo || facts.directIo);
  if (differences.length === 0) return;
  const list = differences.join(", ");
  const why = differences.some((one) => one.startsWith("direct I/O"))
    ? "the backing file's file system, or its alignment to the sector size, does not allow direct I/O"
    : `Linux ${kernelRelease()} ignored it; loopdev needs Linux 5.9 or later`;
  throw new LoopError({
    code: "EOPNOTSUPP",
    syscall: "ioctl",
    request: "LOOP_CONFIGURE",
    path,
    hint: `${list}: ${why}`,
  });
}
