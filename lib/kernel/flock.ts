/**
 * flock(2): an advisory lock of an inode, owned by the open file description, so that two descriptors of
 * one process exclude each other.
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
 * `flock(fd, kind | LOCK_NB)`: whether the descriptor now has a lock of this kind. A lock of the other kind
 * is converted; if that fails, it is lost.
 */
export function tryFlock(file: OpenFile, kind: number): boolean {
  const result = file.call((fd) =>
    uninterrupted(() => libc().syscall(SYS("flock"), fd, kind | LOCK_NB))
  );
  return !isErrno(result, "EAGAIN") && check(result, "flock", file.path) === 0;
}
