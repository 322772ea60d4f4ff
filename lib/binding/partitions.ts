/**
 * What the table says ↔ what the kernel has ↔ which nodes exist, and bringing the three together.
 *
 * A scan's result is swallowed by the kernel: it can fail, or there can be no parser built in, and
 * the ioctl returns 0 all the same. So sysfs is compared with the table, what is missing is added
 * with BLKPG, and a partition counts only once its node is there and is the right device.
 *
 * @module
 */
import { blkFlsBuf, blkpgAddPartition, blkpgResizePartition, blkSszGet } from "../kernel/block.ts";
import type { Extent } from "../kernel/block.ts";
import { isRefusal, LoopError } from "../base/errors.ts";
import type { OpenFile } from "../kernel/file.ts";
import { isComplete, readTable, refuseUnreadable } from "./image_table.ts";
import type { DevNodes } from "./nodes.ts";
import type { TablePartition, Truncation } from "../table/disk.ts";
import { SECTOR_SIZES } from "../table/sectors.ts";
import { poll } from "../base/retry.ts";
import { isSamePartition, removePartitions, removeTogether } from "./removal.ts";
import { boundPartitions, type SysfsPartition, sysfsStillHas } from "../kernel/sysfs.ts";

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
  /** PARTUUID, as in /dev/disk/by-partuuid; an MBR whose identifier is 0 gives none. */
  readonly uuid?: string;
  /** GPT partition name; may be empty, and is whatever a stranger wrote there. */
  readonly name?: string;
  /** Which attribute bits are set; GPT: 60 read-only, MBR: 7 active. See {@linkcode TablePartition}. */
  readonly attributes?: readonly number[];
  /** Only of a partition that is cut at the device's end, since the table lets it end beyond. */
  readonly truncated?: Truncation;
}

/**
 * A partition of the table that the kernel does not have, and why; bytes.
 *
 * @example
 * ```ts
 * import { attach, type SkippedPartition } from "@loopdev/loopdev";
 * const attachAlone = (file: string, { offset, sizelimit }: SkippedPartition) =>
 *   attach(file, { offset, sizelimit });
 * ```
 */
export interface SkippedPartition extends TablePartition {
  /** In words: "it overlaps partition 1". */
  readonly reason: string;
  /** Where it begins in the backing file, for {@linkcode attach}: it makes a device of it alone. */
  readonly offset: number;
  /** Its size, for the same. */
  readonly sizelimit: number;
}

/** A partition that was skipped, before it is known where the device begins in its file. */
export type Skipped = Omit<SkippedPartition, "offset" | "sizelimit">;

/** Partitions that are ready, which of them exist only because we added them, and what cannot be. */
export interface ReadyPartitions {
  readonly partitions: Partition[];
  readonly added: readonly Extent[];
  readonly skipped: readonly Skipped[];
}

/** A bound device whose partitions shall be ready. */
export interface PartitionedDevice {
  readonly device: OpenFile;
  readonly number: number;
  readonly nodes: DevNodes;
}

/**
 * Resolves when the kernel has every partition of the table that it can have, and every partition's
 * node is there. On failure, what was added is removed again.
 */
export async function readyPartitions(
  bound: PartitionedDevice,
  table: readonly TablePartition[],
  timeout: number,
  signal?: AbortSignal,
): Promise<ReadyPartitions> {
  return await waitUntilReady(bound, table, await possiblePartitions(bound), timeout, signal);
}

