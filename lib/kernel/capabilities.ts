/**
 * What this process may do.
 *
 * @module
 */
import { libc } from "../runtime/libc.ts";
import { SYS } from "./system.ts";

/** `<linux/capability.h>` */
const CAP_SYS_ADMIN = 21;
const _LINUX_CAPABILITY_VERSION_3 = 0x20080522;

/** struct __user_cap_header_struct: version, pid (0: the caller). */
const header = new Uint32Array(new ArrayBuffer(8));
/** Two of struct __user_cap_data_struct: effective, permitted, inheritable. */
const data = new Uint32Array(new ArrayBuffer(24));
const [headerBytes, dataBytes] = [header, data].map(({ buffer }) => new Uint8Array(buffer));

/** Whether this thread has CAP_SYS_ADMIN now. */
export function hasSysAdmin(): boolean {
  header[0] = _LINUX_CAPABILITY_VERSION_3;
  if (libc().now(SYS("capget"), headerBytes, dataBytes) < 0) return false;
  return (data[0] & 1 << CAP_SYS_ADMIN) !== 0;
}
