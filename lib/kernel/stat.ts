/**
 * What a file is, by statx(2): one layout on all architectures, unlike stat's.
 *
 * @module
 */
import { isErrno, LoopError } from "../base/errors.ts";
import { ABSENCE, AT_FDCWD, check, cString, type OpenFile } from "./file.ts";
import type { Descriptor } from "../runtime/contract.ts";
import { libc } from "../runtime/libc.ts";
import { SYS } from "./syscalls.ts";
import { eachOnThread, type NamedStep } from "./chain.ts";
import { __u16, __u32, __u64, bytes, int, long_long, struct } from "../base/struct.ts";

export const AT_EMPTY_PATH = 0x1000;
const AT_STATX_DONT_SYNC = 0x4000;
const STATX_TYPE = 0x1;
const STATX_BASIC_STATS = 0x7ff;
/** Linux 5.8, as LOOP_CONFIGURE. */
const STATX_MNT_ID = 0x1000;
const S_IFMT = 0o170000;

const statx_timestamp = struct("statx_timestamp", 16, {
  tv_sec: long_long,
  tv_nsec: __u32,
  __reserved: int,
});

/** `<linux/stat.h>` */
export const statx = struct("statx", 256, {
  stx_mask: __u32,
  stx_blksize: __u32,
  stx_attributes: __u64,
  stx_nlink: __u32,
  stx_uid: __u32,
  stx_gid: __u32,
  stx_mode: __u16,
  __spare0: __u16,
  stx_ino: __u64,
  stx_size: __u64,
  stx_blocks: __u64,
  stx_attributes_mask: __u64,
  stx_atime: statx_timestamp,
  stx_btime: statx_timestamp,
  stx_ctime: statx_timestamp,
  stx_mtime: statx_timestamp,
  stx_rdev_major: __u32,
  stx_rdev_minor: __u32,
  stx_dev_major: __u32,
  stx_dev_minor: __u32,
  stx_mnt_id: __u64,
  __spare2: bytes(104),
});

export interface FileStatus {
  readonly type: FileType | "unknown";
  /** Hard links; of a directory 2, and one more for each directory in it. */
  readonly links: number;
  /** Bytes; 0 for devices. */
  readonly size: number;
  /** Device number of a device node, as sysfs writes it: "259:3". */
  readonly rdev: string;
  /** The file's identity: device number of its file system, and inode there. */
  readonly dev: string;
  readonly inode: bigint;
  /** Its owner. */
  readonly uid: number;
  readonly gid: number;
  /** Permission bits: 0o755. */
  readonly mode: number;
  /** When its content last changed, in ms since 1970; up to one tick (10 ms) early. */
  readonly modified: number;
}

const TYPES = {
  0o100000: "file",
  0o040000: "directory",
  0o060000: "block device",
  0o020000: "character device",
  0o010000: "FIFO",
  0o140000: "socket",
} as const;

type FileType = (typeof TYPES)[keyof typeof TYPES];

const NO_NAME = cString("");
/** One for all calls, which are synchronous. */
const buffer = statx.buffer();
const stx = statx.reader(buffer);
let address: number | undefined;

/** `statx(fd, name, flags, mask, buffer)`: musl has no function for it before 1.2.5. */
function callStatx(fd: Descriptor, name: Uint8Array, flags: number, mask: number): number {
  address ??= Number(libc().addressOf(buffer));
  return libc().syscallBuffer(SYS("statx"), fd, name, flags, mask, address);
}

/** The mount that an open file lies in, by mountinfo's number. */
export function mountIdOf(file: OpenFile): number {
  const result = file.call((fd) => callStatx(fd, NO_NAME, AT_EMPTY_PATH, STATX_MNT_ID));
  check(result, "statx", file.path);
  return Number(stx("stx_mnt_id"));
}

/** Whether a name exists. Makes no error for "no": one takes several times as long as the call. */
export function isThere(path: string): boolean {
  const result = callStatx(AT_FDCWD, cString(path), 0, STATX_BASIC_STATS);
  if (result >= 0) return true;
  if (ABSENCE.some((code) => isErrno(result, code))) return false;
  throw new LoopError({ code: -result, syscall: "statx", path });
}