async function waitUntilReady(
  bound: PartitionedDevice,
  table: readonly TablePartition[],
  first: SysfsPartition[],
  timeout: number,
  signal?: AbortSignal,
): Promise<ReadyPartitions> {
  const { device, number, nodes } = bound;
  const added: Extent[] = [];
  try {
    let seen: SysfsPartition[] | undefined = first;
    let missing: string[] = [];
    const ready = await poll(
      () => {
        let present = seen ?? boundPartitions(number);
        seen = undefined;
        const lacking = inOrder(lackingIn(present, table));
        const skipped = lacking.flatMap((wanted) => addPartition(bound, wanted, added) ?? []);
        if (lacking.length > 0) present = boundPartitions(number);
        missing = lackingIn(present, table)
          .filter((wanted) => !skipped.some((other) => isSamePartition(other, wanted)))
          .map((wanted) => `partition ${wanted.number}: the kernel does not show it`)
          .concat(present.flatMap(({ name, dev }) => nodes.problem(`/dev/${name}`, dev) ?? []));
        if (missing.length > 0) return undefined;
        // Another program's BLKRRPART or BLKPG may have dropped them while we looked at the nodes.
        if (sysfsStillHas(number, present)) {
          return { partitions: present.map((p) => describe(p, table)), added, skipped };
        }
        missing = ["another program drops partitions again and again"];
      },
      timeout,
      signal,
    );
    if (ready) return ready;
    throw new LoopError({
      code: "ETIMEDOUT",
      syscall: "attach",
      path: device.path,
      hint: `after ${timeout} ms still missing: ${missing.join("; ")}`,
    });
  } catch (error) {
    await removePartitions(bound, added).catch(() => {});
    throw error;
  }
}

/**
 * Brings the kernel in line with the table, partition by partition, and waits as readyPartitions()
 * does. What has not changed is never touched. What the kernel has and the table has not goes if the table
 * accounts for it, or if it `isKnown`: an earlier table had it. The rest may be of a table that only the
 * kernel can read, or somebody's own, and stays. `before`: what the handle had until then.
 */
export async function rescanPartitions(
  bound: PartitionedDevice,
  before: ReadyPartitions,
  isKnown: (partition: SysfsPartition) => boolean,
  timeout: number,
  signal?: AbortSignal,
): Promise<ReadyPartitions> {
  const { device, number, nodes } = bound;
  // A table that was written to the backing file, not through the device, is not in its page cache.
  await blkFlsBuf(device);
  const sectorSize = blkSszGet(device);
  const found = await readTable(device, sectorSize, signal);
  // Nothing may be removed because whoever bound the device chose a sector size that is not the GPT's.
  refuseUnreadable(found, { path: device.path, sectorSize, call: "rescan" });
  const table = found.partitions;
  const present = boundPartitions(number);
  const gone = present.filter((partition) =>
    !wantedIn(table, partition) && (isComplete(found) || isKnown(partition))
  );
  await removeTogether(bound, gone);
  nodes.remove(gone.map(({ name }) => `/dev/${name}`));
  const kept = present.filter((partition) => !gone.includes(partition));
  const tooLarge = resize(device, kept, table);
  const ready = await waitUntilReady(bound, table, boundPartitions(number), timeout, signal);
  const isThere = (one: Extent) => ready.partitions.some((other) => isSamePartition(other, one));
  const added = [...before.added, ...ready.added].filter(isThere);
  return { ...ready, added, skipped: [...ready.skipped, ...tooLarge] };
}

/** Whether a partition is one that a table had when it was last read, or one that we added. */
export function isKnownBy(
  { partitions, added }: ReadyPartitions,
): (partition: SysfsPartition) => boolean {
  const known = [...partitions.filter(({ attributes }) => attributes !== undefined), ...added];
  return (partition) => known.some((one) => isSamePartition(one, partition));
}

/** Without the partitions that the kernel has no more. */
export function stillThere({ number }: PartitionedDevice, ready: ReadyPartitions): ReadyPartitions {
  const present = boundPartitions(number);
  const isThere = (one: Extent) => present.some((other) => isSamePartition(other, one));
  const { partitions, added, skipped } = ready;
  return { partitions: partitions.filter(isThere), added: added.filter(isThere), skipped };
}

function wantedIn(
  table: readonly TablePartition[],
  partition: SysfsPartition,
): TablePartition | undefined {
  return table.find((entry) => isSamePartition(entry, partition));
}

