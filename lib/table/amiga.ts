/**
 * The Amiga's Rigid Disk Block, as the kernel's block/partitions/amiga.c reads it: a block in one of the
 * first 16 sectors, which leads to a chain of blocks, one for each partition.
 *
 * @module
 */
import type { TablePartition } from "./disk.ts";
import type { Found } from "./labels.ts";
import {
  type Extent,
  hexType,
  type Mark,
  partition,
  readSector,
  SECTOR,
  textAt,
} from "./sectors.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

const RDB_ALLOCATION_LIMIT = 16;
const IDNAME_RIGIDDISK = 0x5244534b;
export const AMIGA_MARKS: readonly Mark[] = Array.from(
  { length: RDB_ALLOCATION_LIMIT },
  (_, sector) => [sector * SECTOR, 32, IDNAME_RIGIDDISK],
);
const IDNAME_PARTITION = 0x50415254;
const MOST_BLOCKS = 16;
const U32 = 2n ** 32n;

/** Offsets in struct PartitionBlock: its name, and fields of pb_Environment. */
const DRIVE_NAME = 36;
const HEADS = 128 + 4 * 3;
const SECTORS = 128 + 4 * 5;
const LOW_CYLINDER = 128 + 4 * 9;
const HIGH_CYLINDER = 128 + 4 * 10;
const DOS_TYPE = 128 + 4 * 16;

/** The partitions, numbered in the order of the chain. */
export function* readAmiga(disk: SteppedDisk): Steps<Found> {
  const rdb = yield* findRigidDiskBlock(disk);
  if (!rdb) return undefined;
  const blockSectors = Math.floor(rdb.getUint32(16) / 512);
  const partitions: TablePartition[] = [];
  let next = rdb.getInt32(28);
  let number = 1;
  for (let blocks = 1; next > 0 && blocks <= MOST_BLOCKS; blocks++) {
    const block = yield* readSector(disk, next * blockSectors);
    // The kernel then drops the partitions before it, too.
    if (!block) return [];
    next = block.getInt32(16);
    if (block.getUint32(0) !== IDNAME_PARTITION || !isSumRight(block)) continue;
    const extent = extentOf(block, blockSectors);
    if (!extent) continue;
    const type = hexType(block.getUint32(DOS_TYPE));
    const name = textAt(block, DRIVE_NAME + 1, Math.min(block.getUint8(DRIVE_NAME), 31));
    partitions.push(...partition(number++, extent, { type, name }));
  }
  return partitions;
}

function* findRigidDiskBlock(disk: SteppedDisk): Steps<DataView | undefined> {
  for (let n = 0; n < RDB_ALLOCATION_LIMIT; n++) {
    const block = yield* readSector(disk, n);
    if (!block) return undefined;
    if (block.getUint32(0) !== IDNAME_RIGIDDISK) continue;
    if (isSumRight(block)) return block;
    // Windows writes a disk signature over these four bytes.
    const repaired = new DataView(
      new Uint8Array(block.buffer, block.byteOffset, SECTOR).slice().buffer,
    );
    repaired.setUint32(0xdc, 0);
    if (isSumRight(repaired)) return repaired;
  }
  return undefined;
}

/** Whether the sum of the block's 32-bit words is 0; the block says how many they are. */
function isSumRight(block: DataView): boolean {
  let sum = 0;
  for (let i = (block.getUint32(4) & 0x7f) - 1; i >= 0; i--) sum += block.getUint32(4 * i);
  return sum % Number(U32) === 0;
}

/** Computed in the kernel's 32 and 64 bits; undefined where the kernel sees no partition. */
function extentOf(block: DataView, blockSectors: number): Extent | undefined {
  const field = (at: number) => BigInt(block.getUint32(at));
  const cylinder = field(HEADS) * field(SECTORS);
  if (cylinder >= U32 || cylinder * BigInt(blockSectors) >= U32) return undefined;
  const sectors = cylinder * BigInt(blockSectors);
  const [low, high] = [field(LOW_CYLINDER), field(HIGH_CYLINDER)];
  if (high < low || sectors === 0n) return undefined;
  return { start: Number(low * sectors), size: Number((high - low + 1n) * sectors) };
}
