/**
 * /sys/block/loopN as values. What is not there (any more) is undefined or missing, never an error:
 * devices and partitions come and go while we look.
 *
 * @module
 */
import { DT_DIR, ifExists, listDirectory, O_RDWR, open, readText, writeAt } from "./file.ts";
import { fileStatus, isThere } from "./stat.ts";

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

/** Links of a loop device's folder that has neither a file bound to it nor a partition. */
let bareLinks = 0;
/** A folder's name, and its ".". */
const OWN_LINKS = 2;

/** Whether loop device `number` is free: no file bound, no partition left. One call, not a listing. */
export function sysfsIsBare(number: number): boolean {
  return fileStatus(diskFolder(number)).links <= bareLinks;
}

/** The partitions that the kernel has on loop device `number`, in the order of their numbers. */
export function sysfsPartitions(number: number): SysfsPartition[] {
  return listPartitions(number, bareLinks);
}

/** The same of a device that a file is bound to for certain: one without partitions is not listed. */
export function boundPartitions(number: number): SysfsPartition[] {
  return listPartitions(number, bareLinks + 1);
}

/** `none`: the links of a device without partitions. */
function listPartitions(number: number, none: number): SysfsPartition[] {
  const disk = diskFolder(number);
  // Partitions are folders in it, and so is `loop` while a file is bound. The others are the same on
  // all loop devices, so that their number, once learnt, saves listing and reading 30 names.
  const { links } = fileStatus(disk);
  if (links <= none) return [];
  const folders = listDirectory(disk, DT_DIR);
  const partitions = folders.filter((name) => name.startsWith(`loop${number}p`));
  // Never from `links`: a partition that is about to go still counts there, and is no longer listed.
  const others = folders.length - partitions.length - Number(folders.includes("loop"));
  bareLinks = Math.min(others + OWN_LINKS, bareLinks || Infinity);
  return partitions
    .flatMap((name) => readPartition(disk, name) ?? [])
    .sort((a, b) => a.number - b.number);
}

/** Where partition `partition` begins, in bytes; undefined if there is none. One read. */
export function sysfsPartitionStart(number: number, partition: number): number | undefined {
  const start = ifExists(() => readText(`${diskFolder(number)}/loop${number}p${partition}/start`));
  return start === undefined ? undefined : Number(start) * SECTOR;
}

/** Tells a partition ("loop4p1") from a later one of its name; undefined if there is none. */
export function sysfsPartitionIdentity(number: number, name: string): bigint | undefined {
  // The kernel makes a folder for each partition, and gives its inode number to no other for long.
  return ifExists(() => fileStatus(`${diskFolder(number)}/${name}`).inode);
}

/** The nodes' names and device numbers of its partitions, while a file is bound to it. */
export function sysfsPartitionDevs(number: number): { name: string; dev: string }[] {
  const disk = diskFolder(number);
  if (fileStatus(disk).links <= bareLinks + 1) return [];
  return listDirectory(disk, DT_DIR)
    .filter((name) => name.startsWith(`loop${number}p`))
    .flatMap((name) => ifExists(() => ({ name, dev: readText(`${disk}/${name}/dev`) })) ?? []);
}

/** Whether all of these partitions are still there: a call each, and no listing. */
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

/** The backing file's whole path as the kernel knows it; an error if nothing is bound. */
export function sysfsBoundFile(number: number): string {
  return readText(`/sys/block/loop${number}/loop/backing_file`);
}

/** Whether a file is bound to loop device `number`. */
export function sysfsIsBound(number: number): boolean {
  return isThere(`/sys/block/loop${number}/loop`);
}

/** The backing file's whole path, or undefined if nothing is bound. */
export function sysfsBackingFile(number: number): string | undefined {
  return ifExists(() => sysfsBoundFile(number));
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

/**
 * Has the kernel announce the device or one of its partitions again, as changed. `uuid`: what the event
 * carries as SYNTH_UUID.
 */
export function sysfsAnnounce(number: number, name: string, uuid = ""): void {
  const folder = name === `loop${number}` ? diskFolder(number) : `${diskFolder(number)}/${name}`;
  using uevent = open(`${folder}/uevent`, O_RDWR);
  writeAt(uevent, 0, new TextEncoder().encode(`change ${uuid}`.trim()));
}

/** loop.max_part: above 0 the kernel sets LO_FLAGS_PARTSCAN on every device by itself. */
export function sysfsMaxPart(): number {
  return Number(ifExists(() => readText("/sys/module/loop/parameters/max_part")) ?? 0);
}