/** Gives those that cannot grow, because the table has another partition there. */
function resize(
  device: OpenFile,
  present: readonly SysfsPartition[],
  table: readonly TablePartition[],
): Skipped[] {
  const resized = present.flatMap((partition) => {
    const entry = wantedIn(table, partition);
    return entry && entry.size !== partition.size
      ? [{ entry, by: entry.size - partition.size }]
      : [];
  });
  // What shrinks makes room for what grows.
  return resized.sort((a, b) => a.by - b.by).flatMap(({ entry }) => {
    try {
      blkpgResizePartition(device, entry);
      return [];
    } catch (error) {
      const other = present.find((other) => other.number !== entry.number && overlap(other, entry));
      if (!isRefusal(error, "EBUSY") || !other) throw error;
      return [{ ...entry, reason: `it cannot grow: partition ${other.number} is in its way` }];
    }
  });
}

/**
 * The kernel takes a GPT entry whose last sector lies before its first for one of almost 2^64
 * sectors (block/partitions/efi.c checks only that the last lies on the disk). No table means that,
 * so it is removed; the others are given.
 */
async function possiblePartitions(bound: PartitionedDevice): Promise<SysfsPartition[]> {
  const present = boundPartitions(bound.number);
  const impossible = present.filter(({ size }) => !Number.isSafeInteger(size));
  await removePartitions(bound, impossible);
  return present.filter((partition) => !impossible.includes(partition));
}

function lackingIn(present: SysfsPartition[], table: readonly TablePartition[]): TablePartition[] {
  return table.filter((entry) => !present.some((partition) => isSamePartition(partition, entry)));
}

const EXTENDED = ["0x5", "0xf", "0x85"];
/** Of an extended partition the kernel shows that, or a sector where that is larger. */
const EXTENDED_BYTES = 1024;

/**
 * In the table's order, but extended partitions last. The kernel shows the first bytes of one, of no use
 * to anybody but a boot loader, and genimage puts the first logical partition into them.
 */
function inOrder(table: readonly TablePartition[]): TablePartition[] {
  const isExtended = ({ type, size }: TablePartition) =>
    EXTENDED.includes(type ?? "") && size <= Math.max(EXTENDED_BYTES, ...SECTOR_SIZES);
  return [...table.filter((entry) => !isExtended(entry)), ...table.filter(isExtended)];
}

/**
 * Adds what is in the table and not present; called in that order, so that of two that overlap the first
 * is there. The kernel's own parsers accept partitions that overlap, or begin or end
 * within a sector, BLKPG does not: gives the partition if it is one of these.
 */
function addPartition(
  { device, number }: PartitionedDevice,
  wanted: TablePartition,
  added: Extent[],
): Skipped | undefined {
  try {
    blkpgAddPartition(device, wanted);
    added.push(wanted);
    return undefined;
  } catch (error) {
    // Most tables count in sectors of 512 bytes, whatever the disk's are.
    if (isRefusal(error, "EINVAL")) {
      const sectorSize = blkSszGet(device);
      if (wanted.start % sectorSize === 0 && wanted.size % sectorSize === 0) throw error;
      return { ...wanted, reason: `it begins or ends within a sector of ${sectorSize} bytes` };
    }
    if (!isRefusal(error, "EBUSY")) throw error;
    // Somebody's scan may have been faster: then it shows in sysfs, now or at the next look.
    const present = boundPartitions(number);
    if (present.some((other) => isSamePartition(other, wanted))) return undefined;
    const taken = present.find((other) => other.number === wanted.number);
    const reason = taken && `its number belongs to a partition at ${taken.start}, which stays`;
    const other = present.find((other) => overlap(other, wanted));
    const overlaps = other && `it overlaps partition ${other.number}`;
    if (!reason && !overlaps) return undefined;
    return { ...wanted, reason: reason ?? overlaps! };
  }
}

function overlap(a: { start: number; size: number }, b: { start: number; size: number }): boolean {
  return a.start < b.start + b.size && b.start < a.start + a.size;
}

/** The kernel's word on number, start and size; the table's on type, uuid and name. */
export function describe(
  { name, number, start, size }: SysfsPartition,
  table: readonly TablePartition[],
): Partition {
  const entry = table.find((entry) => isSamePartition(entry, { number, start }));
  const { truncated, ...rest } = entry ?? {};
  const partition = { ...rest, number, path: `/dev/${name}`, start, size };
  if (!truncated || size >= truncated.from) return partition;
  return { ...partition, truncated: { from: truncated.from, to: size } };
}
