/**
 * Detaching and changing devices as losetup(8) does it: whatever they are, whoever attached them.
 *
 * @module
 */
import { changeDevice } from "../binding/change.ts";
import { poll } from "../base/retry.ts";
import { sweepDetached } from "../binding/detach.ts";
import { findHolders, type Holder } from "../holders/holders.ts";
import { lastingNodes, removeLeftNodes } from "../binding/nodes.ts";
import { O_RDONLY, open, type OpenFile } from "../kernel/file.ts";
import { loopClrFd } from "../kernel/loop.ts";
import { fileStatus } from "../kernel/stat.ts";
import { sysfsBackingFile, sysfsDiskseq } from "../kernel/sysfs.ts";
import { loopOf } from "../status.ts";

export { removeDevice } from "../binding/change.ts";
export { describeHolders } from "../holders/holders.ts";
export { loopClrFd, loopSetBlockSize, loopSetCapacity, loopSetDirectIo } from "../kernel/loop.ts";

/** A device that was told to detach. */
export interface Detaching {
  /** As it was named. */
  readonly path: string;
  /** The use that ends. Its number is −1 if the kernel says nowhere which device it is. */
  readonly use: Parameters<typeof sweepDetached>[0];
  /** The partitions whose nodes outlive them. */
  readonly lasting: ReturnType<typeof lastingNodes>;
}

/**
 * Detaches the device at `path`, or that of the partition there, whoever attached it; if others have it
 * open, the last of them does. Undefined: the kernel has let go already.
 */
export async function detachUnchecked(path: string): Promise<Detaching | undefined> {
  const detaching = await unbind(path);
  // One look in any case: it removes partitions that older kernels leave behind.
  return isOver(detaching) ? undefined : detaching;
}

/** Waits up to `ms` ms until the kernel has let go; resolves to who is left then. */
export async function waitDetached(
  detaching: Detaching,
  ms: number,
): Promise<Holder[] | undefined> {
  const isGone = () => isOver(detaching) || undefined;
  if (await poll(isGone, ms)) return undefined;
  const holders = await findHolders(detaching.use.number);
  // Or they are another use's, which has begun while they were looked for.
  return isGone() ? undefined : holders;
}

/** Whether that use has ended; removes what it leaves behind. */
function isOver({ use, lasting }: Detaching): boolean {
  const isGone = sweepDetached(use, `/dev/loop${use.number}`);
  if (isGone) removeLeftNodes(use.number, lasting);
  return isGone;
}

async function unbind(path: string): Promise<Detaching> {
  using device = open(path, O_RDONLY);
  // By the open device: a link, as in /dev/disk/by-loop-ref, may lead to another one by now.
  const number = Number(loopOf(fileStatus(device)).number ?? -1);
  const lasting = number < 0 ? [] : lastingNodes(number);
  const use = { number, backingFile: sysfsBackingFile(number), diskseq: sysfsDiskseq(number) };
  await loopClrFd(device);
  return { path, use, lasting };
}

/** Changes a device, tried again where LoopDevice does. */
export async function changeUnchecked(
  path: string,
  request: (device: OpenFile) => void | Promise<void>,
): Promise<void> {
  using device = open(path, O_RDONLY);
  await changeDevice(device, request);
}
