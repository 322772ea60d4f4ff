/**
 * Mounts that have no directory, Linux 5.2: fsopen → fsconfig → fsmount. What fsmount() gives owns
 * the mount: when the last reference to that descriptor is gone, SIGKILL included, so is the mount.
 * Each call is made by another thread: the driver may have to be loaded, a journal be replayed, and
 * whoever mounts something else at that time holds the same locks.
 *
 * @module
 */
import { AT_FDCWD, check, cString, O_CLOEXEC, O_RDONLY, OpenFile } from "./file.ts";
import { decodeName } from "../base/names.ts";
import { __u64, array, int, long_long, struct } from "../base/struct.ts";
import { libc } from "../runtime/libc.ts";
import { SYS } from "./system.ts";
import { uninterruptedLater } from "./waiting.ts";

const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
/** glibc's `<sys/mount.h>`. */
const MNT_DETACH = 2;

/** Of a mount, not of the file system; `<linux/mount.h>`. */
export const MOUNT_ATTR_RDONLY = 0x1;
export const MOUNT_ATTR_NOSUID = 0x2;
export const MOUNT_ATTR_NODEV = 0x4;
export const MOUNT_ATTR_NOEXEC = 0x8;
export const MOUNT_ATTR_NOATIME = 0x10;
export const MOUNT_ATTR_STRICTATIME = 0x20;
export const MOUNT_ATTR_NODIRATIME = 0x80;
/** Linux 5.14. */
export const MOUNT_ATTR_NOSYMFOLLOW = 0x200000;

const NO_NAME = cString("");

/** `<asm-generic/statfs.h>`, where __kernel_long_t has 64 bits. */
export const statfs = struct("statfs", 120, {
  f_type: long_long,
  f_bsize: long_long,
  f_blocks: __u64,
  f_bfree: __u64,
  f_bavail: __u64,
  f_files: __u64,
  f_ffree: __u64,
  f_fsid: array(int, 2),
  f_namelen: long_long,
  f_frsize: long_long,
  f_flags: long_long,
  f_spare: array(long_long, 4),
});
const ST_RDONLY = 1n;

/** `fsopen(type)`: a file system to be, of what is on `device`. */
export async function fsopen(type: string, device: string): Promise<OpenFile> {
  const fd = await uninterruptedLater("fsopen", cString(type), FSOPEN_CLOEXEC);
  return new OpenFile(check(fd, "fsopen", device), device);
}

/** One option of it: `name`, or `name=value`. */
export async function fsconfigSet(
  context: OpenFile,
  name: string,
  value: string | undefined,
): Promise<void> {
  const result = await context.callLater((fd) =>
    value === undefined
      ? uninterruptedLater("fsconfig", fd, FSCONFIG_SET_FLAG, cString(name), 0, 0)
      : uninterruptedLater("fsconfig", fd, FSCONFIG_SET_STRING, cString(name), cString(value), 0)
  );
  const request = value === undefined ? "FSCONFIG_SET_FLAG" : "FSCONFIG_SET_STRING";
  check(result, "fsconfig", context.path, request);
}

/** Reads the superblock, replays the journal. Never made twice: a context that failed is of no use. */
export async function fsconfigCreate(context: OpenFile): Promise<void> {
  const result = await context.callLater((fd) =>
    libc().later(SYS("fsconfig"), fd, FSCONFIG_CMD_CREATE, 0, 0, 0)
  );
  check(result, "fsconfig", context.path, "FSCONFIG_CMD_CREATE");
}

/** `fsmount(context, attributes)`: the mount. */
export async function fsmount(context: OpenFile, attributes: number): Promise<OpenFile> {
  const fd = await context.callLater((fd) =>
    uninterruptedLater("fsmount", fd, FSMOUNT_CLOEXEC, attributes)
  );
  return new OpenFile(check(fd, "fsmount", context.path), context.path);
}

/** The root directory of a mount: what fsmount() gives is O_PATH, and of no use to syncfs(). */
export async function openRoot(mount: OpenFile): Promise<OpenFile> {
  const fd = await mount.callLater((fd) =>
    uninterruptedLater("openat", fd, cString("."), O_RDONLY | O_CLOEXEC, 0)
  );
  return new OpenFile(check(fd, "open", mount.path), mount.path);
}

/** Whether a file system takes no writes: some never do, whatever they were asked for. */
export async function isReadOnly(root: OpenFile): Promise<boolean> {
  const buffer = statfs.buffer();
  const result = await root.callLater((fd) => uninterruptedLater("fstatfs", fd, buffer));
  check(result, "fstatfs", root.path);
  return (statfs.reader(buffer)("f_flags") & ST_RDONLY) !== 0n;
}

/** Gives a mount a directory: from now on it is no longer its descriptor's. */
export async function moveMount(mount: OpenFile, directory: string): Promise<void> {
  const result = await mount.callLater((fd) =>
    uninterruptedLater(
      ...[
        "move_mount",
        fd,
        NO_NAME,
        AT_FDCWD,
        cString(directory),
        MOVE_MOUNT_F_EMPTY_PATH,
      ] as const,
    )
  );
  check(result, "move_mount", directory);
}

/** Takes a mount from its directory, whoever uses it, and just this one, whatever lies over it. */
export async function unmountFrom(mount: OpenFile, directory: string): Promise<void> {
  const result = await mount.callLater((fd) =>
    uninterruptedLater("umount2", cString(`/proc/self/fd/${fd}`), MNT_DETACH)
  );
  check(result, "umount2", directory);
}

/** Writes all of a file system back; from Linux 5.8 on an error if any of it failed since the open. */
export async function syncfs(root: OpenFile): Promise<void> {
  const result = await root.callLater((fd) => uninterruptedLater("syncfs", fd));
  check(result, "syncfs", root.path);
}

const message = new Uint8Array(new ArrayBuffer(1024));

/** What the file system said: "ext4: Unknown parameter 'x'". The kernel keeps the last eight. */
export function readLog(context: OpenFile): string[] {
  const lines: string[] = [];
  for (;;) {
    const length = context.call((fd) => libc().now(SYS("read"), fd, message, message.length));
    // ENODATA: no more.
    if (length <= 0) return lines;
    // "e " an error, "w " a warning, "i " an information.
    lines.push(decodeName(message.subarray(0, length)).replace(/^[ewi] /, "").trim());
  }
}
