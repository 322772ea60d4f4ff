/**
 * File systems without a device. The kernel mounts "tmpfs" or "proc" whatever device it is given as the
 * source: the mount would show nothing of that device, and of proc the machine's own processes.
 *
 * @module
 */
import { LoopError } from "../base/errors.ts";
import { chainOnThread } from "../kernel/chain.ts";
import { cString, ifExists, readLines } from "../kernel/file.ts";

/** `<linux/mount.h>` */
const FSOPEN_CLOEXEC = 1;

/** Throws if a file system of this type has no device. May load its driver's module to find out. */
export async function refuseNodev(type: string, device: string): Promise<void> {
  let isNodev = kernelSaysNodev(type);
  if (isNodev === undefined) {
    await loadDriver(type);
    isNodev = kernelSaysNodev(type);
  }
  if (!isNodev) return;
  const hint =
    `${type} is a file system without a device (nodev in /proc/filesystems): nothing of ` +
    `${device} would be in it`;
  throw new LoopError({ code: "EINVAL", path: device, hint });
}

/** undefined: the kernel has no such driver yet, or there is no /proc. */
function kernelSaysNodev(type: string): boolean | undefined {
  // Of "fuse.sshfs" the kernel looks for "fuse".
  const [driver] = type.split(".");
  const lines = ifExists(() => readLines("/proc/filesystems"));
  const line = lines?.find((line) => line.split("\t")[1] === driver);
  return line?.startsWith("nodev\t");
}

/** fsopen() has the kernel load a driver that is a module. */
async function loadDriver(type: string): Promise<void> {
  await chainOnThread([
    { name: "fsopen", args: [cString(type), FSOPEN_CLOEXEC] },
    { name: "close", on: 0, args: [], once: true },
  ]);
}
