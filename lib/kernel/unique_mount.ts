/**
 * Mounts by numbers that the kernel gives once until the machine is started again: Linux 6.8. Those of mountinfo
 * it gives to later mounts, the lowest free one first.
 *
 * @module
 */
import { isErrno } from "../base/errors.ts";
import { __u32, __u64, struct } from "../base/struct.ts";
import { libc } from "../runtime/libc.ts";
import { check, cString, type OpenFile } from "./file.ts";
import { AT_EMPTY_PATH, statx } from "./stat.ts";
import { SYS } from "./syscalls.ts";

/** `<linux/stat.h>` */
const STATX_MNT_ID_UNIQUE = 0x4000;

/** `<linux/mount.h>`: its first version. */
export const mnt_id_req = struct("mnt_id_req", 24, {
  size: __u32,
  __spare0: __u32,
  mnt_id: __u64,
  param: __u64,
});
/** The kernel writes less to a smaller one. */
const STATMOUNT_SIZE = 64;

const NO_NAME = cString("");

/** That of the mount that an open file lies in; undefined before Linux 6.8. */
export function uniqueMountIdOf(file: OpenFile): bigint | undefined {
  const buffer = statx.buffer();
  const result = file.call((fd) =>
    libc().syscall(SYS("statx"), fd, NO_NAME, AT_EMPTY_PATH, STATX_MNT_ID_UNIQUE, buffer)
  );
  check(result, "statx", file.path);
  const read = statx.reader(buffer);
  return read("stx_mask") & STATX_MNT_ID_UNIQUE ? read("stx_mnt_id") : undefined;
}

/** False where this mount namespace has no such mount; true also where that cannot be asked. */
export function mayBeMounted(unique: bigint): boolean {
  const request = mnt_id_req.buffer();
  mnt_id_req.write(request, { size: mnt_id_req.size, mnt_id: unique });
  const answer = new Uint8Array(new ArrayBuffer(STATMOUNT_SIZE));
  const result = libc().syscall(SYS("statmount"), request, answer, answer.length, 0);
  return !isErrno(result, "ENOENT");
}
