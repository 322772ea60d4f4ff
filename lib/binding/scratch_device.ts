/**
 * A loop device with a file of our own, on which the kernel is asked what it does.
 *
 * It is the next free one, bound and let go as attach() does it: a killed process leaves nothing but that.
 * (A device with a number of its own, far beyond the others, would be offered to everybody by
 * LOOP_CTL_GET_FREE while it is not bound, as soon as all others are, and stay after a SIGKILL.) The kernel
 * announces what happens to it, and udev opens whatever is announced: so who asks is told whether anybody
 * has.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { O_RDWR, open, type OpenFile } from "../kernel/file.ts";
import {
  LO_FLAGS_AUTOCLEAR,
  LO_FLAGS_READ_ONLY,
  loopConfigure,
  loopCtlGetFree,
} from "../kernel/loop.ts";
import { OpenWatch } from "../kernel/open_watch.ts";
import { removeStalePartitions } from "./removal.ts";
import { retry, type RetryPolicy } from "../base/retry.ts";
import { sysfsDev } from "../kernel/sysfs.ts";
import { openUnwatched } from "../udev/close_write_race.ts";

/** Closing it unbinds it. */
export interface ScratchDevice extends Disposable {
  readonly device: OpenFile;
  readonly number: number;
  /** Whether anybody has opened it by its node since the last question, or just before the bind. */
  readonly wasOpened: boolean;
}

/** Another process bound the device that we were offered, or removed it. */
const LOST_RACE: RetryPolicy = {
  codes: ["EBUSY", "ENXIO", "ENODEV", "ENOENT"],
  tries: 16,
  longestPause: 20,
};

/** Binds a file to a free device, read-only and without scanning. */
export async function bindScratchDevice(backing: OpenFile): Promise<ScratchDevice> {
  using control = open("/dev/loop-control", O_RDWR);
  return await retry(LOST_RACE, () => bind(loopCtlGetFree(control), backing));
}

function bind(number: number, backing: OpenFile): ScratchDevice {
  const path = `/dev/loop${number}`;
  using undo = new DisposableStack();
  removeStalePartitions(path, number);
  const { device, writable } = openUnwatched(path, sysfsDev(number));
  for (const file of [device, writable]) if (file) undo.use(file);
  const watch = watchOpeners(path);
  if (watch) undo.use(watch);
  const lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_READ_ONLY;
  loopConfigure(writable ?? device, backing, { info: { lo_flags } });
  const kept = undo.move();
  return {
    device,
    number,
    get wasOpened() {
      return watch?.wasOpened ?? false;
    },
    [Symbol.dispose]: () => kept.dispose(),
  };
}

/** Where there is no node nobody opens one, and where nothing can be watched we do without. */
function watchOpeners(path: string): OpenWatch | undefined {
  try {
    return new OpenWatch(path);
  } catch (error) {
    if (isRefusal(error)) return undefined;
    throw error;
  }
}
