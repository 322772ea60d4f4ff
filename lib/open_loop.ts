/**
 * Loop devices that somebody else attached: opening and detaching them.
 *
 * @module
 */
import { LoopError } from "./errors.ts";
import { readFacts } from "./facts.ts";
import { O_RDONLY, O_RDWR, open } from "./file.ts";
import { loopCtlRemove } from "./loop.ts";
import { type LoopDevice, makeLoopDevice } from "./loop_device.ts";
import { NodeKeeper } from "./nodes.ts";
import { describe, readTableIn } from "./partitions.ts";
import { status as fileStatus } from "./stat.ts";
import { find, status } from "./status.ts";
import { sysfsPartitions } from "./sysfs.ts";

const ENXIO = 6;

/**
 * Opens a loop device that somebody else attached. The handle does not own it: `await using` leaves
 * it alone, detach() detaches it all the same.
 *
 * Rejects with {@linkcode LoopError}: ENXIO if no file is bound to it, ENOTBLK if it is no loop device.
 *
 * @param path The node, by any name.
 */
export async function openLoop(path: string): Promise<LoopDevice> {
  const { number } = await status(path);
  const bound = { device: open(path, O_RDONLY), number, nodes: new NodeKeeper("auto") };
  using undo = new DisposableStack();
  undo.use(bound.device);
  const facts = readFacts(bound.device);
  const table = readTableIn(bound.device, { size: facts.size, sectorSize: facts.sectorSize });
  const partitions = sysfsPartitions(number, true).map((partition) => describe(partition, table));
  const ready = { partitions, added: [] };
  const loop = makeLoopDevice({ bound, strategy: "none", facts, owned: false, ready });
  undo.move();
  return loop;
}

/**
 * Detaches a loop device by its node, or every device that a file is attached to. Resolves to
 * `"deferred"` if one of them is still held by others: it detaches after them.
 *
 * Rejects with {@linkcode LoopError}: ENXIO if nothing is attached there.
 *
 * @param target A loop device's node, or a backing file.
 * @param options `remove`: takes the device itself away too (LOOP_CTL_REMOVE), once it is detached.
 */
export async function detach(
  target: string,
  { remove = false }: { remove?: boolean } = {},
): Promise<"detached" | "deferred"> {
  const { type, rdev } = fileStatus(target);
  const isLoop = type === "block device" && rdev.startsWith("7:");
  const paths = isLoop ? [target] : (await find(target)).map(({ path }) => path);
  if (paths.length === 0) {
    throw new LoopError({
      errno: ENXIO,
      syscall: "ioctl",
      path: target,
      hint: "it is not attached to any loop device",
    });
  }
  let outcome: "detached" | "deferred" = "detached";
  for (const path of paths) {
    const loop = await openLoop(path);
    if (await loop.detach() === "deferred") outcome = "deferred";
    else if (remove) removeDevice(loop.number);
  }
  return outcome;
}

function removeDevice(number: number): void {
  using control = open("/dev/loop-control", O_RDWR);
  loopCtlRemove(control, number);
}
