/**
 * /sys/block/loopN as values. What is not there (any more) is undefined or missing, never an error:
 * devices and partitions come and go while we look.
 *
 * @module
 */
import { ifExists, listDirectory, readText } from "./file.ts";

const SECTOR = 512;

/** A partition as the kernel has it; bytes. */
export interface SysfsPartition {
  /** Of the node: "loop4p1". */
  readonly name: string;
  readonly number: number;
  readonly start: number;
  readonly size: number;
  /** Device number: "259:3". */
  readonly dev: string;
}

/** The partitions that the kernel has on loop device `number`, in the order of their numbers. */
export function sysfsPartitions(number: number): SysfsPartition[] {
  const disk = `/sys/block/loop${number}`;
  const partitions: SysfsPartition[] = [];
  for (const name of listDirectory(disk)) {
    if (!name.startsWith(`loop${number}p`)) continue;
    const read = (attribute: string) => readText(`${disk}/${name}/${attribute}`);
    const partition = ifExists(() => ({
      name,
      number: Number(read("partition")),
      start: Number(read("start")) * SECTOR,
      size: Number(read("size")) * SECTOR,
      dev: read("dev"),
    }));
    if (partition) partitions.push(partition);
  }
  return partitions.sort((a, b) => a.number - b.number);
}

/** The backing file's whole path as the kernel knows it, or undefined if nothing is bound. */
export function sysfsBackingFile(number: number): string | undefined {
  return ifExists(() => readText(`/sys/block/loop${number}/loop/backing_file`));
}

/** Device number of loop device `number`: "7:4". With loop.max_part the minor is not the number. */
export function sysfsDev(number: number): string {
  return readText(`/sys/block/loop${number}/dev`);
}

/** Grows at each bind and detach of any loop device, so it tells one use from the next. Linux 5.15. */
export function sysfsDiskseq(number: number): number | undefined {
  const diskseq = ifExists(() => readText(`/sys/block/loop${number}/diskseq`));
  return diskseq === undefined ? undefined : Number(diskseq);
}

/** loop.max_part: above 0 the kernel sets LO_FLAGS_PARTSCAN on every device by itself. */
export function sysfsMaxPart(): number {
  return Number(ifExists(() => readText("/sys/module/loop/parameters/max_part")) ?? 0);
}
