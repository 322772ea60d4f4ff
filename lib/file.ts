/**
 * Files through libc: open, read, ioctl, list, close. Each gives a value or throws a LoopError that
 * names call, file and request. All of /dev and /sys goes through here, since Deno's own file API
 * asks for every permission there is before it touches them.
 *
 * @module
 */
import { LoopError } from "./errors.ts";
import { libc } from "./libc.ts";

/** Open flags that are the same on x86-64 and aarch64, from `<asm-generic/fcntl.h>`. */
export const O_RDONLY = 0;
export const O_RDWR = 0o2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;

const F_SETFL = 4;
const MFD_CLOEXEC = 1;
const S_IFBLK = 0o060000;
/** Names are relative to the working directory. */
export const AT_FDCWD = -100;
/** System calls by number, for what older libcs do not wrap; they differ between machines. */
const SYS_getdents64: Record<string, number> = { x86_64: 217, aarch64: 61 };
const SYS_mknodat: Record<string, number> = { x86_64: 259, aarch64: 33 };

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** An open file that knows its name. Closing is idempotent; `using` closes it. */
export class OpenFile implements Disposable {
  readonly path: string;
  #fd: number;

  constructor(fd: number, path: string) {
    this.#fd = fd;
    this.path = path;
  }

  /** The file descriptor, or −1 once it is closed: the kernel then answers EBADF, never another's file. */
  get fd(): number {
    return this.#fd;
  }

  /** The same open file under the name that users know; this one is done with. */
  renamed(path: string): OpenFile {
    return new OpenFile(this.release(), path);
  }

  /** The descriptor, for someone else to close; −1 if it is closed. */
  release(): number {
    const fd = this.#fd;
    this.#fd = -1;
    return fd;
  }

