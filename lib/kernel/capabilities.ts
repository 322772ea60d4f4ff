/**
 * Which capabilities this process has.
 *
 * @module
 */
import { toExplain } from "../base/errors.ts";
import { libc } from "../runtime/libc.ts";
import { readText } from "./file.ts";
import { SYS } from "./syscalls.ts";

/** `<linux/capability.h>` */
const CAPABILITIES = { CAP_SYS_ADMIN: 21, CAP_SYS_RESOURCE: 24, CAP_MKNOD: 27 } as const;
const _LINUX_CAPABILITY_VERSION_3 = 0x20080522;

type Capability = keyof typeof CAPABILITIES;

/** struct __user_cap_header_struct: version, pid (0: the caller). */
const header = new Uint32Array(new ArrayBuffer(8));
/** Two of struct __user_cap_data_struct: effective, permitted, inheritable. */
const data = new Uint32Array(new ArrayBuffer(24));
const [headerBytes, dataBytes] = [header, data].map(({ buffer }) => new Uint8Array(buffer));

/** Whether this thread has the capability in effect, in its own user namespace. */
export function hasCapability(capability: Capability): boolean {
  header[0] = _LINUX_CAPABILITY_VERSION_3;
  if (libc().syscall(SYS("capget"), headerBytes, dataBytes) < 0) return false;
  return (data[0] & 1 << CAPABILITIES[capability]) !== 0;
}

/** A hint at why the kernel refused `what`, which needs a capability. */
export function whyNotPermitted(what: string, capability: Capability): string {
  const needs = `${what} needs ${capability}`;
  if (!hasCapability(capability)) return needs;
  const map = toExplain(() => readText("/proc/self/uid_map"));
  const isMachinesNamespace = map === undefined || /^\s*0\s+0\s+4294967295$/.test(map);
  return isMachinesNamespace
    ? `${needs}; this process has it, so perhaps a security module or a filter of system calls ` +
      "forbids it"
    : `${needs} in the machine's own user namespace, and this process has it only in another one ` +
      "(a rootless container?)";
}
