/**
 * grow(): the file → the device's capacity → the table → the kernel's partition → the file system. Each step
 * leaves everything whole, so whatever ends it, another grow() goes on from there.
 *
 * @module
 */
import { isRefusal, LoopError, orRefusal, withMore } from "../base/errors.ts";
import type { PartitionSelector } from "../base/selector.ts";
import { deviceSize, openBackingFile } from "../binding/backing_file.ts";
import type { BoundDevice } from "../binding/bound_device.ts";
import { checkReadOptions, type ReadPartitionsOptions } from "../binding/options.ts";
import { blkFlsBuf } from "../kernel/block.ts";
import { openWithoutWaiting } from "../kernel/blocking.ts";
import { O_RDONLY, O_RDWR, open, type OpenFile } from "../kernel/file.ts";
import { ftruncate, writeThrough } from "../kernel/growth.ts";
import { openKernelLog } from "../kernel/kmsg.ts";
import { loopSetCapacity } from "../kernel/loop.ts";
import { endMount, type NewMount } from "../kernel/mount.ts";
import { fileStatus } from "../kernel/stat.ts";
import { sysfsDev } from "../kernel/sysfs.ts";
import { forbidsWrites, NO_WRITES, PERHAPS_NO_WRITES } from "../kernel/write_mounted.ts";
import { make } from "../mount/mount.ts";
import { checkMountOptions } from "../mount/options.ts";
import { driverOf } from "../mount/unknown.ts";
import type { TableGrowth } from "../table/growth.ts";
import { openOwnNode } from "../udev/close_write_race.ts";
import { growFileSystem } from "./file_systems.ts";
import {
  type CheckedGrow,
  checkGrowOptions,
  type GrownFileSystem,
  type GrowOptions,
  type GrowProgress,
  type Growth,
} from "./options.ts";
import { type Content, describe, makePlan, type Plan, refusal, type Subject } from "./plan.ts";

/** How long the kernel's partitions and their nodes may take, in ms. */
const RESCAN_MS = 10_000;

/** Grows a partition of a device that we bound, and all around it. */
export async function growDevice(
  bound: BoundDevice,
  selector: PartitionSelector | undefined,
  asked: GrowOptions,
): Promise<Growth> {
  const options = checkGrowOptions(asked);
  const { signal } = options;
  signal?.throwIfAborted();
  refuse(bound);
  // The table is read from the disk: the page cache lacks what was written to the backing file, and still has
  // what the device could not write.
  await blkFlsBuf(bound.device);
  const subject = subjectOf(bound);
  const plan = await makePlan(subject, selector, options.size, signal);
  if (options.dryRun) return describe(plan);
  const tell = teller(options);
  await tell("file", plan.file.to - plan.file.from, () => growFile(bound, plan.file.to));
  await adoptSize(bound, plan);
  const { groups = [], partition } = plan.growth ?? {};
  const bytes = groups.flat().reduce((sum, { bytes }) => sum + bytes.length, 0);
  await tell("table", bytes, () => writeTable(bound, groups));
  if (partition) await growPartition(bound, partition, tell, signal);
  const { content } = plan;
  if (!content || content.grown.to === content.grown.from) return describe(plan);
  const grown = await growContent(bound, content, partition, tell, signal);
  return describe({ ...plan, content: { ...content, grown } });
}

function refuse(bound: BoundDevice): void {
  if (!bound.isOwn) {
    const hint =
      "it was attached by somebody else, who may be growing it: grow it by the handle that " +
      "attach() gave, or detach it and call growImage() of its file";
    throw refusal(bound, "EPERM", hint);
  }
  if (bound.facts.readOnly) throw refusal(bound, "EROFS", "it is read-only, and so cannot grow");
}

function subjectOf(bound: BoundDevice): Subject {
  const { path, device, facts, backing } = bound;
  const { size, sectorSize, offset, sizelimit } = facts;
  const nodeOf = (number: number) =>
    bound.partitions.list.find((partition) => partition.number === number)?.path;
  return {
    ...{ path, view: device, base: 0, size, sectorSize },
    // A writable device has it.
    part: { file: backing!, offset, sizelimit },
    async open(number) {
      const node = nodeOf(number);
      return node === undefined ? undefined : await openWithoutWaiting(node, O_RDONLY);
    },
  };
}

type Tell = (
  step: GrowProgress["step"],
  total: number,
  act: (tell: (done: number) => void) => Promise<void>,
) => Promise<void>;

/** Makes a step, unless there is nothing to do or the signal has aborted, and says so. */
function teller({ onProgress, signal }: CheckedGrow): Tell {
  return async (step, total, act) => {
    if (total === 0) return;
    signal?.throwIfAborted();
    const tell = (done: number) => onProgress?.({ step, done, total });
    tell(0);
    await act(tell);
    tell(total);
  };
}

/** Not if it has become larger than that meanwhile: ftruncate(2) would cut it. */
async function growFile(bound: BoundDevice, to: number): Promise<void> {
  const { size } = fileStatus(bound.backing!);
  if (size <= to) return await ftruncate(bound.backing!, to);
  const hint =
    `another program has given its file ${size} bytes meanwhile, more than the ${to} that ` +
    "it shall have: call grow() without size";
  throw refusal(bound, "EBUSY", hint);
}

/** The file may have grown long before. */
async function adoptSize(bound: BoundDevice, { device }: Plan): Promise<void> {
  if (bound.facts.size === device.to) return;
  await bound.change(loopSetCapacity);
  if (bound.facts.size === device.to) return;
  const hint =
    `its file has another size now: the device has ${bound.facts.size} bytes, not ${device.to}`;
  throw refusal(bound, "EBUSY", hint);
}

