/**
 * Which types are of file systems on devices. The kernel mounts "tmpfs" or "proc" whatever device it
 * is given as a source: the mount would show nothing of that device, and of proc the machine's own.
 *
 * @module
 */
import { LoopError } from "../base/errors.ts";
import { chainOnThread } from "../kernel/chain.ts";
import { cString, ifExists, readLines } from "../kernel/file.ts";

/** `<linux/mount.h>` */
const FSOPEN_CLOEXEC = 1;

/** Throws if no file system of this type has a device. A driver that is a module is loaded to know it. */
export async function refuseNodev(type: string, device: string): Promise<void> {
  const isNodev = kernelSaysNodev(type) ?? await load(type);
  if (!isNodev) return;
  const hint =
    `${type} is a file system without a device (nodev in /proc/filesystems): nothing of ` +
    `${device} would be in it`;
  throw new LoopError({ code: "EINVAL", syscall: "fsopen", path: device, hint });
}

/** undefined: the kernel has no such driver now, or there is no /proc. */
function kernelSaysNodev(type: string): boolean | undefined {
  // Of "fuse.sshfs" the kernel looks for "fuse".
  const [driver] = type.split(".");
  const lines = ifExists(() => readLines("/proc/filesystems"));
  const line = lines?.find((line) => line.split("\t")[1] === driver);
  return line?.startsWith("nodev\t");
}

async function load(type: string): Promise<boolean | undefined> {
  await chainOnThread([
    { name: "fsopen", args: [cString(type), FSOPEN_CLOEXEC] },
    { name: "close", on: 0, args: [], once: true },
  ]);
  return kernelSaysNodev(type);
}