  close(): void {
    const fd = this.release();
    // What close reports (a failed flush) comes too late to act on; the descriptor is gone anyway.
    if (fd >= 0) libc().close(fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A result ≥ 0 passes, −errno throws. */
export function check(result: number, syscall: string, path: string, request?: string): number {
  if (result < 0) throw new LoopError({ errno: -result, syscall, path, request });
  return result;
}

export const EINTR = -4;
export const MOST_INTERRUPTIONS = 100;

/** A call that a signal interrupted has done nothing yet: it is made again. Never close(). */
export function uninterrupted(call: () => number): number {
  for (let times = 0;; times++) {
    const result = call();
    if (result !== EINTR || times >= MOST_INTERRUPTIONS) return result;
  }
}

/** A path as C wants it. */
export function cString(path: string): Uint8Array {
  return encoder.encode(path + "\0");
}

/** `open(path, flags | O_CLOEXEC, mode)`: no descriptor of ours reaches a child process. */
export function open(path: string, flags: number, mode = 0): OpenFile {
  const name = cString(path);
  const fd = uninterrupted(() => libc().open(name, flags | O_CLOEXEC, mode));
  return new OpenFile(check(fd, "open", path), path);
}

/** `fcntl(fd, F_SETFL, flags)` */
export function setStatusFlags(file: OpenFile, flags: number): void {
  check(libc().fcntl(file.fd, F_SETFL, flags), "fcntl", file.path);
}

/** `ioctl(fd, request, argument)`: a buffer is passed by address, and filled by the kernel. */
export function ioctl(
  file: OpenFile,
  name: string,
  request: number,
  argument: number | Uint8Array = 0,
): number {
  const result = uninterrupted(() =>
    typeof argument === "number"
      ? libc().ioctl(file.fd, request, argument)
      : libc().ioctlBuffer(file.fd, request, argument)
  );
  return check(result, "ioctl", file.path, name);
}

/** Up to `length` bytes from `offset`; fewer at the end of the file. */
export function readAt(file: OpenFile, offset: number, length: number): Uint8Array {
  const buffer = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const rest = done === 0 ? buffer : buffer.subarray(done);
    const n = uninterrupted(() => libc().pread(file.fd, rest, offset + done));
    if (check(n, "pread", file.path) === 0) break;
    done += n;
  }
  return done === length ? buffer : buffer.subarray(0, done);
}

/** Writes all of `data` at `offset`. */
export function writeAt(file: OpenFile, offset: number, data: Uint8Array): void {
  for (let done = 0; done < data.length;) {
    const rest = data.subarray(done);
    const at = offset + done;
    done += check(uninterrupted(() => libc().pwrite(file.fd, rest, at)), "pwrite", file.path);
  }
}

/** Makes a node for block device `dev` ("7:4"), for root alone. Needs CAP_MKNOD. */
export function makeBlockNode(path: string, dev: string): void {
  const [major, minor] = dev.split(":").map(Number);
  // The kernel's 32-bit encoding: the minor number's upper bits lie above the major number.
  const encoded = (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
  const mode = S_IFBLK | 0o600;
  const number = SYS_mknodat[machine()];
  check(libc().syscall(number, AT_FDCWD, cString(path), mode, encoded), "mknod", path);
}

/** An unnamed file in memory, of `size` bytes. */
export function memoryFile(name: string, size: number): OpenFile {
  const fd = check(libc().memfd_create(cString(name), MFD_CLOEXEC), "memfd_create", name);
  const file = new OpenFile(fd, name);
  writeAt(file, size - 1, new Uint8Array(1));
  return file;
}

/** Removes a file's name. */
export function unlink(path: string): void {
  check(libc().unlink(cString(path)), "unlink", path);
}

/** For what is read and decoded at once. PATH_MAX, too. */
const page = new Uint8Array(4096);

/** Where a symbolic link leads. */
export function readLink(path: string): string {
  const length = check(libc().readlink(cString(path), page), "readlink", path);
  return decoder.decode(page.subarray(0, length));
}

/** A small file of /sys or /proc as text, without the newline at its end. */
export function readText(path: string): string {
  using file = open(path, O_RDONLY);
  // One page is the most that a sysfs attribute has, and one read gives all of it.
  const length = uninterrupted(() => libc().pread(file.fd, page, 0));
  check(length, "pread", path);
  return decoder.decode(page.subarray(0, length)).replace(/\n$/, "");
}

/** `undefined` instead of ENOENT and the like: a name that is not there (any more) is an answer. */
export function ifExists<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    // ENODEV: the attribute's device went away between open and read.
    if (error instanceof LoopError && /^(ENOENT|ENOTDIR|ENODEV|ENXIO)$/.test(error.code)) {
      return undefined;
    }
    throw error;
  }
}

/** Names in a directory, without "." and "..", in no order. */
export function listDirectory(path: string): string[] {
  using directory = open(path, O_RDONLY);
  const buffer = new Uint8Array(8192);
  const view = new DataView(buffer.buffer);
  const names: string[] = [];
  for (;;) {
    const end = check(
      libc().syscall(SYS_getdents64[machine()], directory.fd, buffer, buffer.length, 0),
      "getdents64",
      path,
    );
    if (end === 0) return names;
    // struct linux_dirent64: d_ino u64, d_off s64, d_reclen u16, d_type u8, d_name
    for (let at = 0; at < end; at += view.getUint16(at + 16, true)) {
      const name = decoder.decode(buffer.subarray(at + 19, buffer.indexOf(0, at + 19)));
      if (name !== "." && name !== "..") names.push(name);
    }
  }
}

/** One of the six strings of struct new_utsname, 65 bytes each. */
function utsname(index: number): string {
  const buffer = new Uint8Array(6 * 65);
  check(libc().uname(buffer), "uname", "/proc/sys/kernel");
  const field = buffer.subarray(index * 65, (index + 1) * 65);
  return decoder.decode(field.subarray(0, field.indexOf(0)));
}

let cachedRelease: string | undefined;
let cachedMachine: string | undefined;

/** The running kernel's release, as `uname -r` prints it. */
export function kernelRelease(): string {
  return cachedRelease ??= utsname(2);
}

/** The machine, as `uname -m` prints it: "x86_64". */
function machine(): string {
  return cachedMachine ??= utsname(4);
}
