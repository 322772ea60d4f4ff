/**
 * Requests of `<linux/fs.h>` that go to a mounted file system as a whole, by any open file of it. Another
 * thread makes them: they write back, or wait for the disk.
 *
 * @module
 */
import { __u64, struct } from "../base/struct.ts";
import { ioctlOnThread } from "./blocking.ts";
import type { OpenFile } from "./file.ts";

const FIFREEZE = 0xc0045877;
const FITHAW = 0xc0045878;
const FITRIM = 0xc0185879;

export const fstrim_range = struct("fstrim_range", 24, { start: __u64, len: __u64, minlen: __u64 });
const ALL = 2n ** 64n - 1n;

/**
 * `ioctl(fd, FIFREEZE)`: writes everything back; whoever writes then waits until FITHAW. It belongs to no
 * descriptor and no process: only FITHAW ends it. EBUSY if it is frozen already.
 */
export async function fiFreeze(file: OpenFile): Promise<void> {
  await ioctlOnThread(file, "FIFREEZE", FIFREEZE);
}

/** `ioctl(fd, FITHAW)`: EINVAL if it is not frozen. */
export async function fiThaw(file: OpenFile): Promise<void> {
  await ioctlOnThread(file, "FITHAW", FITHAW);
}

/** `ioctl(fd, FITRIM)` of everything: the bytes that the file system has discarded. */
export async function fiTrim(file: OpenFile): Promise<number> {
  const range = fstrim_range.buffer();
  fstrim_range.write(range, { start: 0n, len: ALL, minlen: 0n });
  await ioctlOnThread(file, "FITRIM", FITRIM, range);
  return Number(fstrim_range.reader(range)("len"));
}
