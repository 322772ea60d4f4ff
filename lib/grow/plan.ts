/**
 * What a growth is to be, from what there is: nothing is written here.
 *
 * @module
 */
import { type ErrorCode, LoopError } from "../base/errors.ts";
import type { NamedSelector, PartitionSelector } from "../base/selector.ts";
import { deviceSize } from "../binding/backing_file.ts";
import { type Part, readPart, readTableIn, refuseUnreadable } from "../binding/image_table.ts";
import { blkGetSize64 } from "../kernel/block.ts";
import type { OpenFile } from "../kernel/file.ts";
import { fileStatus } from "../kernel/stat.ts";
import { fileSystemsIn, onlyOne } from "../mount/file_system.ts";
import { selectPartition } from "../mount/select.ts";
import { type FileSystemSize, sizeSteps } from "../superblocks/sizes.ts";
import type { FileSystem } from "../superblocks/file_systems.ts";
import type { FoundTable, TablePartition } from "../table/disk.ts";
import { isRefused, type TableGrowth } from "../table/growth.ts";
import { growTable } from "../table/growth_writer.ts";
import { wanted } from "../table/steps.ts";
import { planFileSystem } from "./file_systems.ts";
import type { GrownFileSystem, GrownSize, Growth } from "./options.ts";
import { whyNotDisk, whyNotPart } from "./tail.ts";

/** What is grown: a range of a file, seen through a device or through the file itself. */
export interface Subject {
  /** For messages: the device's node, or the file's name. */
  readonly path: string;
  /** Where the bytes are read. */
  readonly view: OpenFile;
  /** Where the disk begins in `view`. */
  readonly base: number;
  /** The disk's size in bytes. */
  readonly size: number;
  readonly sectorSize: number | "auto";
  /** The backing file, and which part of it is the disk. */
  readonly part: Part;
  /** Where a partition is read: its node, whose page cache a mount shares, or none if there is no node. */
  open(number: number): Promise<OpenFile | undefined>;
}

/** What is to be done. */
export interface Plan {
  readonly file: GrownSize & { readonly path: string };
  readonly device: GrownSize;
  readonly growth?: TableGrowth;
  readonly content?: Content;
}

/** A file system, or what else is there, and how large it shall become. */
export interface Content extends FileSystem {
  readonly size?: FileSystemSize;
  readonly grown: GrownFileSystem;
}

/** Rejects with LoopError if something is in the way. */
export async function makePlan(
  subject: Subject,
  selector: PartitionSelector | undefined,
  size: number | undefined,
  signal?: AbortSignal,
): Promise<Plan> {
  const file = planFile(subject, size);
  const device = { from: subject.size, to: deviceSize(file.to, subject.part) };
  if (device.to < device.from) {
    const hint = `the file has become shorter than the device: give grow() a size of ${
      subject.part.offset + device.from
    } or more`;
    throw refusal(subject, "EINVAL", hint);
  }
  const table = await readTableOf(subject, signal);
  if (table.kind === "none") {
    if (selector !== undefined) throw refusal(subject, "ENXIO", "it has no partition table");
    if (device.to > device.from) await keepDisk(subject);
    return { file, device, content: await contentOf(subject, undefined, device) };
  }
  const number = await numberOf(subject, table, selector);
  const { sectorSize } = table;
  const disk = { size: subject.size, sectorSize, read: wanted };
  const range = { offset: subject.base, size: subject.size, signal };
  const growth = await readPart(subject.view, range, growTable(disk, table, device.to, number));
  if (isRefused(growth)) throw refusal(subject, growth.code, growth.why);
  if (device.to > device.from || growth.groups.length > 0) await keepDisk(subject);
  if (growth.partition.to > growth.partition.from) await keepPartition(subject, growth.partition);
  const content = await contentOf(subject, growth.partition, growth.partition);
  return { file, device, growth, content };
}

/** A plan as its caller gets it. */
export function describe({ file, device, growth, content }: Plan): Growth {
  const writes = growth?.groups.flat().map(({ offset, bytes: { length }, what }) => ({
    offset,
    length,
    what,
  }));
  return {
    file,
    device,
    ...growth && writes
      ? { table: { kind: growth.kind, writes }, partition: growth.partition }
      : {},
    ...content ? { fileSystem: content.grown } : {},
  };
}

