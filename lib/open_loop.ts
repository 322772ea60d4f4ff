/**
 * Loop devices that somebody else attached: opening and detaching them.
 *
 * @module
 */
import { BoundDevice } from "./binding/bound_device.ts";
import { removeDevice } from "./binding/change.ts";
import { checkBoolean, checkPath } from "./base/checks.ts";
import { checkAgainst } from "./base/options.ts";
import { allEnded, retry, type RetryPolicy } from "./base/retry.ts";
import { DETACH, type DetachOptions, warnLost } from "./binding/detach.ts";
import { isRefusal, laterUnlessRefused, LoopError } from "./base/errors.ts";
import { isSameUse, type LoopFacts, type LoopStatus, readFacts } from "./binding/facts.ts";
import { absolutePath, O_RDONLY, open } from "./kernel/file.ts";
import { readTable } from "./binding/image_table.ts";
import { type LoopDevice, makeLoopDevice } from "./device.ts";
import { fileStatus } from "./kernel/stat.ts";
import { findBackedBy, loopNumber, loopOf } from "./status.ts";
import { sysfsDiskseq, sysfsIsBound, sysfsPartitions } from "./kernel/sysfs.ts";
import { yieldToEventLoop } from "./runtime/event_loop.ts";

/**
 * Opens a loop device that somebody else attached. The handle does not own it: `await using` leaves
 * it alone, detach() detaches it all the same. While the handle is open the kernel binds no other
 * file to the device; only LOOP_CHANGE_FD can.
 *
 * Rejects with {@linkcode LoopError}: ENXIO if no file is bound to it, ENOTBLK if it is no loop device.
 *
 * @param path The node, by any name.
 *
 * @example
 * ```ts
 * import { attach, openLoop } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 * const image = "/tmp/loopdev-example.img";
 * writeFileSync(image, new Uint8Array(2 ** 20));
 * await using loop = await attach(image);
 * await using again = await openLoop(loop.path);
 * console.log(again.size); // 1048576
 * ```
 */
export async function openLoop(path: string | URL): Promise<LoopDevice> {
  const node = absolutePath(checkPath("path", path));
  await yieldToEventLoop();
  // Before it is opened: opening a device of another kind can have an effect, such as rewinding a tape.
  const number = loopNumber(node);
  const bound = await openDevice(node, (facts) => facts.number === number);
  if (bound) return makeLoopDevice(bound);
  const hint = `it was /dev/loop${number}, and leads to another device by now`;
  throw new LoopError({ code: "ENXIO", path: node, hint });
}

/**
 * The same for a device that was found; undefined if it is in another use by now. ENOENT says that it is not, and
 * that /dev has no node for it.
 */
export async function openFound(found: LoopStatus): Promise<BoundDevice | undefined> {
  try {
    return await openDevice(found.path, (facts) => isSameUse(facts, found));
  } catch (error) {
    // Those of one that was detached, or removed, since it was found.
    if (isRefusal(error, "ENXIO", "ENODEV")) return undefined;
    if (isRefusal(error, "ENOENT") && !isStillUsed(found)) return undefined;
    throw error;
  }
}

function isStillUsed({ number, diskseq }: LoopStatus): boolean {
  return sysfsIsBound(number) && sysfsDiskseq(number) === diskseq;
}

/** Its handle, for who is given one. */
export async function openFoundLoop(found: LoopStatus): Promise<LoopDevice | undefined> {
  const bound = await openFound(found);
  return bound && makeLoopDevice(bound);
}

/** Opens before it asks: `isWanted` judges the very device that the handle then holds. */
async function openDevice(
  path: string,
  isWanted: (facts: LoopFacts) => boolean,
): Promise<BoundDevice | undefined> {
  const device = open(path, O_RDONLY);
  try {
    const facts = readFacts(device);
    if (isWanted(facts)) {
      const bound = new BoundDevice(device, facts);
      const isBare = sysfsPartitions(facts.number).length === 0;
      const table = isBare ? [] : (await readTable(device, facts.sectorSize)).partitions;
      bound.partitions.adopt(table);
      return bound;
    }
    device.close();
    return undefined;
  } catch (error) {
    device.close();
    throw error;
  }
}

/** udev looks at a device that was detached, and whoever lists devices has each open for a moment. */
const WHILE_LOOKED_AT: RetryPolicy = { codes: ["EBUSY"], tries: 64, longestPause: 50 };

/** Takes a free device away, unless others have done so, or have bound it, by then. */
async function removeUnused(number: number): Promise<void> {
  await retry(WHILE_LOOKED_AT, async () => {
    if (sysfsIsBound(number)) return;
    await laterUnlessRefused(() => removeDevice(number), "ENODEV");
  });
}

const DETACH_BY_NAME = { ...DETACH, remove: { check: checkBoolean, default: false } };

/**
 * Detaches a loop device by its node, or every device that a file is attached to when the call is
 * made; a device that is somebody else's by the time it is opened is left alone. Resolves to
 * `"deferred"` if one of them is still held by others: it detaches after them.
 *
 * Rejects with {@linkcode LoopError}: ENXIO if nothing is attached there, EACCES if a device may not
 * be asked for its file; EIO or ENOSPC, detached all the same, if anything that was written there is lost
 * and nobody was told of it. With an AggregateError if several devices of the file give an error.
 *
 * @param target A loop device's node, or a backing file.
 * @param options `remove`: takes the device itself away too (LOOP_CTL_REMOVE), once it is detached, unless
 * another process has bound it by then.
 * The others as in {@linkcode LoopDevice.detach}; `onDeferred` is called for each device.
 *
 * @example
 * ```ts
 * import { attach, detach } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 * const image = "/tmp/loopdev-example.img";
 * writeFileSync(image, new Uint8Array(2 ** 20));
 * const loop = await attach(image);
 * await loop.persist();
 * console.log(await detach(image)); // detached
 * ```
 */
export async function detach(
  target: string | URL,
  options: DetachOptions & { remove?: boolean } = {},
): Promise<"detached" | "deferred"> {
  const path = absolutePath(checkPath("target", target));
  const { remove, ...waiting } = checkAgainst(options, DETACH_BY_NAME);
  waiting.signal?.throwIfAborted();
  const file = fileStatus(path);
  const isLoop = file.type === "block device" && file.rdev.startsWith("7:");
  const opening = isLoop
    ? [() => openLoop(path)]
    : (await findBackedBy(file)).map((found) => () => openFoundLoop(found));
  const outcomes = await allEnded(opening.map(async (openIt) => {
    const loop = await openIt();
    const outcome = await loop?.detach(waiting).catch((error) => {
      if (waiting.signal?.aborted) loop[Symbol.asyncDispose]().catch(warnLost);
      throw error;
    });
    if (loop && outcome === "detached" && remove) await removeUnused(loop.number);
    return outcome;
  }));
  if (outcomes.includes("deferred")) return "deferred";
  if (outcomes.includes("detached")) return "detached";
  const { number, partition } = loopOf(file);
  const hint = partition === undefined
    ? "it is not attached to any loop device"
    : `it is a partition of /dev/loop${number}, and that is what can be detached`;
  throw new LoopError({ code: "ENXIO", path, hint });
}
