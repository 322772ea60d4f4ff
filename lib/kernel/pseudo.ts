/**
 * File systems without stored data: the kernel generates a file's content at each read, and a write is a
 * command.
 *
 * @module
 */
import { check, type OpenFile } from "./file.ts";
import { libc } from "../runtime/libc.ts";
import { statfs } from "./mount.ts";
import { SYS } from "./syscalls.ts";

/** By their names in `<linux/magic.h>` or the kernel's source: `f_type`, and mount(8)'s name. */
export const PSEUDO: Readonly<Record<string, readonly [magic: number, name: string]>> = {
  AAFS_MAGIC: [0x5a3c69f0, "apparmorfs"],
  BINFMTFS_MAGIC: [0x42494e4d, "binfmt_misc"],
  BPF_FS_MAGIC: [0xcafe4a11, "bpf"],
  CGROUP_SUPER_MAGIC: [0x27e0eb, "cgroup"],
  CGROUP2_SUPER_MAGIC: [0x63677270, "cgroup2"],
  CONFIGFS_MAGIC: [0x62656570, "configfs"],
  DEBUGFS_MAGIC: [0x64626720, "debugfs"],
  EFIVARFS_MAGIC: [0xde5e81e4, "efivarfs"],
  FUSE_CTL_SUPER_MAGIC: [0x65735543, "fusectl"],
  MQUEUE_MAGIC: [0x19800202, "mqueue"],
  NFSD_MAGIC: [0x6e667364, "nfsd"],
  OPENPROM_SUPER_MAGIC: [0x9fa1, "openpromfs"],
  PROC_SUPER_MAGIC: [0x9fa0, "proc"],
  PSTOREFS_MAGIC: [0x6165676c, "pstore"],
  RDTGROUP_SUPER_MAGIC: [0x7655821, "resctrl"],
  SECURITYFS_MAGIC: [0x73636673, "securityfs"],
  SELINUX_MAGIC: [0xf97cff8c, "selinuxfs"],
  SMACK_MAGIC: [0x43415d53, "smackfs"],
  SYSFS_MAGIC: [0x62656572, "sysfs"],
  TRACEFS_MAGIC: [0x74726163, "tracefs"],
  XENFS_SUPER_MAGIC: [0xabba1974, "xenfs"],
};

/** One for all calls, which are synchronous. */
const buffer = statfs.buffer();
const f_type = statfs.reader(buffer);

/** `<linux/magic.h>`; devtmpfs has it, too. */
const TMPFS_MAGIC = 0x01021994;

/** `fstatfs(fd)`: the kernel's number of the file system's kind, on which an open file lies. */
export function fileSystemMagic(file: OpenFile): number {
  const result = file.call((fd) => libc().syscall(SYS("fstatfs"), fd, buffer));
  check(result, "fstatfs", file.path);
  return Number(BigInt.asUintN(32, BigInt(f_type("f_type"))));
}

/** Whether files have no storage but memory and swap. */
export const isTmpfs = (magic: number): boolean => magic === TMPFS_MAGIC;

/** Its name, if it is a pseudo file system. */
export function pseudoFileSystem(magic: number): string | undefined {
  return Object.values(PSEUDO).find(([known]) => known === magic)?.[1];
}
