/**
 * Making and removing entries of directories by descriptor: a descriptor stays with its directory when
 * that is renamed or something is mounted over it.
 *
 * @module
 */
import { isErrno } from "../base/errors.ts";
import { libc } from "../runtime/libc.ts";
import { uninterruptedOnThread } from "./chain.ts";
import { AT_FDCWD, check, cString, O_CLOEXEC, O_RDONLY, OpenFile, uninterrupted } from "./file.ts";
import { openFlag, SYS } from "./syscalls.ts";

export const AT_REMOVEDIR = 0x200;
const S_IFREG = 0o100000;

/** `openat(parent, name, O_DIRECTORY | O_NOFOLLOW)`; without a parent `name` is a path. */
export function openDirectory(name: string, parent?: OpenFile): OpenFile {
  const flags = O_RDONLY | O_CLOEXEC | openFlag("O_DIRECTORY") | openFlag("O_NOFOLLOW");
  const path = parent ? `${parent.path}/${name}` : name;
  const open = (fd: number) =>
    uninterrupted(() => libc().syscall(SYS("openat"), fd, cString(name), flags, 0));
  return new OpenFile(check(parent ? parent.call(open) : open(AT_FDCWD), "open", path), path);
}

/** `mkdirat(parent, name, mode)`: 0 or −errno. */
export function makeDirectory(name: string, parent?: OpenFile, mode = 0o700): number {
  const make = (fd: number) => libc().syscall(SYS("mkdirat"), fd, cString(name), mode);
  return parent ? parent.call(make) : make(AT_FDCWD);
}

/** `fchown(directory, uid, gid)`, then `fchmod(directory, mode)`. */
export function giveDirectory(
  directory: OpenFile,
  { uid, gid }: { uid: number; gid: number },
  mode: number,
): void {
  const { path } = directory;
  const give = (fd: number) => libc().syscall(SYS("fchown"), fd, uid, gid);
  check(directory.call(give), "fchown", path);
  check(directory.call((fd) => libc().syscall(SYS("fchmod"), fd, mode)), "fchmod", path);
}

/** `mknodat(parent, name, S_IFREG)`: an empty file. */
export function makeEmptyFile(name: string, parent: OpenFile): void {
  const result = parent.call((fd) =>
    libc().syscall(SYS("mknodat"), fd, cString(name), S_IFREG | 0o600, 0)
  );
  check(result, "mknod", `${parent.path}/${name}`);
}

/** `unlinkat(parent, name, 0)`; errors are ignored. */
export function removeFile(name: string, parent: OpenFile): void {
  parent.call((fd) => libc().syscall(SYS("unlinkat"), fd, cString(name), 0));
}

/**
 * `unlinkat(parent, name, AT_REMOVEDIR)`: whether the directory is gone. A mount on it in this namespace is
 * EBUSY; mounts on it in other namespaces are unmounted, which can write back, so another thread does it.
 */
export async function removeDirectory(name: string, parent: OpenFile): Promise<boolean> {
  const result = await parent.callOnThread((fd) =>
    uninterruptedOnThread("unlinkat", fd, cString(name), AT_REMOVEDIR)
  );
  return result === 0 || isErrno(result, "ENOENT");
}

/** The same at once, of a directory of ours on which nothing can be mounted yet. */
export function removeNewDirectory(name: string, parent: OpenFile): boolean {
  const result = parent.call((fd) =>
    libc().syscall(SYS("unlinkat"), fd, cString(name), AT_REMOVEDIR)
  );
  return result === 0 || isErrno(result, "ENOENT");
}
