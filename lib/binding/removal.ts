/**
 * Removing the kernel's partitions of a loop device; where others may use them, all or none.
 *
 * BLKPG_DEL_PARTITION takes a number, so each removal first checks that the number is still the partition
 * that was meant.
 *
 * @module
 */
import { blkpgAddPartition, blkpgDelPartition, type Extent } from "../kernel/block.ts";
import { isRefusal, LoopError } from "../base/errors.ts";
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

/**
 * Removes partitions; one that is gone already is no error. Waits while udev probes them. Tries all of
 * them, and throws the first error in the end.
 */
export async function removePartitions(
  device: OpenFile,
  number: number,
  partitions: readonly Pick<Extent, "number" | "start">[],
): Promise<void> {
  if (partitions.length === 0) return;
  const removed = await Promise.allSettled(partitions.map((one) => remove(device, number, one)));
  const failed = removed.find(({ status }) => status === "rejected");
  if (failed) throw (failed as PromiseRejectedResult).reason;
}

async function remove(
  device: OpenFile,
  number: number,
  partition: Pick<Extent, "number" | "start">,
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
    for (const partition of removed) addAgain(device, partition);
    throw await explain(error, device, number, partitions);
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

function inUse({ path }: OpenFile, users: string): LoopError {
  const hint = `${users}: unmount it first, or have it closed; no partition was removed`;
  const request = "BLKPG_DEL_PARTITION";
  return new LoopError({ code: "EBUSY", syscall: "ioctl", request, path, hint });
}

/** EBUSY with the names of those who use the partitions; any other error as it is. */
async function explain(
  error: unknown,
  device: OpenFile,
  number: number,
  partitions: readonly SysfsPartition[],
): Promise<unknown> {
  if (!isRefusal(error, "EBUSY")) return error;
  const names = partitions.map(({ name }) => `/dev/${name}`).join(", ");
  return inUse(device, await usersOf(number, partitions) || `${names}: used out of sight`);
}

/** Another program may have added something there since: its partition stays. */
function addAgain(device: OpenFile, partition: SysfsPartition): void {
  try {
    blkpgAddPartition(device, partition);
  } catch (error) {
    if (!isRefusal(error, "EBUSY")) throw error;
  }
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
  using held = open(path, O_RDONLY | O_EXCL);
  if (fileStatus(held).rdev !== sysfsDev(number)) return;
  if (sysfsBackingFile(number) !== undefined) return;
  for (const { number: stale } of sysfsPartitions(number)) {
    ifExists(() => blkpgDelPartition(held, stale));
  }
}
