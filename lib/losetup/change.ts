/**
 * Detaching and changing devices as losetup(8) does it: whatever they are, whoever attached them.
 *
 * @module
 */
import { changeDevice } from "../binding/change.ts";
import { unlessRefused } from "../base/errors.ts";
import { poll } from "../base/retry.ts";
import { sweepDetached } from "../binding/detach.ts";
import { findHolders, type Holder } from "../holders/holders.ts";
import { lastingNodes, removeLeftNodes } from "../binding/nodes.ts";
import { O_RDONLY, open, type OpenFile } from "../kernel/file.ts";
import { loopClrFd } from "../kernel/loop.ts";
import { sysfsBackingFile, sysfsDiskseq } from "../kernel/sysfs.ts";
import { loopNumber } from "../status.ts";

export { removeDevice } from "../binding/change.ts";
export { describeHolders } from "../holders/holders.ts";
export { loopClrFd, loopSetBlockSize, loopSetCapacity, loopSetDirectIo } from "../kernel/loop.ts";

/**
 * Detaches the device at `path`, whoever attached it; if others have it open, the last of them does.
 * With `ms` they are waited for so many ms; then resolves to who is left.
 */
export async function detachUnchecked(path: string, ms?: number): Promise<Holder[] | undefined> {
  const { use, lasting } = await unbind(path);
  // One look in any case: it removes partitions that older kernels leave behind.
  const isGone = () => sweepDetached(use, path) || undefined;
  if (!isGone()) {
    if (ms === undefined) return undefined;
    if (!await poll(isGone, ms)) {
      const holders = await findHolders(use.number);
      // Or they are another use's, which has begun while they were looked for.
      if (!isGone()) return holders;
    }
  }
  removeLeftNodes(use.number, lasting);
  return undefined;
}

/** Gives the use that it ended, and the partitions whose nodes outlive them. */
async function unbind(path: string) {
  using device = open(path, O_RDONLY);
  const number = numberOf(path);
  const lasting = number < 0 ? [] : lastingNodes(number);
  const use = { number, backingFile: sysfsBackingFile(number), diskseq: sysfsDiskseq(number) };
  await loopClrFd(device);
  return { use, lasting };
}

/** −1 for what is no loop device: the kernel's own refusal says so. */
const numberOf = (path: string): number => unlessRefused(() => loopNumber(path), "ENOTBLK") ?? -1;

/** Changes a device, tried again where LoopDevice does. */
export async function changeUnchecked(
  path: string,
  request: (device: OpenFile) => void | Promise<void>,
): Promise<void> {
  using device = open(path, O_RDONLY);
  await changeDevice(device, request);
}
