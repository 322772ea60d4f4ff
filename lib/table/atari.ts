/**
 * The Atari's table (AHDI, with the extensions of ICD and Supra), as the kernel's block/partitions/atari.c
 * reads it.
 *
 * It has no magic number: a disk has one if one of four entries could describe a partition. The kernel
 * accepts any three letters or digits as the type, and so takes one of 200 disks of 1 TiB that begin with
 * random bytes (encrypted ones, for instance) for an Atari's. Here the type must also be a known one.
 *
 * @module
 */
import type { TablePartition } from "./disk.ts";
import type { Found } from "./labels.ts";
import { MOST_PARTITIONS, partition, readSector, SECTOR, textAt } from "./sectors.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

const PRIMARY = 0x1c6;
const ICD = 0x156;
const ENTRY_SIZE = 12;

/** The types that parted knows. */
const TYPES = [
  ...["GEM", "BGM", "XGM", "LNX", "SWP", "RAW"],
  ...["MAC", "MIX", "MNX", "UNX", "F32", "SV4"],
];
/** atari.c, OK_id() */
const ICD_TYPES = ["GEM", "BGM", "LNX", "SWP", "RAW"];

/** struct partition_info */
interface Entry {
  readonly isUsed: boolean;
  readonly type: string;
  readonly start: number;
  readonly size: number;
}

function entriesAt(sector: DataView, begin: number, length: number): Entry[] {
  return Array.from({ length }, (_, i) => {
    const at = begin + ENTRY_SIZE * i;
    return {
      isUsed: (sector.getUint8(at) & 1) === 1,
      // Decoded where it is asked for: of most disks no entry is in use.
      get type() {
        return textAt(sector, at + 1, 3);
      },
      start: sector.getUint32(at + 4),
      size: sector.getUint32(at + 8),
    };
  });
}

/** Whether one of the four entries is in use. */
export function isLikeAtari(marked: DataView): boolean {
  if (marked.byteLength < SECTOR) return false;
  const used = (i: number) => marked.getUint8(PRIMARY + ENTRY_SIZE * i);
  return ((used(0) | used(1) | used(2) | used(3)) & 1) === 1;
}

/** The four primary partitions, with an extended one replaced by those in it, and ICD's from 5 on. */
export function* readAtari(disk: SteppedDisk): Steps<Found> {
  if (disk.sectorSize !== SECTOR) return undefined;
  // In the kernel's 32 bits.
  const sectors = disk.size / SECTOR % 2 ** 32;
  const root = yield* readSector(disk, 0);
  if (!root) return undefined;
  const primary = entriesAt(root, PRIMARY, 4);
  const isValid = ({ isUsed, type, start, size }: Entry) =>
    isUsed && TYPES.includes(type) && start <= sectors && (start + size) % 2 ** 32 <= sectors;
  if (!primary.some(isValid)) return undefined;

  const partitions: TablePartition[] = [];
  let number = 1;
  for (const { isUsed, type, start, size } of primary) {
    if (isUsed && type === "XGM") {
      const chain = yield* readChain(disk, start, number);
      if (!chain) return undefined;
      partitions.push(...chain.partitions);
      number = chain.last;
    } else if (isUsed) partitions.push(...partition(number, { start, size }, { type }));
    number++;
  }
  const icd = entriesAt(root, ICD, 8);
  if (primary.some(({ isUsed, type }) => isUsed && type === "XGM")) return partitions;
  if (!ICD_TYPES.includes(icd[0].type)) return partitions;
  for (const { isUsed, type, start, size } of icd) {
    if (isUsed && ICD_TYPES.includes(type)) {
      partitions.push(...partition(number, { start, size }, { type }));
    }
    number++;
  }
  return partitions;
}

/** Follows the chain of an extended partition; undefined if one of its sectors cannot be read. */
function* readChain(
  disk: SteppedDisk,
  begin: number,
  first: number,
): Steps<{ partitions: TablePartition[]; last: number } | undefined> {
  const partitions: TablePartition[] = [];
  let here = begin;
  for (let number = first;; number++) {
    const sector = yield* readSector(disk, here);
    if (!sector) return undefined;
    const [own, next] = entriesAt(sector, PRIMARY, 2);
    if (!own.isUsed) return { partitions, last: number };
    const extent = { start: here + own.start, size: own.size };
    partitions.push(...partition(number, extent, { type: own.type }));
    if (!next.isUsed || next.type !== "XGM" || number >= MOST_PARTITIONS) {
      return { partitions, last: number };
    }
    here = begin + next.start;
  }
}