/** `statx` of an open file, or of a name (symlinks followed). */
export function fileStatus(file: OpenFile | string): FileStatus {
  if (typeof file === "string") {
    check(callStatx(AT_FDCWD, cString(file), 0, STATX_BASIC_STATS), "statx", file);
  } else {
    const result = file.call((fd) => callStatx(fd, NO_NAME, AT_EMPTY_PATH, STATX_BASIC_STATS));
    check(result, "statx", file.path);
  }
  const { tv_sec, tv_nsec } = stx("stx_mtime");
  return {
    ...devicesOf(stx),
    links: stx("stx_nlink"),
    size: Number(stx("stx_size")),
    inode: stx("stx_ino"),
    uid: stx("stx_uid"),
    gid: stx("stx_gid"),
    mode: stx("stx_mode") & ~S_IFMT,
    modified: Number(tv_sec) * 1000 + tv_nsec / 1e6,
  };
}

/** {@linkcode FileStatus.links} of a name, without the rest. */
export function linksOf(path: string): number {
  check(callStatx(AT_FDCWD, cString(path), 0, STATX_BASIC_STATS), "statx", path);
  return stx("stx_nlink");
}

type Devices = Pick<FileStatus, "type" | "dev" | "rdev">;

function devicesOf(read: typeof stx): Devices {
  return {
    type: TYPES[(read("stx_mode") & S_IFMT) as keyof typeof TYPES] ?? "unknown",
    dev: `${read("stx_dev_major")}:${read("stx_dev_minor")}`,
    rdev: `${read("stx_rdev_major")}:${read("stx_rdev_minor")}`,
  };
}

export interface Place extends Devices {
  /** The number of its mount. */
  readonly mount: number;
}

/** Undefined where statx() fails. By another thread, since the file may lie on a network. */
export async function placeOf(path: string): Promise<Place | undefined> {
  return (await placesOf([path]))[0];
}

/** Undefined where no such file is there; throws any other error. `name`: what errors call it. */
export async function placeIfThere(path: string, name: string): Promise<Place | undefined> {
  const [{ result, buffer }] = await askEach([path]);
  if (isErrno(result, "ENOENT") || isErrno(result, "ENOTDIR")) return undefined;
  check(result, "statx", name);
  return placeIn(buffer);
}

/** So many files are asked for at once: a thread copies the calls. */
const MOST_AT_ONCE = 256;

/** The same of each. One trip to another thread for many files: a trip takes longer than a call. */
export async function placesOf(paths: readonly string[]): Promise<(Place | undefined)[]> {
  const asked = await askEach(paths);
  return asked.map(({ result, buffer }) => result < 0 ? undefined : placeIn(buffer));
}

async function askEach(paths: readonly string[]) {
  const asked: { result: number; buffer: Uint8Array }[] = [];
  while (asked.length < paths.length) {
    const some = paths.slice(asked.length, asked.length + MOST_AT_ONCE);
    const buffers = some.map(() => statx.buffer());
    const mask = STATX_TYPE | STATX_MNT_ID;
    const results = await eachOnThread(some.map((path, i): NamedStep => {
      const args = [AT_FDCWD, cString(path), AT_STATX_DONT_SYNC, mask, buffers[i]];
      return { name: "statx", args };
    }));
    asked.push(...results.map((result, i) => ({ result, buffer: buffers[i] })));
  }
  return asked;
}

function placeIn(buffer: Uint8Array): Place {
  const read = statx.reader(buffer);
  return { ...devicesOf(read), mount: Number(read("stx_mnt_id")) };
}

const STATX_ATTR_IMMUTABLE = 0x10n;
const STATX_ATTR_APPEND = 0x20n;

/** chattr(1)'s attribute that makes opening the file for writing EPERM. */
export function unwritableBy(path: string): { name: string; attribute: string } | undefined {
  if (callStatx(AT_FDCWD, cString(path), 0, STATX_BASIC_STATS) < 0) return undefined;
  const attributes = stx("stx_attributes");
  if (attributes & STATX_ATTR_IMMUTABLE) return { name: "immutable", attribute: "i" };
  return attributes & STATX_ATTR_APPEND ? { name: "append-only", attribute: "a" } : undefined;
}
