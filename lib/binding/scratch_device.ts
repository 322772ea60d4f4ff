/**
 * A loop device with a file of our own, on which the kernel is asked what it does.
 *
 * It is the next free device, bound with LO_FLAGS_AUTOCLEAR as attach() does, so that a killed process
 * leaves no device behind. (A device of a high number of our own would stay after a SIGKILL, and
 * LOOP_CTL_GET_FREE would offer it to other programs once all lower ones are bound.) The kernel announces
 * the bind, and udev opens what is announced: `wasOpened` says whether any program has opened it.
 *
 * @module
 */
import { unlessRefused } from "../base/errors.ts";
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
  /** Whether any program has opened its node since the last question, or just before the bind. */
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
  for (const file of [device, writable]) undo.use(file);
  const watch = undo.use(watchOpeners(path));
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

/** Undefined where inotify cannot watch: without a node, or at its limit of watches. */
function watchOpeners(path: string): OpenWatch | undefined {
  return unlessRefused(() => new OpenWatch(path));
}
