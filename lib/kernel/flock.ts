/**
 * flock(2): a lock of an inode, owned by the open file description, advisory. Two descriptors of one
 * process exclude each other like those of two.
 *
 * @module
 */
import { isErrno } from "../base/errors.ts";
import { check, type OpenFile, uninterrupted } from "./file.ts";
import { libc } from "../runtime/libc.ts";
import { SYS } from "./syscalls.ts";

export const LOCK_SH = 1;
export const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * `flock(fd, kind | LOCK_NB)`: whether the descriptor has a lock of this kind now. One that has the
 * other kind is converted: in one step if it can be, and if not, what it had is lost.
 */
export function tryFlock(file: OpenFile, kind: number): boolean {
  const result = file.call((fd) =>
    uninterrupted(() => libc().syscall(SYS("flock"), fd, kind | LOCK_NB))
  );
  return !isErrno(result, "EAGAIN") && check(result, "flock", file.path) === 0;
}
