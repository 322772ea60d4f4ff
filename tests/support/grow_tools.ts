/** What sfdisk and sgdisk leave of a table whose partition they grow, and what they read. */
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import type { Grown } from "../cases/grow_beside.ts";
import type { SparseDisk } from "../cases/sparse_disk.ts";
import { output, run, scratch, withSectorSize } from "./support.ts";

/** An image with the bytes of a disk. */
export function writeImage(path: string, disk: SparseDisk): string {
  const fd = openSync(path, "w");
  ftruncateSync(fd, disk.size);
  for (const { offset, bytes } of disk.written()) {
    writeSync(fd, bytes, 0, bytes.length, offset);
  }
  closeSync(fd);
  return path;
}

const QUIET = ["--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never"];

/**
 * Where the image that sfdisk has grown differs from ours, as cmp(1) says it; "" if it does not. With
 * `sgdisk` that moves the backup first. Not compared is what only one side does: they leave the header of
 * the old backup behind; sgdisk counts the cylinders of a protective MBR; and where an extended partition is
 * empty, sfdisk writes its boot record again, in sectors of 4096 bytes with what its memory held.
 */
export function besideTools({ growth, before, after, kind }: Grown, sgdisk: boolean): string {
  const [theirs, ours] = [scratch("theirs.img"), scratch("ours.img")];
  writeImage(theirs, before);
  writeImage(ours, after);
  const { sectorSize } = before;
  const { number, to } = growth.partition;
  const containers = growth.groups.length > 1 && kind === "mbr" ? [containerIn(growth)] : [];
  withSectorSize(theirs, sectorSize, (disk) => {
    if (sgdisk) output(["sgdisk", "-e", disk]);
    for (const [each, sectors] of [...containers, [number, to / sectorSize]]) {
      output(["sfdisk", ...QUIET, "-N", `${each}`, disk], { input: `,${sectors}\n` });
    }
  });
  const fd = openSync(theirs, "r+");
  for (const { offset, bytes, what } of growth.groups.flat()) {
    if (what.endsWith("erased")) writeSync(fd, bytes, 0, bytes.length, offset);
  }
  if (kind === "mbr" && sectorSize > 512) {
    const record = after.read(growth.partition.start, sectorSize);
    writeSync(fd, record, 0, sectorSize, growth.partition.start);
  }
  if (sgdisk) copyChs(ours, fd);
  closeSync(fd);
  return run(["cmp", ours, theirs]).stdout;
}

/** Number and size in sectors of the extended partition that grows with a logical one. */
function containerIn({ groups }: Grown["growth"]): [number: number, sectors: number] {
  const [{ bytes, what }] = groups[0];
  const slot = Number(/entry (\d)/.exec(what)![1]);
  return [slot, new DataView(bytes.buffer).getUint32(446 + 16 * (slot - 1) + 12, true)];
}

/** Both addresses by cylinder, head and sector of the protective partition. */
function copyChs(from: string, to: number): void {
  const source = openSync(from, "r");
  for (const at of [447, 451]) {
    const chs = new Uint8Array(3);
    readSync(source, chs, 0, 3, at);
    writeSync(to, chs, 0, 3, at);
  }
  closeSync(source);
}

/** The places of the partitions as sfdisk reads them; it complains about nothing else than the backup. */
export function readBySfdisk(path: string, sectorSize: number): string {
  const json = withSectorSize(path, sectorSize, (disk) => output(["sfdisk", "--json", disk]));
  const { partitions } = JSON.parse(json).partitiontable;
  // deno-lint-ignore no-explicit-any
  return partitions.map(({ node, start, size }: any) =>
    `${/\d+$/.exec(node)![0]}: ${start * sectorSize}, ${size * sectorSize}`
  ).join("\n");
}
