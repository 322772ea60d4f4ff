/**
 * The kernel's numbers and layouts, as the library has them, beside the kernel's headers of both
 * machines. The tables here are what the headers say, so that a machine without compilers checks too;
 * a compiler checks the tables.
 */
import { assert, assertEquals } from "@std/assert";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { blkpg_ioctl_arg, blkpg_partition } from "../lib/kernel/block.ts";
import { btrfs_ioctl_dev_info_args, btrfs_ioctl_vol_args } from "../lib/kernel/growth.ts";
import { flock } from "../lib/kernel/record_lock.ts";
import { loop_config, loop_info64 } from "../lib/kernel/loop.ts";
import { mount_attr, statfs } from "../lib/kernel/mount.ts";
import { fstrim_range } from "../lib/kernel/super_block.ts";
import { PSEUDO } from "../lib/kernel/pseudo.ts";
import { statx } from "../lib/kernel/stat.ts";
import { mnt_id_req } from "../lib/kernel/unique_mount.ts";
import type { Struct } from "../lib/base/struct.ts";
import { INSTRUCTIONS } from "../lib/runtime/deno_threads.ts";
import { OPEN_FLAGS } from "../lib/kernel/syscalls.ts";
import { SYSCALLS, X86_64 } from "../lib/runtime/syscall_numbers.ts";
import { sockaddr_nl } from "../lib/kernel/uevents.ts";
import { cachestat, open_how } from "../lib/kernel/blocking.ts";
import { ROOT, run, scratch, test } from "./support/support.ts";

const MACHINES = ["x86_64", "aarch64"] as const;

/** Alike on x86-64 and aarch64; beyond these are the system calls' numbers. */
const CONSTANTS = `
LO_NAME_SIZE 64 LO_KEY_SIZE 32 LOOP_MAJOR 7
LO_FLAGS_READ_ONLY 1 LO_FLAGS_AUTOCLEAR 4 LO_FLAGS_PARTSCAN 8 LO_FLAGS_DIRECT_IO 16
LOOP_CLR_FD 0x4c01 LOOP_SET_STATUS64 0x4c04 LOOP_GET_STATUS64 0x4c05 LOOP_CHANGE_FD 0x4c06
LOOP_SET_CAPACITY 0x4c07 LOOP_SET_DIRECT_IO 0x4c08 LOOP_SET_BLOCK_SIZE 0x4c09 LOOP_CONFIGURE 0x4c0a
LOOP_CTL_ADD 0x4c80 LOOP_CTL_REMOVE 0x4c81 LOOP_CTL_GET_FREE 0x4c82
BLKPG 0x1269 BLKPG_ADD_PARTITION 1 BLKPG_DEL_PARTITION 2 BLKPG_RESIZE_PARTITION 3
BLKFLSBUF 0x1261 BLKROSET 0x125d BLKROGET 0x125e BLKSSZGET 0x1268 BLKGETSIZE64 0x80081272 BLKGETDISKSEQ 0x80081280
O_RDONLY 0 O_RDWR 0o2 O_CREAT 0o100 O_EXCL 0o200 O_NONBLOCK 0o4000 O_CLOEXEC 0o2000000
O_PATH 0o10000000 F_DUPFD_CLOEXEC 1030 AT_REMOVEDIR 0x200
IN_OPEN 0x20 LOCK_SH 1 LOCK_EX 2 LOCK_NB 4 NETLINK_KOBJECT_UEVENT 15
FIFREEZE 0xc0045877 FITHAW 0xc0045878 FITRIM 0xc0185879
F_GETFD 1 F_SETFD 2 FD_CLOEXEC 1 F_GETFL 3 F_SETFL 4 F_RDLCK 0 F_WRLCK 1 F_UNLCK 2 F_OFD_GETLK 36 F_OFD_SETLK 37 SEEK_END 2 AT_FDCWD -100 AT_EMPTY_PATH 0x1000 OPEN_TREE_CLONE 1 AT_STATX_DONT_SYNC 0x4000 MFD_CLOEXEC 1
RESOLVE_NO_SYMLINKS 0x04 RESOLVE_CACHED 0x20 TMPFS_MAGIC 0x01021994
S_IFMT 0o170000 S_IFSOCK 0o140000 S_IFREG 0o100000 S_IFBLK 0o060000 S_IFDIR 0o040000
S_IFCHR 0o020000 S_IFIFO 0o010000 STATX_TYPE 0x1 STATX_ATTR_IMMUTABLE 0x10 STATX_ATTR_APPEND 0x20 STATX_BASIC_STATS 0x7ff STATX_MNT_ID 0x1000 STATX_MNT_ID_UNIQUE 0x4000
BTRFS_IOC_RESIZE 0x50009403 BTRFS_IOC_DEV_INFO 0xd000941e
Q_GETFMT 0x800004 SUBCMDSHIFT 8 USRQUOTA 0
FSOPEN_CLOEXEC 1 FSMOUNT_CLOEXEC 1 FSCONFIG_SET_FLAG 0 FSCONFIG_SET_STRING 1 FSCONFIG_CMD_CREATE 6
SYNC_FILE_RANGE_WAIT_BEFORE 1 SYNC_FILE_RANGE_WRITE 2 SYNC_FILE_RANGE_WAIT_AFTER 4
MOVE_MOUNT_F_EMPTY_PATH 4 MOVE_MOUNT_T_EMPTY_PATH 0x40 MOUNT_ATTR_RDONLY 0x1 MOUNT_ATTR_NOSUID 0x2 MOUNT_ATTR_NODEV 0x4
MOUNT_ATTR_NOEXEC 0x8 MOUNT_ATTR_NOATIME 0x10 MOUNT_ATTR_STRICTATIME 0x20
MOUNT_ATTR_IDMAP 0x100000 MOUNT_ATTR_NODIRATIME 0x80 MOUNT_ATTR_NOSYMFOLLOW 0x200000
PROT_READ 1 PROT_WRITE 2 PROT_EXEC 4 MAP_PRIVATE 2 MAP_ANONYMOUS 0x20
EPERM 1 ENOENT 2 ESRCH 3 EINTR 4 EIO 5 ENXIO 6 ENOEXEC 8 EBADF 9 ECHILD 10 EAGAIN 11 ENOMEM 12 EACCES 13 EFAULT 14
ENOTBLK 15 EBUSY 16 EEXIST 17 ENODEV 19 ENOTDIR 20 EISDIR 21 EINVAL 22 ENFILE 23 EMFILE 24 ENOTTY 25
ETXTBSY 26 EFBIG 27 ENOSPC 28 EROFS 30 EPIPE 32 ERANGE 34 ENAMETOOLONG 36 ENOLCK 37 ENOSYS 38 ELOOP 40 ENODATA 61
EBADMSG 74 EOVERFLOW 75 EOPNOTSUPP 95 ETIMEDOUT 110 ESTALE 116 EUCLEAN 117 EDQUOT 122 EMEDIUMTYPE 124
`;

