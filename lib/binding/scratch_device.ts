/**
 * A loop device of our own, on which the kernel is asked what it does: nobody waits for it, and
 * nobody opens it before we have looked.
 *
 * The next free device would not do. Its uevents would be those of the device that the next attach()
 * takes, and udev, which answers them by opening it, would take part in the experiment. So it gets a
 * number far beyond those that are given out, and a node whose name only we know instead of its own;
 * afterwards it goes.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import {
  ifExists,
  listDirectory,
  makeBlockNode,
  O_RDONLY,
  open,
  type OpenFile,
  readLink,
  unlink,
} from "../kernel/file.ts";
import {
  LO_FLAGS_AUTOCLEAR,
  LO_FLAGS_READ_ONLY,
  loopConfigure,
  loopCtlAdd,
  loopCtlRemove,
} from "../kernel/loop.ts";
import { retry, type RetryPolicy } from "../base/retry.ts";
import { fileStatus } from "../kernel/stat.ts";
import { sysfsDev, sysfsMaxPart } from "../kernel/sysfs.ts";

/** A device that nothing is bound to, until {@linkcode ScratchDevice.bind}. */
export interface ScratchDevice {
  readonly number: number;
  /** Binds a file, read-only and without scanning; closing what it gives unbinds it. */
  bind(backing: OpenFile): Promise<OpenFile>;
}

/** Behind it: process id and device number, so that what a killed process left can be told. */
const OWN_NODE = /^\.loopdev-scratch-(\d+)-(\d+)$/;
const ownNode = (number: number) => `/dev/.loopdev-scratch-${readLink("/proc/self")}-${number}`;
const MINORBITS = 20;

/** EEXIST: another process has made a device of this number. */
const NUMBER_TAKEN: RetryPolicy = { codes: ["EEXIST"], tries: 64, longestPause: 0 };

/** Somebody opened it before its node was hidden, or has not been told yet that it is unbound. */
const STILL_OPEN: RetryPolicy = { codes: ["EBUSY"], tries: 64, longestPause: 50 };

/** Makes a device, lets `ask` work on it, and removes it. */
export async function withScratchDevice<T>(
  control: OpenFile,
  ask: (scratch: ScratchDevice) => Promise<T>,
): Promise<T> {
  await removeAbandoned(control);
  const number = await retry(NUMBER_TAKEN, () => loopCtlAdd(control, highNumber()));
  try {
    const path = hideNode(number);
    return await ask({ number, bind: (backing) => retry(STILL_OPEN, () => bind(path, backing)) });
  } finally {
    await remove(control, number);
  }
}

/** In the upper half of what a minor number can hold, so that no program is offered it. */
function highNumber(): number {
  const minorsEach = sysfsMaxPart() > 0 ? 32 - Math.clz32(sysfsMaxPart()) : 0;
  const half = 2 ** (MINORBITS - minorsEach - 1);
  return half + Math.floor(Math.random() * half);
}

/** Gives the device a node that only we know. Where none can be made, its own must do. */
function hideNode(number: number): string {
  const [own, usual] = [ownNode(number), `/dev/loop${number}`];
  try {
    makeBlockNode(own, sysfsDev(number));
  } catch (error) {
    // EPERM: no CAP_MKNOD. EROFS: /dev is read-only. devtmpfs has made one all the same.
    if (ifExists(() => fileStatus(usual)) === undefined) throw error;
    return usual;
  }
  tryToUnlink(usual);
  return own;
}

function bind(path: string, backing: OpenFile): OpenFile {
  const device = open(path, O_RDONLY);
  try {
    const lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_READ_ONLY;
    loopConfigure(device, backing, { info: { lo_flags } });
    return device;
  } catch (error) {
    device.close();
    throw error;
  }
}

/** The device goes first: as long as it has its node, it is found by {@linkcode removeAbandoned}. */
async function remove(control: OpenFile, number: number): Promise<void> {
  try {
    await retry(STILL_OPEN, () => loopCtlRemove(control, number));
    tryToUnlink(ownNode(number));
  } catch {
    // Still in use: whoever needs a scratch device next, when we are gone, removes it.
  }
}

/** What a process left that was killed while it asked. */
async function removeAbandoned(control: OpenFile): Promise<void> {
  for (const name of listDirectory("/dev")) {
    const [, pid, number] = OWN_NODE.exec(name) ?? [];
    if (pid === undefined || ifExists(() => fileStatus(`/proc/${pid}`))) continue;
    try {
      await loopCtlRemove(control, Number(number));
    } catch (error) {
      // EBUSY: somebody is still using it. ENODEV: only its node is left.
      if (!isRefusal(error, "ENODEV")) continue;
    }
    tryToUnlink(`/dev/${name}`);
  }
}

function tryToUnlink(path: string): void {
  try {
    unlink(path);
  } catch {
    // ENOENT: nobody made it, as in a static /dev. EROFS: it stays, a node without a device.
  }
}
