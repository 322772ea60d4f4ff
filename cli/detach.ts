/**
 * Detaching, with and without waiting for the kernel to let go.
 *
 * @module
 */
import { isRefusal } from "../lib/base/errors.ts";
import { isDetached } from "../lib/detached.ts";
import { O_RDONLY, O_RDWR, open } from "../lib/kernel/file.ts";
import { describeHolders, findHolders } from "../lib/holders.ts";
import { loopClrFd, loopCtlRemove } from "../lib/kernel/loop.ts";
import { poll } from "../lib/base/retry.ts";
import { loopNumber } from "../lib/status.ts";
import { sysfsBackingFile, sysfsDiskseq } from "../lib/kernel/sysfs.ts";
import type { Command } from "./command.ts";
import { Failure } from "./failure.ts";

/**
 * Detaches the device at `path`; the kernel does it later if the device is in use, and only `wait`
 * waits for that.
 */
export async function detachDevice(path: string, { wait, timeout }: Command): Promise<void> {
  let isGone: () => boolean;
  let number: number;
  try {
    using device = open(path, O_RDONLY);
    number = numberOf(device.path);
    const use = { number, backingFile: sysfsBackingFile(number), diskseq: sysfsDiskseq(number) };
    isGone = () => isDetached(use, path, true);
    await loopClrFd(device);
  } catch (error) {
    throw new Failure(`${path}: detach failed`, error);
  }
  // One look in any case: it removes partitions that older kernels leave behind.
  if (isGone() || !wait || await poll(() => isGone() || undefined, timeout)) return;
  const who = describeHolders(await findHolders(number)) || "somebody out of sight";
  throw new Failure(
    `${path}: still in use after ${timeout} ms (${who}); it goes with its last user`,
  );
}

/** −1 for what is no loop device: the kernel's own refusal says so. */
function numberOf(path: string): number {
  try {
    return loopNumber(path);
  } catch (error) {
    if (!isRefusal(error, "ENOTBLK")) throw error;
    return -1;
  }
}

/** Removes the device itself; its number is in its name. */
export async function removeDevice(path: string): Promise<void> {
  const [, digits] = /\/(?:loop)?(\d+)[^/]*$/.exec(path) ?? [];
  if (digits === undefined) throw new Failure(`${path}: remove failed: Invalid argument`);
  try {
    using control = open("/dev/loop-control", O_RDWR);
    await loopCtlRemove(control, Number(digits));
  } catch (error) {
    throw new Failure(`${path}: remove failed`, error);
  }
}