/** Of these the headers' names begin so. */
const OF_THE_KERNEL =
  /^(LO_(NAME|KEY|FLAGS)_|LOOP_(C|S|GET_S|MAJOR)|BLK|O_|F_|FD_|FI[FT]|SEEK_|AT_|MFD_|FS(OPEN|MOUNT|CONFIG)_|OPEN_TREE_|MO(VE_MOUNT|UNT_ATTR)_|RESOLVE_|IN_|S_IF|STATX_|PROT_|MAP_|LOCK_|NETLINK_|SYNC_FILE_RANGE_|CAP_|BTRFS_IOC_|Q_|SUBCMDSHIFT|USRQUOTA|TMPFS_)/;

const LAYOUTS = `
loop_info64 232: lo_device 0 lo_inode 8 lo_rdevice 16 lo_offset 24 lo_sizelimit 32 lo_number 40
  lo_encrypt_type 44 lo_encrypt_key_size 48 lo_flags 52 lo_file_name 56 lo_crypt_name 120
  lo_encrypt_key 184 lo_init 216
loop_config 304: fd 0 block_size 4 info 8 __reserved 240
blkpg_ioctl_arg 24: op 0 flags 4 datalen 8 data 16
blkpg_partition 152: start 0 length 8 pno 16 devname 20 volname 84
statx 256: stx_mask 0 stx_blksize 4 stx_attributes 8 stx_nlink 16 stx_uid 20 stx_gid 24 stx_mode 28
  stx_ino 32 stx_size 40 stx_blocks 48 stx_attributes_mask 56 stx_atime 64 stx_btime 80
  stx_ctime 96 stx_mtime 112 stx_rdev_major 128 stx_rdev_minor 132 stx_dev_major 136
  stx_dev_minor 140 stx_mnt_id 144
statfs 120: f_type 0 f_bsize 8 f_blocks 16 f_bfree 24 f_bavail 32 f_files 40 f_ffree 48 f_fsid 56
  f_namelen 64 f_frsize 72 f_flags 80 f_spare 88
fstrim_range 24: start 0 len 8 minlen 16
mnt_id_req 24: size 0 mnt_id 8 param 16
mount_attr 32: attr_set 0 attr_clr 8 propagation 16 userns_fd 24
open_how 24: flags 0 mode 8 resolve 16
cachestat 56: off 0 len 8 nr_cache 16 nr_dirty 24 nr_writeback 32 nr_evicted 40
  nr_recently_evicted 48
sockaddr_nl 12: nl_family 0 nl_pad 2 nl_pid 4 nl_groups 8
flock 32: l_type 0 l_whence 2 l_start 8 l_len 16 l_pid 24
btrfs_ioctl_vol_args 4096: fd 0 name 8
btrfs_ioctl_dev_info_args 4096: devid 0 uuid 8 bytes_used 24 total_bytes 32
`;