export function refusal({ path }: Pick<Subject, "path">, code: ErrorCode, hint: string): LoopError {
  return new LoopError({ code, path, hint });
}

function planFile(subject: Subject, size: number | undefined): Plan["file"] {
  const { file, sizelimit, offset } = subject.part;
  const { type, size: fileSize } = fileStatus(file);
  const from = type === "file" ? fileSize : blkGetSize64(file);
  const to = size ?? from;
  if (to < from) {
    throw refusal(
      subject,
      "EINVAL",
      `its file has ${from} bytes, and grow() makes nothing smaller`,
    );
  }
  if (to > from && type !== "file") {
    throw refusal(subject, "EINVAL", `it lies on a block device, which has its ${from} bytes`);
  }
  if (to > from && sizelimit > 0 && from - offset >= sizelimit) {
    const hint = `its sizelimit of ${sizelimit} keeps it from growing: attach it without`;
    throw refusal(subject, "EINVAL", hint);
  }
  return { path: file.path, from, to };
}

async function readTableOf(subject: Subject, signal?: AbortSignal): Promise<FoundTable> {
  const { view, base, size, sectorSize, part, path } = subject;
  const table = await readTableIn(view, { size, offset: base, sectorSize, signal });
  const own = sectorSize === "auto" ? table.sectorSize : sectorSize;
  refuseUnreadable(table, { path, sectorSize: own, call: "grow", part });
  return table;
}

async function numberOf(
  subject: Subject,
  { partitions }: FoundTable,
  selector: PartitionSelector | undefined,
): Promise<number | undefined> {
  if (typeof selector !== "object") return selector;
  const contentOf = (partition: TablePartition) => allOn(subject, partition.number, partition);
  const whyNone = "its table is empty";
  const from = { partitions, path: subject.path, whyNone, contentOf };
  return (await selectPartition(selector as NamedSelector, from)).number;
}

/** Where something lies on the disk. */
interface Range {
  readonly start?: number;
  readonly size?: number;
  readonly from?: number;
}

async function inside<T>(
  subject: Subject,
  number: number | undefined,
  { start = 0, from, size = from ?? subject.size }: Range,
  look: (file: OpenFile, part: { offset: number; size: number }) => Promise<T>,
): Promise<T> {
  using node = number === undefined ? undefined : await subject.open(number);
  if (node) return await look(node, { offset: 0, size: blkGetSize64(node) });
  return await look(subject.view, { offset: subject.base + start, size });
}

async function allOn(
  subject: Subject,
  number: number | undefined,
  range: Range,
): Promise<FileSystem[]> {
  return await inside(subject, number, range, fileSystemsIn);
}

/**
 * Rejects with LoopError if what stands at the disk's end would no longer stand there. The backing file is
 * read: where a device ends within a sector, the kernel cannot read that.
 */
async function keepDisk(subject: Subject): Promise<void> {
  const { part: { file, offset }, size } = subject;
  const why = await whyNotDisk(file, { offset, size });
  if (why !== undefined) throw refusal(subject, "EOPNOTSUPP", why);
}

/** The same of a partition. */
async function keepPartition(
  subject: Subject,
  partition: TableGrowth["partition"],
): Promise<void> {
  const why = await inside(subject, partition.number, partition, whyNotPart);
  if (why === undefined) return;
  throw refusal(subject, "EOPNOTSUPP", `partition ${partition.number} cannot grow: ${why}`);
}

/** What there is, and how large it is. Rejects with LoopError EUCLEAN if there are two. */
async function contentOf(
  subject: Subject,
  partition: TableGrowth["partition"] | undefined,
  room: GrownSize,
): Promise<Content | undefined> {
  return await inside(subject, partition?.number, partition ?? {}, async (file, part) => {
    const found = onlyOne(await fileSystemsIn(file, part), file.path);
    if (!found) return undefined;
    const disk = { size: part.size, read: wanted };
    const size = await readPart(file, part, sizeSteps(disk, found.type));
    return { ...found, size, grown: planFileSystem(found, size, room.to) };
  });
}
