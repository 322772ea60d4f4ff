/**
 * What this process may do, as the kernel has it.
 *
 * @module
 */
import { libc } from "../runtime/libc.ts";
import { ifExists, readText } from "./file.ts";
import { SYS } from "./syscalls.ts";

/** `<linux/capability.h>` */
const CAPABILITIES = { CAP_SYS_ADMIN: 21, CAP_MKNOD: 27 } as const;
const _LINUX_CAPABILITY_VERSION_3 = 0x20080522;

type Capability = keyof typeof CAPABILITIES;

/** struct __user_cap_header_struct: version, pid (0: the caller). */
const header = new Uint32Array(new ArrayBuffer(8));
/** Two of struct __user_cap_data_struct: effective, permitted, inheritable. */
const data = new Uint32Array(new ArrayBuffer(24));
const [headerBytes, dataBytes] = [header, data].map(({ buffer }) => new Uint8Array(buffer));

/** Whether this thread has the capability now, in its own user namespace. */
export function hasCapability(capability: Capability): boolean {
  header[0] = _LINUX_CAPABILITY_VERSION_3;
  if (libc().syscall(SYS("capget"), headerBytes, dataBytes) < 0) return false;
  return (data[0] & 1 << CAPABILITIES[capability]) !== 0;
}

/** Whether users of this process's namespace are all those of the machine. */
function isOfMachine(): boolean | undefined {
  const map = ifExists(() => readText("/proc/self/uid_map"));
  return map === undefined ? undefined : /^\s*0\s+0\s+4294967295$/.test(map);
}

/** Why the kernel may have refused what `needs` a capability. */
export function whyNotPermitted(what: string, capability: Capability): string {
  const needs = `${what} needs ${capability}`;
  if (!hasCapability(capability)) return needs;
  return isOfMachine() === false
    ? `${needs} of the machine, and this process has it in a user namespace alone (a rootless ` +
      "container?)"
    : `${needs}; this process has it, so perhaps a security module or a filter of system calls ` +
      "forbids it";
}
