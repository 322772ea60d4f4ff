/** Takes away what part "interleave" has mounted and attached, by what the kernel shows. */
import { closeSync, openSync } from "node:fs";
import { bound, run } from "../tests/support/support.ts";
import { mountInfo, type MountLine, sysfs } from "./seen.ts";

/** More than any program lays on one another. */
const MOST_MOUNTS = 1000;

/** Numbers of the devices that are bound to files of ours. */
export function devicesOfOurs(isOurs: (path: string) => boolean): number[] {
  return bound(isOurs).map((name) => Number(name.slice("loop".length)));
}

/** Mounts of these devices and on paths of ours, and what lies on these; each after what it lies on. */
export function mountsOfOurs(isOurs: (path: string) => boolean): MountLine[] {
  const devices = new Set(devicesOfOurs(isOurs));
  const ids = new Set<number>();
  return mountInfo().filter(({ id, parent, point, source }) => {
    const number = Number(/^\/dev\/loop(\d+)(p\d+)?$/.exec(source)?.[1] ?? NaN);
    const is = devices.has(number) || isOurs(point) || ids.has(parent);
    if (is) ids.add(id);
    return is;
  });
}

/** What was there, in words; nothing of it is, when it returns. */
export function tidy(isOurs: (path: string) => boolean): string[] {
  const found: string[] = [];
  for (let n = 0; n < MOST_MOUNTS; n++) {
    const all = mountsOfOurs(isOurs);
    const last = all.at(-1);
    if (!last) break;
    found.push(`a mount on ${last.point}`);
    // Whoever mounts over it at this very moment is one of ours.
    if (run(["umount", last.point]).status !== 0) run(["umount", "-l", last.point]);
  }
  for (const number of devicesOfOurs(isOurs)) {
    const file = detach(number, isOurs);
    if (file !== undefined) found.push(`/dev/loop${number} of ${file}`);
  }
  return found;
}

/** Detaches it, if it is ours still: while it is open here nobody can bind another file to it. */
function detach(number: number, isOurs: (path: string) => boolean): string | undefined {
  const node = `/dev/loop${number}`;
  const fd = openSync(node, "r");
  try {
    const file = sysfs(number, "loop/backing_file");
    if (file === undefined || !isOurs(file)) return undefined;
    run(["losetup", "--detach", node]);
    return file;
  } finally {
    closeSync(fd);
  }
}
