/**
 * What the table says ↔ what the kernel has ↔ which nodes exist, and bringing the three together.
 *
 * A scan's result is swallowed by the kernel: it can fail, or there can be no parser built in, and
 * the ioctl returns 0 all the same. So sysfs is compared with the table, what is missing is added
 * with BLKPG, and a partition counts only once its node is there and is the right device.
 *
 * @module
 */
import {
  blkFlsBuf,
  blkpgAddPartition,
  blkpgDelPartition,
  blkpgResizePartition,
  blkSszGet,
} from "../kernel/blkpg.ts";
import { isRefusal, LoopError } from "../base/errors.ts";
import { ifExists, O_EXCL, O_RDONLY, open, type OpenFile } from "../kernel/file.ts";
import { readTable, refuseUnreadable } from "./image_table.ts";
import type { NodeKeeper } from "./nodes.ts";
import type { TablePartition } from "../table/disk.ts";
import { poll, retry, type RetryPolicy } from "../base/retry.ts";
import {
  sysfsBackingFile,
  sysfsIsBare,
  type SysfsPartition,
  sysfsPartitions,
  sysfsStillHas,
} from "../kernel/sysfs.ts";

/**
 * A partition of an attached image; bytes throughout.
 *
 * @example
 * ```ts
 * import { type Partition } from "@loopdev/loopdev";
 * const isEsp = ({ type }: Partition) => type === "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
 * ```
 */
export interface Partition {
  /** As in the node's name: 1 for /dev/loop4p1. */
  readonly number: number;
  /** The node, which exists and is this partition. */
  readonly path: string;
  /** Where it begins on the loop device, in bytes. */
  readonly start: number;
  /** Bytes. */
  readonly size: number;
  /** GPT: type GUID in lower case. MBR: system id, "0x83". Absent if the table is of another kind. */
  readonly type?: string;
  /** What sfdisk calls the type, if it is well known: "Linux filesystem". */
  readonly typeName?: string;
  /** PARTUUID, as in /dev/disk/by-partuuid. */
  readonly uuid?: string;
  /** GPT partition name; may be empty, and is whatever a stranger wrote there. */
  readonly name?: string;
  /** Which attribute bits are set; GPT: 60 read-only, MBR: 7 active. See {@linkcode TablePartition}. */
  readonly attributes?: readonly number[];
}

/** udev opens a new partition to probe it; that long BLKPG_DEL_PARTITION answers EBUSY. */
const WHILE_PROBED: RetryPolicy = { codes: ["EBUSY"], tries: 64, longestPause: 50 };

/** Partitions that are ready, and which of them exist only because we added them. */
export interface ReadyPartitions {
  readonly partitions: Partition[];
  readonly added: number[];
}

/** A bound device whose partitions shall be ready. */
export interface PartitionedDevice {
  readonly device: OpenFile;
  readonly number: number;
  readonly nodes: NodeKeeper;
}

/**
 * Resolves when the kernel has every partition of the table and every partition's node is there.
 * On failure, what was added is removed again.
 */
export async function readyPartitions(
  { device, number, nodes }: PartitionedDevice,
  table: readonly TablePartition[],
  timeout: number,
  signal?: AbortSignal,
): Promise<ReadyPartitions> {
  const added: number[] = [];
  try {
    let seen: SysfsPartition[] | undefined = await possiblePartitions(device, number);
    let missing: string[] = [];
    const partitions = await poll(
      () => {
        let present = seen ?? sysfsPartitions(number, true);
        seen = undefined;
        if (addMissing(device, number, table, present, added)) {
          present = sysfsPartitions(number, true);
        }
        missing = lackingIn(present, table)
          .map((wanted) => `partition ${wanted.number}: the kernel does not show it`)
          .concat(present.flatMap(({ name, dev }) => nodes.problem(`/dev/${name}`, dev) ?? []));
        if (missing.length > 0) return undefined;
        // Another program's BLKRRPART or BLKPG may have dropped them while we looked at the nodes.
        if (sysfsStillHas(number, present)) return present.map((p) => describe(p, table));
        missing = ["another program drops partitions again and again"];
      },
      timeout,
      signal,
    );
    if (partitions) return { partitions, added };
    throw new LoopError({
      code: "ETIMEDOUT",
      syscall: "attach",
      path: device.path,
      hint: `after ${timeout} ms still missing: ${missing.join("; ")}`,
    });
  } catch (error) {
    await removePartitions(device, added).catch(() => {});
    throw error;
  }
}

/**
 * Brings the kernel in line with the table, partition by partition, and waits as readyPartitions()
 * does. What has not changed is never touched.
 */
