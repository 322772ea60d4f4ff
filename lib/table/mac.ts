/**
 * Apple's partition map, as the kernel's block/partitions/mac.c reads it: a driver descriptor in the first
 * block, then a block for each partition.
 *
 * @module
 */
import type { TablePartition } from "./disk.ts";
import type { Found } from "./labels.ts";
import { type Mark, MOST_PARTITIONS, partition, readSector, SECTOR, textAt } from "./sectors.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

const MAC_DRIVER_MAGIC = 0x4552;
export const MAC_MARKS: readonly Mark[] = [[0, 16, MAC_DRIVER_MAGIC]];
const MAC_PARTITION_MAGIC = 0x504d;
/** sizeof(struct mac_partition) */
const MAC_PARTITION_SIZE = 136;

/** The first partition is the map itself. */
export function* readMac(disk: SteppedDisk): Steps<Found> {
  const descriptor = yield* readSector(disk, 0);
  if (descriptor?.getUint16(0) !== MAC_DRIVER_MAGIC) return undefined;
  const block = descriptor.getUint16(2);
  if (block % SECTOR + MAC_PARTITION_SIZE > block - block % SECTOR) return undefined;
  const first = yield* readEntry(disk, block);
  if (!first) return undefined;
  // The kernel's number is signed.
  const count = first.getInt32(4);
  if (count < 0 || count > MOST_PARTITIONS) return undefined;

  const unit = Math.floor(block / SECTOR);
  const partitions: TablePartition[] = [];
  for (let number = 1; number <= count; number++) {
    const entry = yield* readEntry(disk, number * block);
    if (!entry) break;
    // The kernel multiplies in 32 bits.
    const sectors = (at: number) => Math.imul(entry.getUint32(at), unit) >>> 0;
    const [name, type] = [textAt(entry, 16, 32), textAt(entry, 48, 32)];
    partitions.push(
      ...partition(number, { start: sectors(8), size: sectors(12) }, { type, name }),
    );
  }
  return partitions;
}

/** The entry at byte `at` of the disk; undefined if there is none. */
function* readEntry(disk: SteppedDisk, at: number): Steps<DataView | undefined> {
  const bytes = yield* disk.read(at, MAC_PARTITION_SIZE);
  if (bytes.length < MAC_PARTITION_SIZE) return undefined;
  const entry = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return entry.getUint16(0) === MAC_PARTITION_MAGIC ? entry : undefined;
}
