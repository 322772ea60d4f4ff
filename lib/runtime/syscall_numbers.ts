/**
 * The numbers of system calls, which differ between the machines.
 *
 * @module
 */
import type { Machine } from "./contract.ts";

/**
 * `<asm/unistd.h>`: calls by number, which other threads make, or which older libcs lack: musl has statx()
 * since 1.2.5, and a missing symbol would keep the whole library from being loaded.
 */
export const SYSCALLS = {
  read: { x86_64: 0, aarch64: 63 },
  lseek: { x86_64: 8, aarch64: 62 },
  ioctl: { x86_64: 16, aarch64: 29 },
  pread64: { x86_64: 17, aarch64: 67 },
  pwrite64: { x86_64: 18, aarch64: 68 },
  ftruncate: { x86_64: 77, aarch64: 46 },
  write: { x86_64: 1, aarch64: 64 },
  rt_sigaction: { x86_64: 13, aarch64: 134 },
  getpid: { x86_64: 39, aarch64: 172 },
  kill: { x86_64: 62, aarch64: 129 },
  wait4: { x86_64: 61, aarch64: 260 },
  inotify_add_watch: { x86_64: 254, aarch64: 27 },
  inotify_init1: { x86_64: 294, aarch64: 26 },
  socket: { x86_64: 41, aarch64: 198 },
  bind: { x86_64: 49, aarch64: 200 },
  fcntl: { x86_64: 72, aarch64: 25 },
  flock: { x86_64: 73, aarch64: 32 },
  fsync: { x86_64: 74, aarch64: 82 },
  sync_file_range: { x86_64: 277, aarch64: 84 },
  capget: { x86_64: 125, aarch64: 90 },
  close: { x86_64: 3, aarch64: 57 },
  fchmod: { x86_64: 91, aarch64: 52 },
  fchown: { x86_64: 93, aarch64: 55 },
  quotactl: { x86_64: 179, aarch64: 60 },
  fstatfs: { x86_64: 138, aarch64: 44 },
  umount2: { x86_64: 166, aarch64: 39 },
  openat: { x86_64: 257, aarch64: 56 },
  mkdirat: { x86_64: 258, aarch64: 34 },
  mknodat: { x86_64: 259, aarch64: 33 },
  unlinkat: { x86_64: 263, aarch64: 35 },
  symlinkat: { x86_64: 266, aarch64: 36 },
  readlinkat: { x86_64: 267, aarch64: 78 },
  fchmodat: { x86_64: 268, aarch64: 53 },
  ppoll: { x86_64: 271, aarch64: 73 },
  pipe2: { x86_64: 293, aarch64: 59 },
  getdents64: { x86_64: 217, aarch64: 61 },
  syncfs: { x86_64: 306, aarch64: 267 },
  uname: { x86_64: 63, aarch64: 160 },
  memfd_create: { x86_64: 319, aarch64: 279 },
  statx: { x86_64: 332, aarch64: 291 },
  move_mount: { x86_64: 429, aarch64: 429 },
  fsopen: { x86_64: 430, aarch64: 430 },
  fsconfig: { x86_64: 431, aarch64: 431 },
  fsmount: { x86_64: 432, aarch64: 432 },
  pidfd_send_signal: { x86_64: 424, aarch64: 424 },
  pidfd_open: { x86_64: 434, aarch64: 434 },
  open_tree: { x86_64: 428, aarch64: 428 },
  openat2: { x86_64: 437, aarch64: 437 },
  mount_setattr: { x86_64: 442, aarch64: 442 },
  cachestat: { x86_64: 451, aarch64: 451 },
  statmount: { x86_64: 457, aarch64: 457 },
} satisfies Record<string, Record<Machine, number>>;

/** What aarch64 does not have: there unlink(3) is unlinkat(), and readlink(3) is readlinkat(). */
export const X86_64 = { unlink: 87, readlink: 89 };