async function writeTable(bound: BoundDevice, groups: TableGrowth["groups"]): Promise<void> {
  using writable = openWritable(bound);
  try {
    // Not to be stopped: each group leaves a whole table, but only the last one leaves the usual one.
    for (const group of groups) await writeThrough(writable, group);
  } catch (error) {
    throw withMore(
      error,
      `has the disk of ${bound.facts.backingFile} space left, and is it in order? The table is whole, the ` +
        "one from before or the one from afterwards, and another grow() goes on from there",
    );
  }
}

/** Without waking udevd, which answers the close of a writable descriptor (close_write_race.ts). */
function openWritable(bound: BoundDevice): OpenFile {
  try {
    return tryOpening(bound);
  } catch (error) {
    if (!isRefusal(error, "EBUSY")) throw error;
    throw error.withHint(
      `a file system on the whole device is mounted, and ${
        forbidsWrites() ? NO_WRITES : PERHAPS_NO_WRITES
      }: unmount it, and grow() goes on from there`,
    );
  }
}

function tryOpening({ path, number }: BoundDevice): OpenFile {
  const dev = sysfsDev(number);
  const own = openOwnNode(path, dev, O_RDWR);
  if (own) return own;
  using opened = new DisposableStack();
  const file = opened.use(open(path, O_RDWR));
  if (fileStatus(file).rdev !== dev) {
    throw new LoopError({ code: "ENOTBLK", path, hint: "its node is another device's" });
  }
  opened.move();
  return file;
}

/** Brings the kernel in line with the table: BLKPG_RESIZE_PARTITION, or adds what it did not have. */
async function growPartition(
  bound: BoundDevice,
  { number, to }: TableGrowth["partition"],
  tell: Tell,
  signal?: AbortSignal,
): Promise<void> {
  const present = () => bound.partitions.list.find((partition) => partition.number === number);
  await tell("partition", to - (present()?.size ?? 0), () => bound.rescan(RESCAN_MS, signal));
}

/** Grows a file system through a mount of its own, which shares the superblock of any other mount. */
async function growContent(
  bound: BoundDevice,
  content: Content,
  grownPartition: TableGrowth["partition"] | undefined,
  tell: Tell,
  signal?: AbortSignal,
): Promise<GrownFileSystem> {
  const { grown, size } = content;
  const number = grownPartition?.number;
  const partition = bound.partitions.list.find((partition) => partition.number === number);
  // The whole device is something else.
  if (grownPartition && !partition) {
    const range = `offset: ${
      bound.facts.offset + grownPartition.start
    }, sizelimit: ${grownPartition.to}`;
    const reason =
      `the kernel does not show partition ${number}: growImage() with ${range} grows it`;
    return { ...grown, to: grown.from, reason };
  }
  const device = partition?.path ?? bound.path;
  const made = await orRefusal(() => mountAlone(bound, content, { device, partition: number }));
  if (made instanceof LoopError) {
    return { ...grown, to: grown.from, reason: `it cannot be mounted: ${made.message}` };
  }
  let result = grown;
  try {
    const mounted = { type: grown.type, root: made.root, device, size: size! };
    await tell("fileSystem", grown.to! - grown.from!, async (tell) => {
      result = await growFileSystem(mounted, grown.to!, tell, signal);
    });
  } catch (error) {
    await endMount(made, { node: undefined, written: false, attached: false, holder: undefined });
    throw error;
  }
  await endWritten(made, device, bound.facts.backingFile);
  return result;
}

/** In no namespace: it ends with its descriptors. */
async function mountAlone(
  { facts: { number, readOnly, backingFile } }: BoundDevice,
  content: Content,
  where: { device: string; partition: number | undefined },
): Promise<NewMount> {
  const source = { ...where, number, readOnly, backingFile };
  const options = checkMountOptions({ noexec: true });
  const plain = { owner: undefined, idMap: undefined };
  using log = openKernelLog();
  return await make({ source, type: driverOf(content), options, ...plain, log }, false);
}

/** Unmounts it. Throws if anything that was written is lost. */
async function endWritten(made: NewMount, device: string, backingFile: string): Promise<void> {
  using node = await openWithoutWaiting(device, O_RDONLY);
  const ended = await endMount(made, { node, written: true, attached: false, holder: undefined });
  const [code, syscall] = ended.synced < 0 ? [-ended.synced, "syncfs"] : [-ended.flushed, "fsync"];
  if (code === 0) return;
  const hint =
    `not all that was written has reached ${backingFile}: is there space left, is its disk ` +
    "in order? Check the file system before use";
  throw new LoopError({ code, syscall, path: device, hint });
}

interface RangeOfFile {
  readonly size: number;
  readonly offset: number;
  readonly sizelimit: number;
}

/** What growing an image would do. `refuseWrapped` throws if it is no disk yet. */
export async function planGrowth(
  path: string,
  range: ReadPartitionsOptions,
  selector: PartitionSelector | undefined,
  asked: GrowOptions,
  refuseWrapped: (file: OpenFile, range: RangeOfFile) => Promise<void>,
): Promise<Growth> {
  const { size: wanted, signal } = checkGrowOptions(asked);
  const { offset, sizelimit, sectorSize } = checkReadOptions(range);
  signal?.throwIfAborted();
  using image = await openBackingFile(path, { readOnly: true, offset, signal });
  const subject: Subject = {
    ...{ path, view: image.file, base: offset, sectorSize },
    size: deviceSize(image.size, { offset, sizelimit }),
    part: { file: image.file, offset, sizelimit },
    open: () => Promise.resolve(undefined),
  };
  const plan = await makePlan(subject, selector, wanted, signal);
  if (!plan.growth && !plan.content) {
    await refuseWrapped(image.file, { size: image.size, offset, sizelimit });
  }
  return describe(plan);
}
