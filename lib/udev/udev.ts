/**
 * The udevd of this machine or container: whether there is one and which, what it has recorded, and
 * having it examine a device.
 *
 * @module
 */
import { unlessRefused } from "../base/errors.ts";
import {
  ifAllowed,
  ifExists,
  listDirectory,
  O_RDONLY,
  open,
  readAt,
  readText,
} from "../kernel/file.ts";
import { type FileStatus, fileStatus } from "../kernel/stat.ts";
import { sysfsAnnounce, sysfsPartitions } from "../kernel/sysfs.ts";

const look = (path: string) => ifExists(() => fileStatus(path));

/** Whether udevd runs, or systemd would start it on demand. */
export function udevRuns(): boolean {
  return look("/run/udev/control") !== undefined;
}

/**
 * The version of the running systemd-udevd; "unknown" if one runs out of sight (a container). Read from the
 * program itself, which contains the line that it logs when it starts.
 */
export function udevVersion(): number | "unknown" | "none" {
  for (const pid of listDirectory("/proc").filter((name) => /^\d+$/.test(name))) {
    // ESRCH: it ended between the open and the read.
    if (ifAllowed(() => readText(`/proc/${pid}/comm`)) !== "systemd-udevd") continue;
    const version = ifAllowed(() => {
      using program = open(`/proc/${pid}/exe`, O_RDONLY);
      const text = new TextDecoder("latin1").decode(readAt(program, 0, 16 * 1024 * 1024));
      return /(?:Starting|systemd-udevd) version (\d+)/.exec(text)?.[1];
    });
    return version === undefined ? "unknown" : Number(version);
  }
  return ifExists(() => listDirectory("/run/udev/data")) ? "unknown" : "none";
}

/** Whether udevd has unfinished events. */
export function udevIsBusy(): boolean {
  return look("/run/udev/queue") !== undefined;
}

/** Its database entry for block device `dev` ("7:4"), which it replaces at each event. */
export function udevEntry(dev: string): FileStatus | undefined {
  return look(`/run/udev/data/b${dev}`);
}

/** Has the kernel announce a device or partition again; false if it is gone or /sys is read-only. */
export function announce(number: number, name: string, uuid?: string): boolean {
  const asked = () => {
    sysfsAnnounce(number, name, uuid);
    return true;
  };
  return unlessRefused(asked) ?? false;
}

/** If udevd runs: announces loop device `number` and its partitions again. */
export function announceAll(number: number): void {
  if (!udevRuns()) return;
  announce(number, `loop${number}`);
  for (const { name } of ifExists(() => sysfsPartitions(number)) ?? []) announce(number, name);
}
