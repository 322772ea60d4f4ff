/**
 * Another backing file below a bound device (LOOP_CHANGE_FD), and its partitions instead of the old
 * file's.
 *
 * With LO_FLAGS_PARTSCAN the kernel scans again by itself, as far as it can read the table and nobody has
 * a partition open. Without, it leaves the old file's partitions where they are, over the new file.
 *
 * @module
 */
import { blkGetSize64 } from "../kernel/block.ts";
import { deviceSize } from "./backing_file.ts";
import type { LoopFacts } from "./facts.ts";
import type { OpenFile } from "../kernel/file.ts";
import { readTableIn, refuseUnreadable } from "./image_table.ts";
import type { PartitionedDevice } from "./partitions.ts";
import { isSamePartition, refuseUsed } from "./removal.ts";
import { fileStatus } from "../kernel/stat.ts";
import type { FoundTable } from "../table/disk.ts";
import { boundPartitions, type SysfsPartition, sysfsPartitionIdentity } from "../kernel/sysfs.ts";

/**
 * To be asked before the change: throws EBUSY if a partition that the new file has not is in use, and what
 * rescan() would throw of the new file's table. Gives what tells the old file's partitions, afterwards,
 * from those that the kernel has found in the new one.
 */
export async function refuseChange(
  bound: PartitionedDevice,
  facts: LoopFacts,
  backing: OpenFile,
): Promise<(partition: SysfsPartition) => boolean> {
  const { number } = bound;
  const old = boundPartitions(number);
  const identities = new Map(old.map(({ name }) => [name, sysfsPartitionIdentity(number, name)]));
  const table = await tableOf(backing, facts);
  const isInNew = (partition: SysfsPartition) =>
    table?.partitions.some((entry) => isSamePartition(entry, partition));
  if (table) await refuseUsed(bound, old.filter((partition) => !isInNew(partition)));
  return ({ name }) => {
    const identity = identities.get(name);
    return identity !== undefined && identity === sysfsPartitionIdentity(number, name);
  };
}

/** Undefined if the kernel will refuse the file, for a reason of its own. */
async function tableOf(
  backing: OpenFile,
  { size, sectorSize, offset, sizelimit, readOnly }: LoopFacts,
): Promise<FoundTable | undefined> {
  const { type, size: fileSize } = fileStatus(backing);
  if (!readOnly || type !== "file" && type !== "block device") return undefined;
  const whole = type === "file" ? fileSize : blkGetSize64(backing);
  if (deviceSize(whole, { offset, sizelimit }) !== size) return undefined;
  const table = await readTableIn(backing, { size, sectorSize, offset });
  refuseUnreadable(table, {
    path: backing.path,
    sectorSize,
    call: "attach",
    part: { file: backing, offset, sizelimit },
  });
  return table;
}