// deno-lint-ignore no-explicit-any
const STRUCTS: Struct<any>[] = [
  ...[
    loop_info64,
    loop_config,
    blkpg_ioctl_arg,
    blkpg_partition,
    statx,
    statfs,
    fstrim_range,
    mnt_id_req,
    mount_attr,
    open_how,
    cachestat,
    sockaddr_nl,
    flock,
    btrfs_ioctl_vol_args,
    btrfs_ioctl_dev_info_args,
  ],
];

/** Padding has other names in other versions of a header. */
const publicFields = ({ offsets }: (typeof STRUCTS)[number]) =>
  Object.entries(offsets).filter(([field]) => !field.startsWith("__spare"));

const constants = new Map(
  [...CONSTANTS.matchAll(/(\w+) (-?)(0\w+|\d+)/g)].map(([, name, minus, digits]) => [
    name,
    Number(digits) * (minus ? -1 : 1),
  ]),
);

test("every struct has the layout of the kernel's headers", [], () => {
  const layouts = STRUCTS.map((type) => {
    const fields = publicFields(type).map(([field, offset]) => `${field} ${offset}`);
    return `${type.name} ${type.size}: ${fields.join(" ")}`;
  });
  assertEquals(layouts, LAYOUTS.trim().replaceAll(/\n {2}/g, " ").split("\n"));
});

