/**
 * Removing the kernel's partitions of a loop device; where others may use them, all or none.
 *
 * BLKPG_DEL_PARTITION takes a number, so each removal first checks that the number is still the partition
 * that was meant.
 *
 * @module
 */
import { blkpgAddPartition, blkpgDelPartition, type Extent } from "../kernel/block.ts";
import { isRefusal, laterToExplain, LoopError, withMore } from "../base/errors.ts";
import { ifExists, O_EXCL, O_RDONLY, open, type OpenFile } from "../kernel/file.ts";
import { describeHolders, findHolders } from "../holders/holders.ts";
import { retry, type RetryPolicy } from "../base/retry.ts";
import { fileStatus } from "../kernel/stat.ts";
import {
  sysfsBackingFile,
  sysfsDev,
  sysfsIsBare,
  type SysfsPartition,
  sysfsPartitions,
  sysfsPartitionStart,
} from "../kernel/sysfs.ts";

/** udev opens a new partition to probe it; BLKPG_DEL_PARTITION is EBUSY meanwhile. */
const WHILE_PROBED: RetryPolicy = { codes: ["EBUSY"], tries: 64, longestPause: 50 };

/** Whether two are the same partition: its number, and where it begins. It may have grown or shrunk. */
export function isSamePartition(
  a: Pick<Extent, "number" | "start">,
  b: Pick<Extent, "number" | "start">,
): boolean {
  return a.number === b.number && a.start === b.start;
}

/** A partition to remove: which one, and where it must still begin. */
type Removable = Pick<Extent, "number" | "start">;

/**
 * Removes partitions; one that is gone already is no error. Waits while udev probes them. Tries all of
 * them, and throws the first error in the end, with the names of those that are left.
 */
export async function removePartitions(
  device: OpenFile,
  number: number,
  partitions: readonly Removable[],
): Promise<void> {
  const { left, error } = await tryRemoving(device, number, partitions);
  if (left.length > 0) throw withLeft(error, number, left);
}

/** Undoes what came before `error`, and gives that error, with the names of those that are left. */
export async function removeAfter(
  error: unknown,
  device: OpenFile,
  number: number,
  partitions: readonly Removable[],
): Promise<unknown> {
  const { left } = await tryRemoving(device, number, partitions);
  return withLeft(error, number, left);
}

async function tryRemoving(
  device: OpenFile,
  number: number,
  partitions: readonly Removable[],
): Promise<{ left: readonly Removable[]; error?: unknown }> {
  const ended = await Promise.allSettled(partitions.map((one) => remove(device, number, one)));
  const left = partitions.filter((_, i) => ended[i].status === "rejected");
  const failed = ended.find((end) => end.status === "rejected");
  return { left, error: failed?.reason };
}

/** The error after which partitions of ours can be left on the device, even when it is free. */
export function withLeft(error: unknown, number: number, left: readonly Removable[]): unknown {
  if (left.length === 0) return error;
  const disk = `/dev/loop${number}`;
  const names = left.map((one) => `${disk}p${one.number}`).join(", ");
  const commands = left.map((one) => `delpart ${disk} ${one.number}`).join("; ");
  return withMore(error, `${names} may be left: ${commands}, or the next attach, removes it`);
}

async function remove(
  device: OpenFile,
  number: number,
  partition: Removable,
): Promise<void> {
  await retry(WHILE_PROBED, () => {
    if (sysfsPartitionStart(number, partition.number) !== partition.start) return;
    ifExists(() => blkpgDelPartition(device, partition.number));
  });
}

/**
 * Removes partitions of a device that others may use, all or none. Only a refused removal tells that a
 * partition is open, so:
 *
 * 1. Each is opened with O_EXCL, which fails for one that is mounted or below another device, and the
 *    processes in sight are asked which have one open. No partition was touched by then.
 * 2. Each claim is kept until its partition is removed, so that nobody can mount one meanwhile.
 * 3. If the kernel refuses a removal all the same, for a process out of sight (another container's), those
 *    that were removed before are added again as they were.
 */
export async function removeTogether(
  device: OpenFile,
  number: number,
  partitions: readonly SysfsPartition[],
): Promise<void> {
  if (partitions.length === 0) return;
  // A single one needs no look: the kernel's refusal leaves nothing half done.
  if (partitions.length > 1) await refuseUsed(device, number, partitions);
  const claims = await orExplain(device, number, partitions, () => claimAll(partitions));
  const removed: SysfsPartition[] = [];
  try {
    for (const partition of partitions) {
      claims.get(partition)?.close();
      await remove(device, number, partition);
      removed.push(partition);
    }
  } catch (error) {
    const lost = removed.filter((partition) => !addAgain(device, partition));
    const first = await explain(error, device, number, partitions, lost.length === 0);
    throw withLost(first, lost);
  } finally {
    for (const claim of claims.values()) claim.close();
  }
}

/**
 * Throws EBUSY if one of them stays in use, as far as this process may see. Waits for those who have one
 * open for a moment.
 */
