/**
 * Where our parser reads a partition table differently from the kernel's on purpose. Each difference
 * says what one of the two lists would be without it; any other difference is a bug.
 */
import { type Disk, readPartitionTable } from "../../tests/cases/read_table.ts";

/** A partition; bytes. The kernel's sizes can be beyond what a number holds. */
export interface Extent {
  readonly number: number;
  readonly start: bigint;
  readonly size: bigint;
}

export interface Views {
  readonly ours: readonly Extent[];
  readonly kernel: readonly Extent[];
}

interface Difference {
  readonly name: string;
  /** The two views without this difference. */
  without(views: Views, disk: Disk): Views;
}

/** What our parser says of a disk. */
export function ourView(disk: Disk): Extent[] {
  return readPartitionTable(disk).partitions.map(({ number, start, size }) => ({
    number,
    start: BigInt(start),
    size: BigInt(size),
  }));
}

/**
 * The kernel looks for the backup only with `gpt` on its command line, since a device may misreport
 * its size. An image's size is known, and its backup saves the partitions.
 */
const backup: Difference = {
  name: "backup GPT",
  without(views, disk) {
    if (views.kernel.length > 0) return views;
    const lastSector = disk.size - disk.size % disk.sectorSize - disk.sectorSize;
    const read = (offset: number, length: number) =>
      offset === lastSector ? new Uint8Array(length) : disk.read(offset, length);
    return { ...views, ours: ourView({ ...disk, read }) };
  },
};

/**
 * The kernel cuts a partition at the last 512 bytes of a device whose end is no whole logical sector.
 * Nothing can be read or written there, and BLKPG refuses such a size.
 */
const wholeSectors: Difference = {
  name: "cut to whole sectors",
  without({ ours, kernel }, { size, sectorSize }) {
    const end = BigInt(size - size % sectorSize);
    const least = (a: bigint, b: bigint) => a < b ? a : b;
    return {
      ours,
      kernel: kernel.map((extent) => ({ ...extent, size: least(extent.size, end - extent.start) }))
        .filter(({ size }) => size > 0n),
    };
  },
};

/**
 * The kernel subtracts without looking, and shows an entry that ends before it begins as a partition
 * of almost 2^64 sectors, which nothing can be done with.
 */
const negativeSize: Difference = {
  name: "negative size",
  without: ({ ours, kernel }) => ({
    ours,
    kernel: kernel.filter(({ size }) => size < 2n ** 63n),
  }),
};

/** Negative sizes come before cutting, which would make them positive. */
const DIFFERENCES: readonly Difference[] = [negativeSize, wholeSectors, backup];

const text = (extents: readonly Extent[]) =>
  extents.map(({ number, start, size }) => `${number}@${start}+${size}`).join(" ");

/**
 * The names of the differences that lie between the two views of a disk; undefined if something else
 * does.
 */
export function explain(views: Views, disk: Disk): string[] | undefined {
  const names: string[] = [];
  for (const { name, without } of DIFFERENCES) {
    if (text(views.ours) === text(views.kernel)) break;
    const rest = without(views, disk);
    if (text(rest.ours) !== text(views.ours) || text(rest.kernel) !== text(views.kernel)) {
      names.push(name);
    }
    views = rest;
  }
  return text(views.ours) === text(views.kernel) ? names : undefined;
}

/** The two views in a line, from where they differ. */
export function showViews({ ours, kernel }: Views): string {
  const differs = (extent: Extent, i: number, other: readonly Extent[]) =>
    other[i] === undefined || text([extent]) !== text([other[i]]);
  const own = ours.filter((extent, i) => differs(extent, i, kernel)).slice(0, 3);
  const its = kernel.filter((extent, i) => differs(extent, i, ours)).slice(0, 3);
  return `ours ${text(own) || "none"}, the kernel's ${text(its) || "none"}`;
}