test("every constant of the kernel's has the value of its headers", [], () => {
  const seen: string[] = [];
  const files = readdirSync(join(ROOT, "lib"), { recursive: true, encoding: "utf8" });
  for (const file of files.filter((name) => name.endsWith(".ts"))) {
    const source = readFileSync(join(ROOT, "lib", file), "utf8");
    const definitions = source.matchAll(/^(?:export )?const ([A-Z]\w*)[^=\n]* = (-?)(\w+)/gm);
    for (const [, name, minus, literal] of definitions) {
      const value = Number(literal.replace(/n$/, "")) * (minus ? -1 : 1);
      const isErrno = /^E[A-Z]+$/.test(name) && constants.has(name) && Number.isInteger(value);
      assert(!isErrno, `${file}: ${name} has its table`);
      if (!OF_THE_KERNEL.test(name)) continue;
      assertEquals(value, constants.get(name), `${file}: ${name}`);
      seen.push(name);
    }
    for (const [, name, value] of source.matchAll(/^ {2}(E[A-Z]+): \[(\d+), "/gm)) {
      assertEquals(Number(value), constants.get(name), `${file}: ${name}`);
      seen.push(name);
    }
  }
  const missed = [...constants.keys()].filter((name) => !seen.includes(name));
  // stat.ts has the others as the keys of a table.
  assertEquals(missed, ["S_IFSOCK", "S_IFDIR", "S_IFIFO"]);
});

/** Newer than the headers of some systems: looked at where they have it. */
const NEW: Record<string, string> = {
  cachestat: "__NR_cachestat",
  statmount: "__NR_statmount",
  mnt_id_req: "__NR_statmount",
  STATX_MNT_ID_UNIQUE: "STATX_MNT_ID_UNIQUE",
};
/** The one of ours that stands for two of the kernel's, the second behind the first. */
const SPLIT: Record<string, [name: string, offset: number][]> = {
  cachestat: [["cachestat_range", 0], ["cachestat", 16]],
};

/** C that compiles if the headers say what the tables say. */
function assertions(machine: typeof MACHINES[number]): string {
  const lines: string[] = [];
  const expect = (expression: string, value: number | bigint) =>
    lines.push(`_Static_assert((${expression}) == ${value}, "${expression} is not ${value}");`);
  const guarded = (name: string, add: () => void) => {
    if (NEW[name]) lines.push(`#ifdef ${NEW[name]}`);
    add();
    if (NEW[name]) lines.push("#endif");
  };
  for (const [name, value] of constants) guarded(name, () => expect(name, value));
  for (const [name, numbers] of Object.entries(SYSCALLS)) {
    guarded(name, () => expect(`__NR_${name}`, numbers[machine]));
  }
  for (const [name, number] of Object.entries(X86_64)) {
    if (machine === "x86_64") expect(`__NR_${name}`, number);
    else lines.push(`#ifdef __NR_${name}`, `#error "${name}() is there, too"`, "#endif");
  }
  for (const [name, values] of Object.entries(OPEN_FLAGS)) expect(name, values[machine]);
  for (const [name, [value]] of Object.entries(PSEUDO)) {
    // Some stand in the kernel's source alone.
    lines.push(`#ifdef ${name}`);
    expect(name, value);
    lines.push("#endif");
  }
  for (const type of STRUCTS) {
    const parts = SPLIT[type.name] ?? [[type.name, 0]];
    guarded(type.name, () => {
      expect(parts.map(([name]) => `sizeof(struct ${name})`).join(" + "), type.size);
      for (const [field, offset] of publicFields(type)) {
        const [name, base] = parts.findLast(([, base]) => base <= offset)!;
        expect(`${base} + offsetof(struct ${name}, ${field})`, offset);
      }
    });
  }
  const headers = [
    ...[
      "types",
      "loop",
      "blkpg",
      "fs",
      "major",
      "stat",
      "fcntl",
      "openat2",
      "mman",
      "mount",
      "quota",
      "btrfs",
    ],
  ];
  return [
    "#include <stddef.h>",
    ...[...headers, "memfd", "errno", "netlink", "capability", "magic", "inotify"].map((name) =>
      `#include <linux/${name}.h>`
    ),
    "#include <asm/statfs.h>",
    "#include <asm/unistd.h>",
    ...lines,
  ].join("\n");
}

const compiler = (machine: string) => `${machine}-linux-gnu-gcc`;

test("the headers of both machines say so", MACHINES.map(compiler), () => {
  for (const machine of MACHINES) {
    const source = scratch("headers.c");
    const compile = (text: string) => {
      writeFileSync(source, text);
      return run([compiler(machine), "-fsyntax-only", source]);
    };
    const { status, stderr } = compile(assertions(machine));
    assertEquals([status, stderr], [0, ""], machine);
    const wrong = assertions(machine).replace("(LOOP_CONFIGURE) == ", "(LOOP_CONFIGURE) == 1");
    assert(compile(wrong).stderr.includes("LOOP_CONFIGURE is not"), "a wrong value is not seen");
  }
});

test(
  "the instructions of a chain are what an assembler makes of them",
  MACHINES.map(compiler),
  () => {
    for (const machine of MACHINES) {
      const lines = INSTRUCTIONS[machine].trim().split(/\n +/).map((line) => line.split(/ {2,}/));
      const [source, object, code] = ["chain.s", "chain.o", "chain.bin"].map(scratch);
      const syntax = machine === "x86_64" ? ".intel_syntax noprefix\n" : "";
      writeFileSync(source, `${syntax}${lines.map(([, text]) => text).join("\n")}\n`);
      const { status, stderr } = run([compiler(machine), "-c", "-o", object, source]);
      assertEquals([status, stderr], [0, ""], machine);
      run([
        compiler(machine).replace("gcc", "objcopy"),
        "-O",
        "binary",
        "-j",
        ".text",
        object,
        code,
      ]);
      assertEquals(readFileSync(code, "hex"), lines.map(([bytes]) => bytes).join(""), machine);
    }
  },
);
