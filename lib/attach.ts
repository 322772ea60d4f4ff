/**
 * attach(): options → config → a free device, bounded retry → LoopDevice.
 *
 * @module
 */
import { type BackingFile, openBackingFile, refusal } from "./binding/backing_file.ts";
import { bindFreeDevice, type BoundDevice, undoBind } from "./binding/bind.ts";
import { aloneWith } from "./binding/file_lock.ts";
import { checkPath } from "./base/checks.ts";
import { isRefusal, LoopError } from "./base/errors.ts";
import { heeding } from "./base/retry.ts";
import { absolutePath, type OpenFile } from "./kernel/file.ts";
import type { LoopFacts, LoopStatus } from "./binding/facts.ts";
import { libc } from "./runtime/libc.ts";
import {
  inspectImage,
  partitionsOf,
  refuseSeen,
  type SeenTable,
  type SettledOptions,
} from "./inspect_image.ts";
import { lockShared, type LoopDevice, makeLoopDevice } from "./device.ts";
import { type AttachOptions, type CheckedOptions, checkOptions } from "./binding/options.ts";
import { isNodev } from "./kernel/mountinfo.ts";
import { openFound } from "./open_loop.ts";
import { refuseWrapped } from "./refuse_wrapped.ts";
import { readyPartitions } from "./binding/partitions.ts";
import {
  drain,
  isAffected,
  probePartscanRace,
  scanOnce,
  type Strategy,
} from "./binding/partscan_race.ts";
import { announceUnheard } from "./udev/lost_event.ts";
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
  return await heeding(attachHeard(path, asked), signal, (loop) => loop[Symbol.asyncDispose]());
}

async function attachHeard(path: string, asked: CheckedOptions): Promise<LoopDevice> {
  const { signal, overlap } = asked;
  const plan = await choosePlan(asked);
  if (plan.planned === "two-step") libc().startThread();

  // The kernel takes its own reference at the bind: ours is not needed for longer.
  using backing = await openBackingFile(path, asked);
  await flush(backing.file, backing.size, signal);
  // Here those of this process come in the order of their calls; the lock is for all processes.
  return await withFile(backing.identity, overlap !== "allow", async () => {
    if (overlap === "allow") {
      return await attachAnew(backing, plan, await inspectImage(backing, asked));
    }
    return await aloneWith(
      backing.file,
      asked,
      () => attachUnlessOverlapping(backing, plan, asked),
    );
  }, signal);
}

/** Nobody else who asks may look before the device is usable: `"reuse"` gives it away at once. */
async function attachUnlessOverlapping(
  backing: BackingFile,
  plan: Plan,
  asked: CheckedOptions,
): Promise<LoopDevice> {
  const ahead = await inspectImage(backing, asked);
  return await reuseSame(backing.file, ahead.wanted) ?? await attachAnew(backing, plan, ahead);
}

async function attachAnew(
  { file, readOnly, size }: BackingFile,
  plan: Plan,
  { wanted, seen }: Awaited<ReturnType<typeof inspectImage>>,
): Promise<LoopDevice> {
  if (wanted.partscan && seen) refuseSeen(seen);
  const isBare = (seen?.table.kind ?? "none") === "none";
  if (wanted.partscan && isBare) await refuseWrapped(file, { ...wanted, size });
  const partscan = plan.planned === "one-step";
  const binding = { ...wanted, backing: file, readOnly, partscan };
  let bound: BoundDevice;
  // A stack does not lead back through catch() of a promise.
  try {
    bound = await bindFreeDevice(binding, wanted.signal);
  } catch (error) {
    throw explainNodev(error);
  }
  try {
    return await makeReady(bound, file, plan, wanted, seen);
  } catch (error) {
    // The first error wins.
    await undoBind(bound).catch(() => {});
    throw error;
  }
}

/** On a file system mounted nodev no device can be opened: EACCES, for root as well. */
function explainNodev(error: unknown): unknown {
  const isOfNode = isRefusal(error, "EACCES") && error.path.startsWith("/dev/");
  if (!isOfNode || !isNodev("/dev")) return error;
  return error.withHint("/dev is mounted nodev: mount -o remount,dev /dev");
}

/** From bound to usable. */
async function makeReady(
  bound: BoundDevice,
  backing: OpenFile,
  { planned, detour }: Plan,
  wanted: SettledOptions,
  seen: SeenTable | undefined,
): Promise<LoopDevice> {
  const { device, facts } = bound;
  const { onDeferred } = wanted;
  verify(device, facts, wanted);
  // With loop.max_part > 0 the kernel scans in LOOP_CONFIGURE, asked or not.
  const strategy = facts.partscan ? "one-step" : planned;
  if (strategy === "two-step") await scanOnce(device, wanted.signal);
  if (strategy === "userspace" && detour) drain(device);
  wanted.signal?.throwIfAborted();
  if (strategy === "none") {
    announceUnheard(bound.number);
    const ready = { partitions: [], added: [], skipped: [] };
    return makeLoopDevice({ bound, strategy, facts, owned: true, ready, onDeferred });
  }
  // Two steps scan some ms later than we looked.
  const fresh = strategy === "two-step" ? undefined : seen;
  const table = await partitionsOf(backing, facts, fresh, wanted.signal);
  const ready = await readyPartitions(bound, table, wanted.timeout, wanted.signal);
  // The kernel found no table: it has none, or we have added what the table says.
  if (ready.added.length === ready.partitions.length) announceUnheard(bound.number);
  return makeLoopDevice({ bound, strategy, facts, owned: true, ready, onDeferred });
}

