/**
 * fcntl(2)'s locks of an open file description (F_OFD_SETLK): an advisory lock of one byte of an inode,
 * which may lie beyond the file's end. They are independent of flock(2)'s locks, which users and udev take
 * for their own purposes, and work on read-only files, block devices and NFS.
 *
 * @module
 */
import { isErrno } from "../base/errors.ts";
import { AT_FDCWD, check, cString, O_CLOEXEC, O_RDONLY, OpenFile } from "./file.ts";
import { chainOnThread, type NamedStep, uninterruptedOnThread } from "./chain.ts";
import { __u16, int, long_long, struct } from "../base/struct.ts";

const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;

/** `<asm-generic/fcntl.h>` */
export const flock = struct("flock", 32, {
  l_type: __u16,
  l_whence: __u16,
  l_start: long_long,
  l_len: long_long,
  l_pid: int,
});

const ofByte = (l_type: number, at: bigint) => flock.encode({ l_type, l_start: at, l_len: 1n });

/**
 * The same file by a file description of its own, for reading. A lock of it ends with this process, while
 * the loop driver keeps the description of `file`.
 */
export async function openAgain(file: OpenFile): Promise<OpenFile> {
  const fd = await file.callOnThread((fd) => {
    const name = cString(`/proc/self/fd/${fd}`);
    return uninterruptedOnThread("openat", AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
  });
  return new OpenFile(check(fd, "open", `/proc/self/fd of ${file.path}`), file.path);
}

/**
 * Tries to lock byte `at` for this description alone. A write lock needs a file open for writing (EBADF), so
 * everybody takes a read lock and then looks for others: two at the same moment can both get `false`,
 * never both `true`. By another thread, since the file may lie on a network.
 */
export async function tryLockAlone(file: OpenFile, at: bigint): Promise<boolean> {
  const other = ofByte(F_WRLCK, at);
  const [locked, looked] = await file.callOnThread((fd) => {
    const step = (command: number, buffer: Uint8Array): NamedStep => ({
      name: "fcntl",
      args: [fd, command, buffer],
    });
    return chainOnThread([step(F_OFD_SETLK, ofByte(F_RDLCK, at)), step(F_OFD_GETLK, other)]);
  });
  // Somebody has a write lock: fcntl(2) names both codes.
  if (isErrno(locked, "EAGAIN") || isErrno(locked, "EACCES")) return false;
  check(locked, "fcntl", file.path, "F_OFD_SETLK");
  check(looked, "fcntl", file.path, "F_OFD_GETLK");
  if (flock.reader(other)("l_type") === F_UNLCK) return true;
  await file.callOnThread((fd) =>
    uninterruptedOnThread("fcntl", fd, F_OFD_SETLK, ofByte(F_UNLCK, at))
  );
  return false;
}
