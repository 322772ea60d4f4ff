/** The images of part "interleave": small, partitioned, each partition an ext4; and one without a table. */
import { closeSync, copyFileSync, mkdirSync, openSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import { putEntries } from "../tests/cases/mbr.ts";
import { output } from "../tests/support/support.ts";
import { makeExt4 } from "../tests/support/mount_image.ts";
import type { FileName, TableName } from "./programs.ts";

/** Sectors of 512 bytes. */
const TABLES: Record<TableName, readonly { start: number; count: number }[]> = {
  both: [{ start: 256, count: 1024 }, { start: 1280, count: 1024 }],
  first: [{ start: 256, count: 1024 }],
  more: [
    { start: 256, count: 1024 },
    { start: 1280, count: 1024 },
    { start: 2304, count: 512 },
  ],
  none: [],
  unknown: [],
};
/** Where no table has one. */
export const STRANGERS_PARTITION = { number: 7, start: 2816, count: 256 };
const SECTORS = 3072;

/** The numbers of a table's partitions. */
export const numbersIn = (table: TableName): number[] => TABLES[table].map((_, i) => i + 1);
/** Whether it accounts for all of its disk. */
export const isRead = (table: TableName): boolean => TABLES[table].length > 0;

/** Over the first sector. Not through a device, and at once. */
export function writeTable(path: string, table: TableName): void {
  const sector = new Uint8Array(512);
  if (table === "unknown") sector.fill(0x5a);
  const entries = TABLES[table];
  if (entries.length > 0) putEntries(sector, entries.map((entry) => ({ type: 0x83, ...entry })));
  const fd = openSync(path, "r+");
  writeSync(fd, sector, 0, 512, 0);
  closeSync(fd);
}

/** What the lanes' images are copies of: one with two partitions, one of a whole file system. */
export function makePristine(folder: string): void {
  mkdirSync(folder, { recursive: true });
  const parts = join(folder, "parts.img");
  closeSync(openSync(parts, "w"));
  truncateSync(parts, SECTORS * 512);
  for (const { start, count } of TABLES.both) {
    if (!makeExt4(parts, { start: start * 512, size: count * 512 })) throw new Error("no ext4");
  }
  writeTable(parts, "both");
  const disk = join(folder, "disk.img");
  closeSync(openSync(disk, "w"));
  truncateSync(disk, SECTORS * 512);
  output(["mkfs.ext4", "-q", "-b", "1024", "-O", "^has_journal", disk]);
}

export const FILES: readonly FileName[] = [
  ...["own-0", "own-1", "own-2", "disk"] as const,
  ...["foreign-0", "foreign-1"] as const,
];

/** As it was, whatever a program has done to it. Nothing is attached to it. */
export function copyPristine(pristine: string, name: FileName, path: string): void {
  copyFileSync(join(pristine, name === "disk" ? "disk.img" : "parts.img"), path);
}
