/**
 * Whether a file system lives on a block device, by quotactl(2): to find out whose quotas are asked for,
 * the kernel looks for the superblock of the device, in whatever mount namespace it is mounted, on a
 * directory or on none. It takes nothing for that, needs no descriptor and no privilege, and does not
 * care whether there are quotas.
 *
 * Not of a file system that has a device number of its own, as btrfs: that is asked by other ways.
 *
 * @module
 */
import { isErrno } from "../base/errors.ts";
import { Shared, within } from "../base/retry.ts";
import { libc } from "../runtime/libc.ts";
import { uninterruptedOnThread } from "./chain.ts";
import { cString } from "./file.ts";
import { SYS } from "./syscalls.ts";

/** `<linux/quota.h>` */
const Q_GETFMT = 0x800004;
const SUBCMDSHIFT = 8;
const USRQUOTA = 0;
const GET_FORMAT = ((Q_GETFMT << SUBCMDSHIFT) | USRQUOTA) >>> 0;

/** So long the kernel may take; longer, a mount or an unmount of it has the superblock locked. */
const PATIENCE_MS = 1000;

/** A superblock that stays locked keeps one thread, however often it is asked for. */
const asked = new Shared<boolean | undefined>();

/** Undefined where it cannot be known: no such node, a kernel without quotas, a seccomp filter. */
export async function hasSuperblock(path: string): Promise<boolean | undefined> {
  // Without a device: ENODEV, where there is this call.
  if (!isErrno(libc().syscall(SYS("quotactl"), GET_FORMAT, 0, 0, 0), "ENODEV")) return undefined;
  // There is one that stays locked.
  return await within(asked.ask(path, () => ask(path)), PATIENCE_MS, true);
}

async function ask(path: string): Promise<boolean | undefined> {
  const format = new Uint8Array(new ArrayBuffer(4));
  const result = await uninterruptedOnThread("quotactl", GET_FORMAT, cString(path), 0, format);
  if (isErrno(result, "ENODEV")) return false;
  // What the file system says: no quotas are on, of that kind there are none, or of none at all.
  const isAnswered = result >= 0 || ANSWERS.some((code) => isErrno(result, code));
  return isAnswered || undefined;
}

const ANSWERS = ["ESRCH", "EINVAL", "ENOSYS"] as const;
