/**
 * /sys/block/loopN as values. Devices and partitions come and go while it is read.
 *
 * @module
 */
import { unlessRefused } from "../base/errors.ts";
import { DT_DIR, ifExists, listDirectory, O_RDWR, open, readText, writeAt } from "./file.ts";
import { fileStatus, isThere, linksOf } from "./stat.ts";

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

/**
 * How many links the folder of a loop device without a bound file and partitions has. `loop`, which exists
 * while a file is bound, and each partition add one. Learnt from the first listing, it saves listing the
 * folder and reading 30 names. 0: not known yet.
 */
let bareLinks = 0;
/** A folder's name, and its ".". */
const OWN_LINKS = 2;

/** Whether loop device `number` has neither a bound file nor a partition. One call, no listing. */
export function sysfsIsBare(number: number): boolean {
  return linksOf(diskFolder(number)) <= bareLinks;
}

/** The partitions that the kernel has on loop device `number`, in the order of their numbers. */
export function sysfsPartitions(number: number): SysfsPartition[] {
  return readPartitions(number, bareLinks);
}

/** The same for a device that certainly has a bound file: without partitions, its folder is not listed. */
export function boundPartitions(number: number): SysfsPartition[] {
  return readPartitions(number, bareLinks + 1);
}

function readPartitions(number: number, linksWithout: number): SysfsPartition[] {
  return partitionNames(number, linksWithout)
    .flatMap((name) => readPartition(diskFolder(number), name) ?? [])
    .sort((a, b) => a.number - b.number);
}

/** `linksWithout`: how many links the device's folder has if there are none. */
function partitionNames(number: number, linksWithout: number): string[] {
  const disk = diskFolder(number);
  if (linksOf(disk) <= linksWithout) return [];
  const folders = listDirectory(disk, DT_DIR);
  const partitions = folders.filter((name) => name.startsWith(`loop${number}p`));
  // Not from the links: a partition that is being removed still counts there, but is not listed.
  const others = folders.length - partitions.length - Number(folders.includes("loop"));
  bareLinks = Math.min(others + OWN_LINKS, bareLinks || Infinity);
  return partitions;
}

/** The start of a partition in bytes; undefined if there is none. One read. */
export function sysfsPartitionStart(number: number, partition: number): number | undefined {
  const start = ifExists(() => readText(`${diskFolder(number)}/loop${number}p${partition}/start`));
  return start === undefined ? undefined : Number(start) * SECTOR;
}

/** The device number of a partition; undefined if there is none. One read. */
export function sysfsPartitionDev(number: number, partition: number): string | undefined {
  return ifExists(() => readText(`${diskFolder(number)}/loop${number}p${partition}/dev`));
}

/**
 * Tells a partition ("loop4p1") from a later one with the same name, by the inode of its folder; undefined
 * if there is none.
 */
export function sysfsPartitionIdentity(number: number, name: string): bigint | undefined {
  return ifExists(() => fileStatus(`${diskFolder(number)}/${name}`).inode);
}

/** Names and device numbers of the partitions of a device that certainly has a bound file. */
export function sysfsPartitionDevs(number: number): { name: string; dev: string }[] {
  return partitionNames(number, bareLinks + 1).flatMap((name) =>
    ifExists(() => ({ name, dev: readText(`${diskFolder(number)}/${name}/dev`) })) ?? []
  );
}

/** Whether all of these partitions still exist. One call each, no listing. */
export function sysfsStillHas(number: number, partitions: readonly SysfsPartition[]): boolean {
  return partitions.every(({ name }) => isThere(`${diskFolder(number)}/${name}`));
}

function diskFolder(number: number): string {
  return `/sys/block/loop${number}`;
}

function readPartition(disk: string, name: string): SysfsPartition | undefined {
  const read = (attribute: string) => readText(`${disk}/${name}/${attribute}`);
  return ifExists(() => ({
    name,
    number: Number(name.slice(name.lastIndexOf("p") + 1)),
    start: Number(read("start")) * SECTOR,
    size: Number(read("size")) * SECTOR,
    dev: read("dev"),
  }));
}

/** What stands for a path of more than a page, which the kernel does not tell. */
export const UNTOLD = "(a path that is too long for the kernel to tell)";

/** The backing file's path as the kernel has it; an error if no file is bound. */
export function sysfsBoundFile(number: number): string {
  const path = `/sys/block/loop${number}/loop/backing_file`;
  // A stranger's directory can have been renamed; it is bound all the same.
  return unlessRefused(() => readText(path), "ENAMETOOLONG") ?? UNTOLD;
}

export function sysfsIsBound(number: number): boolean {
  return isThere(`/sys/block/loop${number}/loop`);
}

/** The same, or undefined if no file is bound. */
export function sysfsBackingFile(number: number): string | undefined {
  return ifExists(() => sysfsBoundFile(number));
}

/** The device number: "7:4". With loop.max_part the minor number is not `number`. */
export function sysfsDev(number: number): string {
  return readText(`/sys/block/loop${number}/dev`);
}

/** Grows at each bind and detach of any loop device, so it tells one use from the next. Linux 5.15. */
export function sysfsDiskseq(number: number): number | undefined {
  const diskseq = ifExists(() => readText(`/sys/block/loop${number}/diskseq`));
  return diskseq === undefined ? undefined : Number(diskseq);
}

/** Has the kernel send a change event for the device or one of its partitions, with SYNTH_UUID `uuid`. */
export function sysfsAnnounce(number: number, name: string, uuid = ""): void {
  const folder = name === `loop${number}` ? diskFolder(number) : `${diskFolder(number)}/${name}`;
  using uevent = open(`${folder}/uevent`, O_RDWR);
  writeAt(uevent, 0, new TextEncoder().encode(`change ${uuid}`.trim()));
}

/** loop.max_part: if it is not 0, the kernel sets LO_FLAGS_PARTSCAN on every device. */
export function sysfsMaxPart(): number {
  return Number(ifExists(() => readText("/sys/module/loop/parameters/max_part")) ?? 0);
}