export async function rescanPartitions(
  bound: PartitionedDevice,
  timeout: number,
  signal?: AbortSignal,
): Promise<ReadyPartitions> {
  const { device, number, nodes } = bound;
  // A table that was written to the backing file, not through the device, is not in its page cache.
  await blkFlsBuf(device);
  const sectorSize = blkSszGet(device);
  const found = readTable(device, sectorSize);
  // Nothing may be removed because whoever bound the device chose a sector size that is not the GPT's.
  refuseUnreadable(found, { path: device.path, sectorSize, call: "rescan" });
  const table = found.partitions;
  const present = sysfsPartitions(number, true);
  const wanted = (partition: SysfsPartition) =>
    table.find((entry) => entry.number === partition.number && entry.start === partition.start);
  const gone = present.filter((partition) => !wanted(partition));
  await removePartitions(device, gone.map(({ number }) => number));
  nodes.remove(gone.map(({ name }) => `/dev/${name}`));
  // What shrinks makes room for what grows.
  const resized = present.flatMap((partition) => {
    const entry = wanted(partition);
    return entry && entry.size !== partition.size
      ? [{ entry, by: entry.size - partition.size }]
      : [];
  });
  for (const { entry } of resized.sort((a, b) => a.by - b.by)) blkpgResizePartition(device, entry);
  return await readyPartitions(bound, table, timeout, signal);
}

/**
 * The kernel takes a GPT entry whose last sector lies before its first for one of almost 2^64
 * sectors (block/partitions/efi.c checks only that the last lies on the disk). No table means that,
 * so it is removed; the others are given.
 */
async function possiblePartitions(device: OpenFile, number: number): Promise<SysfsPartition[]> {
  const present = sysfsPartitions(number, true);
  const impossible = present.filter(({ size }) => !Number.isSafeInteger(size));
  await removePartitions(device, impossible.map(({ number }) => number));
  return present.filter((partition) => !impossible.includes(partition));
}

function lackingIn(present: SysfsPartition[], table: readonly TablePartition[]): TablePartition[] {
  return table.filter(({ number }) => !present.some((partition) => partition.number === number));
}

/** Adds what is in the table and not present; whether there was any. */
function addMissing(
  device: OpenFile,
  number: number,
  table: readonly TablePartition[],
  present: SysfsPartition[],
  added: number[],
): boolean {
  const lacking = lackingIn(present, table);
  for (const wanted of lacking) {
    try {
      blkpgAddPartition(device, wanted);
      added.push(wanted.number);
    } catch (error) {
      if (!isRefusal(error, "EBUSY")) throw error;
      // Somebody's scan may have been faster: then it shows in sysfs, now or at the next look. An
      // overlap never goes away: the kernel's own parsers accept it, BLKPG does not.
      const other = sysfsPartitions(number, true).find((other) => overlap(other, wanted));
      if (other && other.number !== wanted.number) {
        throw error.withHint(
          `the image's table is wrong: partition ${wanted.number} overlaps partition ${other.number}`,
        );
      }
    }
  }
  return lacking.length > 0;
}

function overlap(a: { start: number; size: number }, b: { start: number; size: number }): boolean {
  return a.start < b.start + b.size && b.start < a.start + a.size;
}

/** The kernel's word on number, start and size; the table's on type, uuid and name. */
export function describe(
  { name, number, start, size }: SysfsPartition,
  table: readonly TablePartition[],
): Partition {
  const entry = table.find((entry) => entry.number === number && entry.start === start);
  return { ...entry, number, path: `/dev/${name}`, start, size };
}

/**
 * Removes partitions by number; one that is gone already is no error. Waits while udev probes them.
 * One that cannot be removed does not save the others; the first error is thrown in the end.
 */
export async function removePartitions(
  device: OpenFile,
  numbers: readonly number[],
): Promise<void> {
  if (numbers.length === 0) return;
  const removed = await Promise.allSettled(
    numbers.map((number) =>
      retry(WHILE_PROBED, () => ifExists(() => blkpgDelPartition(device, number)))
    ),
  );
  const failed = removed.find(({ status }) => status === "rejected");
  if (failed) throw (failed as PromiseRejectedResult).reason;
}

/**
 * Removes partitions that an earlier user left on free device `number`. Those added with BLKPG while
 * LO_FLAGS_PARTSCAN was clear outlive a detach: on kernels with PARTSCAN_RACE until the next open,
 * between 267ec4d7223a and c4f4c0fc551c for good, and they would show on our file. Opened O_EXCL: as
 * long as we hold that, nobody can bind the device (EBUSY, 33ec3e53e7b1), so it is never somebody
 * else's partitions that go.
 */
export function removeStalePartitions(path: string, number: number): void {
  if (sysfsIsBare(number) || sysfsPartitions(number).length === 0) return;
  using held = open(path, O_RDONLY | O_EXCL);
  if (sysfsBackingFile(number) !== undefined) return;
  for (const { number: stale } of sysfsPartitions(number)) {
    ifExists(() => blkpgDelPartition(held, stale));
  }
}
