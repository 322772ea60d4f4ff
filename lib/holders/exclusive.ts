/**
 * Whether somebody has a device for himself: a file system, swap, a device over it, mkfs.
 *
 * open(O_EXCL) tells by taking it for a moment, and whoever wants it in just that moment gets EBUSY
 * (bd_may_claim() does not wait): our own mount() on another thread, mount(8) or mkfs of others. So
 *
 *   - the question is put without taking anything, by {@linkcode holdOf}: quotactl(2) knows of file
 *     systems, sysfs and /proc of what else the kernel has for itself. Of a program that has opened the
 *     device with O_EXCL they do not know; it is found as any other process is.
 *   - open(O_EXCL) is tried where the kernel has no quotactl(2), and by who is about to let the device
 *     go anyway ({@linkcode isHeldExclusively}).
 *   - it is never tried while a mount of this process is on its way to the device: the answer is
 *     "held". The try begins and ends within one turn of the event loop, so that none can begin.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { isBeingClaimed } from "../kernel/claims.ts";
import { O_EXCL, O_RDONLY, open, readText } from "../kernel/file.ts";
import { mounts } from "../kernel/mountinfo.ts";
import { hasSuperblock } from "../kernel/quotactl.ts";
import { fileStatus } from "../kernel/stat.ts";
import { sysfsPartitions } from "../kernel/sysfs.ts";
import type { Holder } from "./holder.ts";
import { type Held, kernelHolders } from "./kernel_holders.ts";

/** Unknown: this process may not look, or cannot just now (EMFILE). That is not "nobody". */
export type Hold = "held" | "free" | "unknown";

/**
 * Whether the kernel has the device for a file system, for swap or for another device. Of a disk also
 * whether it has one of its partitions. Takes nothing, and so disturbs nobody.
 */
export async function holdOf(path: string): Promise<Hold> {
  try {
    const held = deviceAt(path);
    const nodes = [path, ...[...held.values()].slice(1).map((name) => `/dev/${name}`)];
    const holds = await holdsOf(nodes, await kernelHolders(held, mounts()));
    const found = [...holds.values()];
    return found.find((hold) => hold === "held") ?? found.find((hold) => hold === "unknown") ??
      "free";
  } catch (error) {
    return answerOf(error);
  }
}

/** The same of each of these nodes alone. `known`: what else the kernel has them for. */
export async function holdsOf(
  nodes: readonly string[],
  known: readonly Holder[],
): Promise<Map<string, Hold>> {
  return new Map(
    await Promise.all(nodes.map(async (node): Promise<[string, Hold]> => {
      if (known.some(({ path }) => path === node) || isBeingClaimed(node)) return [node, "held"];
      const isMounted = await hasSuperblock(node);
      return [node, isMounted ? "held" : isMounted === false ? "free" : takes(node)];
    })),
  );
}

/**
 * Whether the disk or a partition of it has an owner, by taking it for a moment. True also where that
 * cannot be known. For {@linkcode holdOf} where that is not enough.
 */
export function isHeldExclusively(path: string): boolean {
  return takes(path) !== "free";
}

function takes(path: string): Hold {
  if (isBeingClaimed(path)) return "held";
  try {
    open(path, O_RDONLY | O_EXCL).close();
    return "free";
  } catch (error) {
    return answerOf(error);
  }
}

function answerOf(error: unknown): Hold {
  if (isRefusal(error, "EBUSY")) return "held";
  // A node without a device, which nobody can have.
  if (isRefusal(error, "ENXIO", "ENODEV")) return "free";
  if (isRefusal(error)) return "unknown";
  throw error;
}

/** The device at `path` and its partitions: names by device number. */
function deviceAt(path: string): Held {
  const { rdev } = fileStatus(path);
  const name = /^DEVNAME=(.+)$/m.exec(readText(`/sys/dev/block/${rdev}/uevent`))?.[1] ?? "";
  const number = /^loop(\d+)$/.exec(name)?.[1];
  const partitions = number === undefined ? [] : sysfsPartitions(Number(number));
  return new Map([[rdev, name], ...partitions.map(({ dev, name }) => [dev, name] as const)]);
}
