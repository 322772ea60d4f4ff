/**
 * Whether a device is held exclusively: by a file system, swap, a device over it, mkfs.
 *
 * open(O_EXCL) answers by taking the device for a moment. Whoever wants it in that moment gets EBUSY
 * (bd_may_claim() does not wait): our own mount() on another thread, mount(8) or mkfs of others. So
 *
 *   - {@linkcode holdOf} takes nothing: quotactl(2) knows of file systems, sysfs and /proc of the kernel's
 *     other holders. They do not know of a program that has opened the device with O_EXCL, which is found
 *     as any other process is.
 *   - open(O_EXCL) is tried only where the kernel has no quotactl(2), and by a caller that is about to
 *     release the device anyway ({@linkcode isHeldExclusively}).
 *   - It is never tried while a mount of this process is in flight: then the answer is "held". The try
 *     begins and ends within one turn of the event loop, so that no mount can begin during it.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { isBeingClaimed } from "../kernel/claims.ts";
import { O_EXCL, O_RDONLY, open, readText } from "../kernel/file.ts";
import { mountsOfTypes } from "../kernel/mountinfo.ts";
import { hasSuperblock } from "../kernel/quotactl.ts";
import { fileStatus } from "../kernel/stat.ts";
import { boundPartitions, sysfsPartitions } from "../kernel/sysfs.ts";
import type { Holder } from "./holder.ts";
import { ASKED_TYPES, type Held, kernelHolders } from "./kernel_holders.ts";

/** "unknown": this process may not look, or cannot at the moment (EMFILE). That does not mean "free". */
export type Hold = "held" | "free" | "unknown";

/**
 * Whether a file system, swap or another device has the device; of a disk, also one of its partitions.
 * Takes nothing, and so disturbs nobody. `isBound`: a file is bound to it if it is a loop device, since this
 * process has had it open since then.
 */
export async function holdOf(path: string, isBound = false): Promise<Hold> {
  try {
    const held = devicesAt(path, isBound);
    const nodes = [path, ...[...held.values()].slice(1).map((name) => `/dev/${name}`)];
    // Another thread asks while this one reads of the others.
    const asked = askEach(nodes);
    const known = await kernelHolders(held, () => mountsOfTypes(ASKED_TYPES));
    const holds = await holdsOf(nodes, known, asked);
    const found = [...holds.values()];
    return (["held", "unknown"] as const).find((hold) => found.includes(hold)) ?? "free";
  } catch (error) {
    return holdByError(error);
  }
}

type Asked = ReadonlyMap<string, ReturnType<typeof hasSuperblock>>;

function askEach(nodes: readonly string[]): Asked {
  const asked = new Map(nodes.map((node) => [node, hasSuperblock(node)]));
  // Nobody may wait for one of them.
  for (const answer of asked.values()) answer.catch(() => {});
  return asked;
}

/** The same of each node by itself. `known`: the kernel's holders that are no file systems. */
export async function holdsOf(
  nodes: readonly string[],
  known: readonly Holder[],
  asked: Asked = new Map(),
): Promise<Map<string, Hold>> {
  return new Map(
    await Promise.all(nodes.map(async (node): Promise<[string, Hold]> => {
      if (known.some(({ path }) => path === node) || isBeingClaimed(node)) return [node, "held"];
      const isMounted = await (asked.get(node) ?? hasSuperblock(node));
      return [node, isMounted ? "held" : isMounted === false ? "free" : tryTaking(node)];
    })),
  );
}

/**
 * Whether anybody, programs with O_EXCL included, holds the disk or a partition of it exclusively. Takes
 * the device for a moment to find out. True also where that cannot be known.
 */
export function isHeldExclusively(path: string): boolean {
  return tryTaking(path) !== "free";
}

function tryTaking(path: string): Hold {
  if (isBeingClaimed(path)) return "held";
  try {
    open(path, O_RDONLY | O_EXCL).close();
    return "free";
  } catch (error) {
    return holdByError(error);
  }
}

function holdByError(error: unknown): Hold {
  if (isRefusal(error, "EBUSY")) return "held";
  // A node without a device, which nobody can hold.
  if (isRefusal(error, "ENXIO", "ENODEV")) return "free";
  if (isRefusal(error)) return "unknown";
  throw error;
}

/** The device at `path` and its partitions: names by device number. */
export function devicesAt(path: string, isBound = false): Held {
  const { rdev } = fileStatus(path);
  const [, name] = /^DEVNAME=(.+)$/m.exec(readText(`/sys/dev/block/${rdev}/uevent`))!;
  const number = /^loop(\d+)$/.exec(name)?.[1];
  // Without partitions, the folder of one that is bound is not listed.
  const partitionsOf = isBound ? boundPartitions : sysfsPartitions;
  const partitions = number === undefined ? [] : partitionsOf(Number(number));
  return new Map([[rdev, name], ...partitions.map(({ dev, name }) => [dev, name] as const)]);
}