export async function refuseUsed(
  device: OpenFile,
  number: number,
  partitions: readonly SysfsPartition[],
): Promise<void> {
  if (partitions.length === 0) return;
  await orExplain(device, number, partitions, async () => {
    for (const claim of claimAll(partitions).values()) claim.close();
    const users = await usersOf(number, partitions);
    if (users !== "") throw inUse(device, users);
  });
}

async function orExplain<T>(
  device: OpenFile,
  number: number,
  partitions: readonly SysfsPartition[],
  attempt: () => T | Promise<T>,
): Promise<T> {
  try {
    return await retry(WHILE_PROBED, attempt);
  } catch (error) {
    throw await explain(error, device, number, partitions);
  }
}

/** Opens them with O_EXCL, as far as their nodes are there; EBUSY if one has an exclusive owner. */
function claimAll(partitions: readonly SysfsPartition[]): Map<SysfsPartition, OpenFile> {
  const claims = new Map<SysfsPartition, OpenFile>();
  try {
    for (const partition of partitions) {
      const claim = claimNode(`/dev/${partition.name}`, partition.dev);
      if (claim) claims.set(partition, claim);
    }
    return claims;
  } catch (error) {
    for (const claim of claims.values()) claim.close();
    throw error;
  }
}

/** Undefined if there is no node, or a node of another device, which a static /dev can have. */
function claimNode(path: string, dev: string): OpenFile | undefined {
  if (ifExists(() => fileStatus(path))?.rdev !== dev) return undefined;
  using opened = new DisposableStack();
  const claim = ifExists(() => opened.use(open(path, O_RDONLY | O_EXCL)));
  if (!claim || fileStatus(claim).rdev !== dev) return undefined;
  opened.move();
  return claim;
}

/** As a message names them: "/dev/loop4p1: mount /mnt". Empty if no user is in sight. */
async function usersOf(number: number, partitions: readonly SysfsPartition[]): Promise<string> {
  const nodes = new Set(partitions.map(({ name }) => `/dev/${name}`));
  return describeHolders((await findHolders(number)).filter(({ path }) => nodes.has(path)));
}

function inUse({ path }: OpenFile, users: string, isUndone = true): LoopError {
  const hint = `${users}: unmount it first, or have it closed` +
    (isUndone ? "; no partition was removed" : "");
  const request = "BLKPG_DEL_PARTITION";
  return new LoopError({ code: "EBUSY", syscall: "ioctl", request, path, hint });
}

/** EBUSY with the names of those who use the partitions; any other error as it is. */
async function explain(
  error: unknown,
  device: OpenFile,
  number: number,
  partitions: readonly SysfsPartition[],
  isUndone = true,
): Promise<unknown> {
  if (!isOfUse(error)) return error;
  const names = partitions.map(({ name }) => `/dev/${name}`).join(", ");
  const users = await laterToExplain(() => usersOf(number, partitions));
  return inUse(device, users || `${names}: used out of sight`, isUndone);
}

/** Whether it says that a partition is in use: by a refused removal, or a refused claim. */
const isOfUse = (error: unknown): boolean =>
  isRefusal(error, "EBUSY") &&
  (error.request === "BLKPG_DEL_PARTITION" || error.path.startsWith("/dev/"));

/**
 * Whether something is there again. Another program may have added something there since: its partition
 * stays.
 */
function addAgain(device: OpenFile, partition: SysfsPartition): boolean {
  try {
    blkpgAddPartition(device, partition);
    return true;
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return error.code === "EBUSY";
  }
}

/** The error of a removal after which these could not be added again. */
function withLost(error: unknown, lost: readonly SysfsPartition[]): unknown {
  if (lost.length === 0) return error;
  const commands = lost.map(({ name, number, start, size }) => {
    const disk = `/dev/${name.slice(0, -`p${number}`.length)}`;
    return `addpart ${disk} ${number} ${start / 512} ${size / 512}`;
  });
  return withMore(
    error,
    "removed before, and not to be added again: " +
      `${lost.map(({ name }) => `/dev/${name}`).join(", ")} (${commands.join("; ")})`,
  );
}

/**
 * Removes partitions that an earlier user left on free device `number`. Those added with BLKPG while
 * LO_FLAGS_PARTSCAN was clear outlive a detach: on kernels with PARTSCAN_RACE until the next open,
 * between 267ec4d7223a and c4f4c0fc551c for good, and they would show on our file. Nobody can bind the
 * device while we have it open with O_EXCL (EBUSY, 33ec3e53e7b1), so that no partition of a later use is
 * removed.
 */
export function removeStalePartitions(path: string, number: number): void {
  if (sysfsIsBare(number) || sysfsPartitions(number).length === 0) return;
  // Another process has bound it since it was free: an O_EXCL of ours would refuse that one's mount.
  if (sysfsBackingFile(number) !== undefined) return;
  using held = open(path, O_RDONLY | O_EXCL);
  if (fileStatus(held).rdev !== sysfsDev(number)) return;
  if (sysfsBackingFile(number) !== undefined) return;
  for (const { number: stale } of sysfsPartitions(number)) {
    ifExists(() => blkpgDelPartition(held, stale));
  }
}
