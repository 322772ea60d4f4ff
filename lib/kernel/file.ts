/**
 * Files through libc: open, read, ioctl, list, close. Each function gives a value or throws a LoopError that
 * names call, file and request. /dev, /proc and /sys are read this way too, since Deno's own file API
 * needs --allow-all for them.
 *
 * @module
 */
import { type ErrorCode, isErrno, LoopError, unlessRefused } from "../base/errors.ts";
import type { Descriptor } from "../runtime/contract.ts";
import { libc } from "../runtime/libc.ts";
import { decodeName, encodeNameInto } from "../base/names.ts";
import { eachOnThread, isInterrupted, type NamedStep } from "./chain.ts";
import { SYS } from "./syscalls.ts";

/** Open flags that are the same on x86-64 and aarch64, from `<asm-generic/fcntl.h>`. */
export const O_RDONLY = 0;
export const O_RDWR = 0o2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const O_PATH = 0o10000000;

const F_SETFL = 4;
const F_DUPFD_CLOEXEC = 1030;
const MFD_CLOEXEC = 1;
export const S_IFBLK = 0o060000;
export const AT_FDCWD = -100 as Descriptor;

const CLOSED = -1 as Descriptor;

/**
 * An open file. It owns its descriptor: closing waits for the calls in flight on other threads, so that none
 * of them meets a number that already belongs to another file. On a closed file every call is EBADF, and
 * closing it again does nothing.
 */
export class OpenFile implements Disposable {
  readonly path: string;
  #fd: Descriptor;
  #inFlight = 0;
  #whenIdle: (() => void) | undefined;

  constructor(fd: number, path: string) {
    this.#fd = fd as Descriptor;
    this.path = path;
  }

  get isClosed(): boolean {
    return this.#fd === CLOSED;
  }