/** Others detach and attach while we look: then it is looked at again. */
const LOOKS = 16;

/** The device with just the wanted range of the file, if there is one and it shall be used. */
async function reuseSame(
  file: OpenFile,
  wanted: SettledOptions,
): Promise<LoopDevice | undefined> {
  for (let looks = 1; looks <= LOOKS; looks++) {
    const same = await findSame(file, wanted);
    if (!same) return undefined;
    const loop = await openFound(same);
    if (loop) return await reuse(loop, wanted);
    wanted.signal?.throwIfAborted();
  }
  throw refusal(file, "others attach and detach it all the time", "EBUSY");
}

/** What was found of it; rejects if another device overlaps it. */
async function findSame(
  file: OpenFile,
  { offset, sizelimit, overlap }: SettledOptions,
): Promise<LoopStatus | undefined> {
  const identity = fileStatus(file);
  const range = { offset, sizelimit };
  const others = (await findBackedBy(identity)).filter((device) => overlaps(device, range));
  const same = others.find((d) => d.offset === offset && d.sizelimit === sizelimit);
  if (overlap === "reuse" && same) return same;
  if (others.length === 0) return undefined;
  const known = others.map((d) => `${d.path} (offset ${d.offset}, sizelimit ${d.sizelimit})`);
  throw refusal(file, `this part of it is attached already: ${known.join(", ")}`, "EEXIST");
}

async function reuse(loop: LoopDevice, wanted: SettledOptions): Promise<LoopDevice> {
  try {
    if (wanted.readOnly !== undefined && wanted.readOnly !== loop.readOnly) {
      const mode = loop.readOnly ? "read-only" : "writable";
      const hint = `it is attached ${mode} to this part of the file already`;
      throw new LoopError({ code: "EEXIST", syscall: "attach", path: loop.path, hint });
    }
    if (wanted.sectorSize !== undefined && wanted.sectorSize !== loop.sectorSize) {
      const hint =
        `it is attached in sectors of ${loop.sectorSize} bytes, not ${wanted.sectorSize}`;
      throw new LoopError({ code: "EEXIST", syscall: "attach", path: loop.path, hint });
    }
    const { timeout, signal } = wanted;
    if (wanted.lock) await lockShared(loop, timeout, signal);
    if (wanted.partscan) await loop.rescan({ timeout, signal });
    return loop;
  } catch (error) {
    // The first error wins.
    await loop[Symbol.asyncDispose]().catch(() => {});
    throw error;
  }
}

/** How partitions shall come to be, and whether the kernel's race must be walked around. */
interface Plan {
  readonly planned: Strategy;
  readonly detour: boolean;
}

async function choosePlan({ partscan, workaround }: CheckedOptions): Promise<Plan> {
  if (partscan === false) return { planned: "none", detour: false };
  const detour = await needsDetour(workaround);
  if (partscan === "userspace") return { planned: "userspace", detour };
  return { planned: detour ? "two-step" : "one-step", detour };
}

let probed: ReturnType<typeof probePartscanRace> | undefined;

/** The kernel does not change while we run: one answer of it serves all, if it is one. */
async function probeOnce(): ReturnType<typeof probePartscanRace> {
  const asked = probed ??= probePartscanRace();
  const verdict = await asked.catch((error) => {
    if (probed === asked) probed = undefined;
    throw error;
  });
  if (verdict === "inconclusive" && probed === asked) probed = undefined;
  return verdict;
}

async function needsDetour(workaround: CheckedOptions["workaround"]): Promise<boolean> {
  switch (workaround) {
    case "always":
      return true;
    case "never":
      return false;
    case "auto":
      return isAffected(kernelRelease());
    case "probe":
      return await probeOnce() !== "fixed";
  }
}

/** Return code 0 is not enough: 5.8 ignores some fields, and direct I/O is dropped without a word. */
function verify(device: OpenFile, facts: LoopFacts, wanted: SettledOptions): void {
  const differences = [
    ["offset", facts.offset, wanted.offset],
    ["sizelimit", facts.sizelimit, wanted.sizelimit],
    ["sector size", facts.sectorSize, wanted.sectorSize ?? facts.sectorSize],
    ["read-only", facts.readOnly, wanted.readOnly ?? facts.readOnly],
    ["direct I/O", facts.directIo, wanted.directIo || facts.directIo],
  ].filter(([, is, asked]) => is !== asked);
  if (differences.length === 0) return;
  const list = differences.map(([what, is, asked]) => `${what} is ${is}, asked for ${asked}`).join(
    ", ",
  );
  const why = differences.some(([what]) => what === "direct I/O")
    ? "the backing file's file system, or its alignment to the sector size, does not allow direct I/O"
    : `Linux ${kernelRelease()} ignored it; loopdev needs Linux 5.9 or later`;
  throw new LoopError({
    code: "EOPNOTSUPP",
    syscall: "ioctl",
    request: "LOOP_CONFIGURE",
    path: device.path,
    hint: `${list}: ${why}`,
  });
}
