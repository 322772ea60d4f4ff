/**
 * Letting go of a loop device, and whether the kernel has.
 *
 * @module
 */
import { isRefusal } from "./base/errors.ts";
import type { LoopFacts } from "./facts.ts";
import { ifExists, O_EXCL, O_RDONLY, open, type OpenFile } from "./kernel/file.ts";
import { describeHolders, heldBy, type Holder } from "./holders.ts";
import { loopClrFd } from "./kernel/loop.ts";
import { type PartitionedDevice, removePartitions, removeStalePartitions } from "./partitions.ts";
import { poll } from "./base/retry.ts";
import { sysfsBackingFile, sysfsDiskseq, sysfsIsBare, sysfsPartitions } from "./kernel/sysfs.ts";
import { closeFlushed } from "./kernel/waiting.ts";

/** Others (udev above all) open a device for moments at a time; longer than this, they hold it. */
const PASSING_OPENERS_MS = 1000;
/** udevd is done with it one day, however slow or busy the machine. Nobody else is waited for so long. */
const UDEVD_MS = 10_000;

/** An open device that is to be let go, and what the handle knows of it. */
export interface Parting extends PartitionedDevice {
  readonly facts: LoopFacts;
  /** Partitions that exist only because we added them. */
  readonly added: readonly number[];
  /** Whether we bound it. */
  readonly owned: boolean;
}

/** Closes the device; `"deferred"` if the kernel keeps it bound for others. */
export async function letGo(parting: Parting): Promise<"detached" | "deferred"> {
  const { device, nodes, facts, added, owned } = parting;
  try {
    // Removing one partition of a device that stays in use would only break it for its users.
    if (added.length > 0 && !isHeldExclusively(device.path)) {
      await removePartitions(device, added).catch((error) => {
        // Held after all: closing defers, as it would without our partitions.
        if (!isRefusal(error, "EBUSY")) throw error;
      });
    }
    // Ours goes with its last descriptor (LO_FLAGS_AUTOCLEAR); another's must be told to.
    if (!owned) await clear(device);
  } finally {
    // Before the close: from then on the number, and so a node of that name, may be another's.
    nodes.remove();
    await closeFlushed(device, facts.size);
  }
  const isGone = () => isDetached(facts, device.path, !owned) || undefined;
  if (isGone()) return "detached";
  if (isHeldExclusively(device.path)) return "deferred";
  for (let waited = 0, unseen = 0; waited < UDEVD_MS; waited += PASSING_OPENERS_MS) {
    if (await poll(isGone, PASSING_OPENERS_MS)) return "detached";
    const who = await heldBy(facts.number);
    // Nobody: it was closed just now, or is held where we cannot look (another container).
    if (who === "others" || who === "nobody" && ++unseen > 1) break;
  }
  return isGone() ? "detached" : "deferred";
}

/** Unbinds a device that another process bound; one that is unbound already is no error. */
async function clear(device: OpenFile): Promise<void> {
  try {
    await loopClrFd(device);
  } catch (error) {
    if (!isRefusal(error, "ENXIO")) throw error;
  }
}

/**
 * Whether the disk or a partition of it has an owner: it is mounted, in whatever namespace, or another
 * device lies on it. Who just looks at it does not open it O_EXCL.
 */
function isHeldExclusively(path: string): boolean {
  try {
    ifExists(() => open(path, O_RDONLY | O_EXCL))?.close();
    return false;
  } catch (error) {
    return isRefusal(error, "EBUSY");
  }
}

/** One use of a loop device, from a bind to a detach. */
export type DeviceUse = Pick<LoopFacts, "number" | "diskseq"> & { backingFile: string | undefined };

/**
 * Whether this use of the device is over: it may be free, gone, or somebody else's. `sweep`: unbound
 * with LOOP_CLR_FD, which on older kernels leaves partitions behind that somebody had open just then.
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

/** What nobody asked about must not stay unsaid: the device is still there. */
export function warnDeferred(path: string, holders: readonly Holder[]): void {
  const who = describeHolders(holders) || "out of sight";
  console.warn(
    `loopdev: ${path} is still attached: others hold it (${who}); it detaches ` +
      "when they let go (detach() says so without this warning)",
  );
}
