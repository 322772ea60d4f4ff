/** Shared by the tests of hostile partition tables: what is read from a disk, in sectors. */
import { assertEquals } from "@std/assert";
import type { SparseDisk } from "./sparse_disk.ts";
import { tryTable } from "./table_properties.ts";

export type Extent = [number: number, first: number, sectors: number];

/** Number, first sector and sectors of the partitions; fails if a property is violated. */
export function extents(disk: SparseDisk): Extent[] {
  const { partitions, violations } = tryTable({ kind: "", disk });
  assertEquals(violations, []);
  const { sectorSize } = disk;
  return partitions.map(({ number, start, size }) => [
    number,
    start / sectorSize,
    size / sectorSize,
  ]);
}