  /** Lends the descriptor to a call that is over when `make` returns. */
  call<T>(make: (fd: Descriptor) => T): T {
    return make(this.#fd);
  }

  /** Lends the descriptor to a call that is over when the promise is settled. */
  async callOnThread<T>(make: (fd: Descriptor) => Promise<T>): Promise<T> {
    this.#inFlight++;
    try {
      return await make(this.#fd);
    } finally {
      if (--this.#inFlight === 0) this.#whenIdle?.();
    }
  }

  /** Closes it at once, or after the calls in flight. */
  close(): void {
    if (this.#inFlight > 0) {
      // An error of close() comes too late to act on.
      this.closeOnThread().catch(() => {});
      return;
    }
    const fd = this.#release();
    if (fd !== CLOSED) libc().close(fd);
  }

  /** Closes it by another thread, after the calls in flight; resolves when it is closed. */
  closeOnThread(): Promise<void> {
    return closeInOrder([this]);
  }

  /** Resolves after the calls in flight to the descriptor, which the caller then has to close. */
  async giveAway(): Promise<Descriptor | undefined> {
    const fd = this.#release();
    if (fd === CLOSED) return undefined;
    if (this.#inFlight > 0) await new Promise<void>((resolve) => this.#whenIdle = resolve);
    return fd;
  }

  /**
   * `fcntl(fd, F_DUPFD_CLOEXEC, least)`: another descriptor, `least` or higher, of the same file
   * description, which keeps what it has to report of failed writes.
   */
  duplicate(least = 0): OpenFile {
    const fd = this.call((fd) => libc().fcntl(fd, F_DUPFD_CLOEXEC, least));
    return new OpenFile(check(fd, "fcntl", this.path), this.path);
  }

  /** Makes every later call EBADF. */
  #release(): Descriptor {
    const fd = this.#fd;
    this.#fd = CLOSED;
    return fd;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Closes files in this order, by another thread. */
export async function closeInOrder(files: readonly OpenFile[]): Promise<void> {
  const given = await Promise.all(files.map((file) => file.giveAway()));
  const steps = given.filter((fd) => fd !== undefined).map(closeStep);
  // Errors are ignored: close() releases the descriptor even if it fails.
  await eachOnThread(steps);
}

/** close() as a step. Never repeated: the number may belong to another file by then. */
export const closeStep = (fd: Descriptor): NamedStep => ({ name: "close", args: [fd], once: true });

/** Passes a result ≥ 0 on, and throws −errno as a LoopError. */
export function check(result: number, syscall: string, path: string, request?: string): number {
  if (result >= 0) return result;
  const hint = isErrno(result, "ENOENT") ? whatIsMissing(path) : undefined;
  throw new LoopError({ code: -result, syscall, path, request, hint });
}

/** A hint that tells whether the node is missing, its device, or sysfs as a whole. */
function whatIsMissing(path: string): string | undefined {
  const [, disk, partition = ""] = /^\/dev\/(loop\d+)(p\d+)?$/.exec(path) ?? [];
  if (disk === undefined && !path.startsWith("/sys/")) return undefined;
  if (!isThere("/sys/block")) return "is sysfs mounted on /sys?";
  if (disk === undefined) return undefined;
  return isThere(`/sys/block/${disk}${partition && `/${disk}${partition}`}`)
    ? "the kernel has this device, but /dev has no node for it (perhaps /dev is static, as in a " +
      "container): mount a devtmpfs there or make the node with mknod"
    : "the kernel has no such device";
}

function isThere(path: string): boolean {
  const fd = uninterrupted(() => libc().open(cString(path), O_RDONLY | O_CLOEXEC, 0));
  if (fd >= 0) new OpenFile(fd, path).close();
  return fd >= 0;
}

/** Makes a call, and repeats it while signals interrupt it. */
export function uninterrupted(call: () => number): number {
  for (let times = 0;; times++) {
    const result = call();
    if (!isInterrupted(result, times)) return result;
  }
}

const MOST_KEPT = 64;
const kept = new Map<string, Uint8Array<ArrayBuffer>>();

/**
 * A path with a NUL at its end, over an ArrayBuffer, since JavaScriptCore may move a small array that is
 * not (oven-sh/bun#32055). Cached, since making one takes longer than most system calls and the same few
 * paths are used again and again.
 */
export function cString(path: string): Uint8Array<ArrayBuffer> {
  let bytes = kept.get(path);
  if (bytes) return bytes;
  const buffer = new Uint8Array(new ArrayBuffer(3 * path.length + 1));
  bytes = buffer.subarray(0, encodeNameInto(path, buffer) + 1);
  if (kept.size >= MOST_KEPT) kept.clear();
  kept.set(path, bytes);
  return bytes;
}

/** `open(path, flags | O_CLOEXEC, mode)`. `name`: what errors call the file. */
export function open(path: string, flags: number, mode = 0, name = path): OpenFile {
  const bytes = cString(path);
  const fd = uninterrupted(() => libc().open(bytes, flags | O_CLOEXEC, mode));
  return new OpenFile(check(fd, "open", path), name);
}

/** `fcntl(fd, F_SETFL, flags)` */
export function setStatusFlags(file: OpenFile, flags: number): void {
  const result = file.call((fd) => libc().fcntl(fd, F_SETFL, flags));
  check(result, "fcntl", file.path);
}

/** `ioctl(fd, request, argument)`: a buffer is passed by address. */
export function ioctl(
  file: OpenFile,
  name: string,
  request: number,
  argument: number | Uint8Array = 0,
): number {
  const result = file.call((fd) =>
    uninterrupted(() =>
      typeof argument === "number"
        ? libc().ioctl(fd, request, argument)
        : libc().ioctlBuffer(fd, request, argument)
    )
  );
  return check(result, "ioctl", file.path, name);
}

/**
 * A relative path made absolute, since the program may have changed its working directory by the time that
 * the file is opened. Without /proc it stays relative; "" stays "".
 */
export function absolutePath(path: string): string {
  if (path === "" || path.startsWith("/")) return path;
  const here = ifExists(() => readLink("/proc/self/cwd"));
  return here === undefined ? path : `${here}/${path}`;
}

/** Up to `length` bytes from `offset`; fewer at the end of the file. */
export function readAt(file: OpenFile, offset: number, length: number): Uint8Array {
  return readInto(file, offset, new Uint8Array(length));
}

/** The same into memory that is there; gives the part of it that was read. */
export function readInto(file: OpenFile, offset: number, buffer: Uint8Array): Uint8Array {
  const { length } = buffer;
  let done = 0;
  while (done < length) {
    const rest = done === 0 ? buffer : buffer.subarray(done);
    const n = file.call((fd) => uninterrupted(() => libc().pread(fd, rest, offset + done)));
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
    const n = file.call((fd) => uninterrupted(() => libc().pwrite(fd, rest, at)));
    done += check(n, "pwrite", file.path);
  }
}

/** `write(fd, text)` at once: for pipes, and for files of /proc, which take no offset. */
export function writeText(file: OpenFile, text: string): void {
  const bytes = new TextEncoder().encode(text);
  const buffer = new Uint8Array(new ArrayBuffer(bytes.length));
  buffer.set(bytes);
  const result = file.call((fd) =>
    uninterrupted(() => libc().syscall(SYS("write"), fd, buffer, buffer.length))
  );
  check(result, "write", file.path);
}

/** Makes a node for block device `dev` ("7:4"). Needs CAP_MKNOD. */
export function makeBlockNode(path: string, dev: string, mode = 0o600): void {
  const type = S_IFBLK | mode;
  const result = libc().syscallBuffer(
    SYS("mknodat"),
    AT_FDCWD,
    cString(path),
    type,
    encodeDev(dev),
  );
  check(result, "mknod", path);
}

/**
 * "8:1" in the kernel's 32 bits, where the minor number's upper bits lie above the major number. Unsigned,
 * since Bun 1.3 passes a negative number as 0.
 */
export function encodeDev(dev: string): number {
  const colon = dev.indexOf(":");
  const [major, minor] = [Number(dev.slice(0, colon)), Number(dev.slice(colon + 1))];
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** The inverse of {@linkcode encodeDev}. */
export function decodeDev(encoded: number | bigint): string {
  const dev = Number(encoded);
  return `${(dev & 0xfff00) >>> 8}:${(dev & 0xff) | ((dev >>> 12) & 0xfff00)}`;
}

/** An unnamed file in memory with this content, or of so many bytes, which are zeros. */
export function memoryFile(name: string, content: number | Uint8Array): OpenFile {
  const fd = check(
    libc().syscall(SYS("memfd_create"), cString(name), MFD_CLOEXEC),
    "memfd_create",
    name,
  );
  const file = new OpenFile(fd, name);
  try {
    if (typeof content === "number") writeAt(file, content - 1, new Uint8Array(1));
    else writeAt(file, 0, content);
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}

export function unlink(path: string): void {
  check(libc().unlink(cString(path)), "unlink", path);
}

/**
 * Removes a node of ours, which another process may have done. Warns if it stays: no error is the place for
 * it, since what it was made for may have been done.
 */
export function removeNode(path: string): void {
  const result = libc().unlink(cString(path));
  if (result >= 0 || isErrno(result, "ENOENT")) return;
  const { message } = new LoopError({ code: -result, syscall: "unlink", path });
  console.warn(`loopdev: ${message}: the node is left, and rm ${path} removes it`);
}

/** A buffer for what is decoded right after the read. A page has up to 64 KiB on aarch64. */
const page = new Uint8Array(65536);

const NEWLINE = 0x0a;
const DOT = 0x2e;

/** Where a symbolic link leads. */
export function readLink(path: string): string {
  const length = check(libc().readlink(cString(path), page), "readlink", path);
  return decodeName(page.subarray(0, length));
}

/**
 * A small file of /sys or /proc as text, without the newline at its end. One read gives all of a sysfs
 * attribute, which has at most one page. For lists of /proc see {@linkcode readLines}.
 */
export function readText(path: string): string {
  using file = open(path, O_RDONLY);
  const length = file.call((fd) => uninterrupted(() => libc().pread(fd, page, 0)));
  check(length, "pread", path);
  return decodeName(page.subarray(0, page[length - 1] === NEWLINE ? length - 1 : length));
}

/**
 * The lines of a list of /proc. It can change while it is read in several calls, but no line is repeated
 * or skipped for that.
 */
export function readLines(path: string): string[] {
  using file = open(path, O_RDONLY);
  for (let buffer = page;; buffer = new Uint8Array(4 * buffer.length)) {
    const bytes = readInto(file, 0, buffer);
    if (bytes.length < buffer.length) return decodeName(bytes).split("\n").slice(0, -1);
  }
}

/** The file is not there (any more). ENODEV: a sysfs attribute's device went away after the open. */
export const ABSENCE: readonly ErrorCode[] = ["ENOENT", "ENOTDIR", "ENODEV", "ENXIO"];

/** The file is not there, or this process may not see it. */
const INVISIBLE: readonly ErrorCode[] = [...ABSENCE, "EACCES", "EPERM", "ESRCH"];

/** Gives undefined where `look` throws one of {@linkcode ABSENCE}. */
export function ifExists<T>(look: () => T): T | undefined {
  return unlessRefused(look, ...ABSENCE);
}

/** Like {@linkcode ifExists}; undefined also for what this process may not see. */
export function ifAllowed<T>(look: () => T): T | undefined {
  return unlessRefused(look, ...INVISIBLE);
}

/** `d_type` of a directory, from `<dirent.h>`. */
export const DT_DIR = 4;

/** For getdents64(), which is asked and decoded at once. */
const dirents = new Uint8Array(new ArrayBuffer(8192));
const direntsView = new DataView(dirents.buffer);

/** Names in a directory, without "." and "..", in no order; with `type`, those of that d_type. */
export function listDirectory(path: string, type?: number): string[] {
  using directory = open(path, O_RDONLY);
  const [buffer, view] = [dirents, direntsView];
  const names: string[] = [];
  for (;;) {
    const end = directory.call((fd) =>
      libc().syscallBuffer(SYS("getdents64"), fd, buffer, buffer.length, 0)
    );
    check(end, "getdents64", path);
    if (end === 0) return names;
    // struct linux_dirent64: d_ino u64, d_off s64, d_reclen u16, d_type u8, d_name
    for (let at = 0; at < end; at += view.getUint16(at + 16, true)) {
      if (type !== undefined && buffer[at + 18] !== type) continue;
      const name = at + 19;
      const nul = buffer.indexOf(0, name);
      const isDots = buffer[name] === DOT && (nul === name + 1 ||
        nul === name + 2 && buffer[name + 1] === DOT);
      if (!isDots) names.push(decodeName(buffer.subarray(name, nul)));
    }
  }
}
