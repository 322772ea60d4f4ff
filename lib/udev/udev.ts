/**
 * The udevd beside us: whether there is one and which, what it has written down, and having it look at a device.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { ifExists, listDirectory, O_RDONLY, open, readAt, readText } from "../kernel/file.ts";
import { type FileStatus, fileStatus } from "../kernel/stat.ts";
import { sysfsAnnounce, sysfsPartitions } from "../kernel/sysfs.ts";

const look = (path: string) => ifExists(() => fileStatus(path));

/** Whether udevd runs, or is started by whoever asks it something. */
export function udevRuns(): boolean {
  return look("/run/udev/control") !== undefined;
}

/**
 * The version of the running systemd-udevd; "unknown" if one runs out of sight (a container). It stands in
 * what systemd-udevd logs when it starts, so it stands in its program.
 */
export function udevVersion(): number | "unknown" | "none" {
  for (const pid of listDirectory("/proc").filter((name) => /^\d+$/.test(name))) {
    if (ifExists(() => readText(`/proc/${pid}/comm`)) !== "systemd-udevd") continue;
    const version = ifExists(() => {
      using program = open(`/proc/${pid}/exe`, O_RDONLY);
      const text = new TextDecoder("latin1").decode(readAt(program, 0, 16 * 1024 * 1024));
      return /(?:Starting|systemd-udevd) version (\d+)/.exec(text)?.[1];
    });
    return version === undefined ? "unknown" : Number(version);
  }
  return ifExists(() => listDirectory("/run/udev/data")) ? "unknown" : "none";
}

/** Whether it has events that it is not done with. */
export function udevIsBusy(): boolean {
  return look("/run/udev/queue") !== undefined;
}

/** Its entry for block device `dev` ("7:4"), written anew with each event. */
export function udevEntry(dev: string): FileStatus | undefined {
  return look(`/run/udev/data/b${dev}`);
}

/**
 * Announces a device or a partition again; whether that could be. It may be gone, and /sys can be
 * read-only (a container).
 */
export function announce(number: number, name: string, uuid?: string): boolean {
  try {
    sysfsAnnounce(number, name, uuid);
    return true;
  } catch (error) {
    if (isRefusal(error)) return false;
    throw error;
  }
}

/** The same for loop device `number` and all of its partitions, if udevd runs. */
export function announceAll(number: number): void {
  if (!udevRuns()) return;
  announce(number, `loop${number}`);
  for (const { name } of ifExists(() => sysfsPartitions(number)) ?? []) announce(number, name);
}
