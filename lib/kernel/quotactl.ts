/**
 * Whether a block device is mounted, by quotactl(2): it looks up the device's superblock, in whichever
 * mount namespace the device is mounted, with or without a directory, and with or without quotas. It claims
 * nothing, and needs neither a descriptor nor a privilege.
 *
 * It does not find file systems with device numbers of their own, such as btrfs.
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

/** If the kernel takes longer, a mount or an unmount has the superblock locked. */
const PATIENCE_MS = 1000;

/** A superblock that stays locked blocks one thread, however often it is asked for. */
const asked = new Shared<boolean | undefined>();

/** A kernel with quotas stays one. What forbids the call later makes the answer of {@linkcode ask} unknown. */
let hasQuotas = false;

/** Undefined where it cannot be known: no such node, a kernel without quotas, a seccomp filter. */
export async function hasSuperblock(path: string): Promise<boolean | undefined> {
  // A kernel with quotas answers ENODEV to a call without a device.
  hasQuotas ||= isErrno(libc().syscall(SYS("quotactl"), GET_FORMAT, 0, 0, 0), "ENODEV");
  if (!hasQuotas) return undefined;
  return await within(asked.ask(path, () => ask(path)), PATIENCE_MS, true);
}

async function ask(path: string): Promise<boolean | undefined> {
  const format = new Uint8Array(new ArrayBuffer(4));
  const result = await uninterruptedOnThread("quotactl", GET_FORMAT, cString(path), 0, format);
  if (isErrno(result, "ENODEV")) return false;
  if (result >= 0 || NO_QUOTAS.some((code) => isErrno(result, code))) return true;
  return undefined;
}

/** A mounted file system's answers without quotas: they are off, of another kind, or not implemented. */
const NO_QUOTAS = ["ESRCH", "EINVAL", "ENOSYS"] as const;
