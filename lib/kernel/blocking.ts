/**
 * Calls that can wait for storage. Those that would are made by another thread, so that the event loop
 * goes on. Whether one would is asked first where the kernel can tell: most wait for nothing, and a
 * thread costs 40 to 70 µs a call, its start in Bun 3 ms.
 *
 * LOOP_CONFIGURE flushes the backing file. It is made by this thread, right after {@linkcode flush},
 * which leaves it nothing to wait for.
 *
 * @module
 */
import { chainOnThread, eachOnThread, type NamedStep, uninterruptedOnThread } from "./chain.ts";
import {
  AT_FDCWD,
  check,
  cString,
  O_CLOEXEC,
  O_PATH,
  open,
  OpenFile,
  readInto,
  uninterrupted,
} from "./file.ts";
import { isErrno } from "../base/errors.ts";
import { libc } from "../runtime/libc.ts";
import { __u64, struct } from "../base/struct.ts";
import { openAgain } from "./record_lock.ts";
import { SYS, type SyscallName } from "./syscalls.ts";
import type { Descriptor } from "../runtime/contract.ts";

/** `<linux/openat2.h>` */
export const open_how = struct("open_how", 24, { flags: __u64, mode: __u64, resolve: __u64 });
const RESOLVE_NO_SYMLINKS = 0x04n;
const RESOLVE_CACHED = 0x20n;
/** One for all calls, which are synchronous. */
const how = open_how.buffer();
let howAddress: bigint | undefined;

/** `<linux/mman.h>`: struct cachestat_range, then struct cachestat. */
export const cachestat = struct("cachestat", 56, {
  off: __u64,
  len: __u64,
  nr_cache: __u64,
  nr_dirty: __u64,
  nr_writeback: __u64,
  nr_evicted: __u64,
  nr_recently_evicted: __u64,
});

/**
 * `open(path, flags)`, by another thread if the path is not in the kernel's dentry cache, since its
 * directories must then be read from a disk or a network. Before Linux 5.12 the kernel does not tell, and
 * this thread opens it. `signal` cancels the call while it waits for a thread.
 */
export async function openWithoutWaiting(
  path: string,
  flags: number,
  signal?: AbortSignal,
): Promise<OpenFile> {
  const name = cString(path);
  open_how.write(how, { flags: BigInt(flags | O_CLOEXEC), resolve: RESOLVE_CACHED });
  howAddress ??= libc().addressOf(how);
  const fd = uninterrupted(() =>
    libc().syscallBuffer(SYS("openat2"), AT_FDCWD, name, howAddress!, open_how.size)
  );
  if (fd >= 0) return new OpenFile(fd, path);
  // Any other error may mean that the kernel or a seccomp filter does not know openat2().
  if (!isErrno(fd, "EAGAIN")) return open(path, flags);
  const step: NamedStep = { name: "openat", args: [AT_FDCWD, name, flags | O_CLOEXEC, 0] };
  const [opened] = await chainOnThread([step], signal);
  return new OpenFile(check(opened, "open", path), path);
}

/**
 * Whether the kernel's dentry cache has `name` below `folder`, and no part of it is a link. False also
 * where the kernel does not tell, as before Linux 5.12.
 */
export function isCachedWithoutLinks(folder: OpenFile, name: string): boolean {
  const resolve = RESOLVE_CACHED | RESOLVE_NO_SYMLINKS;
  open_how.write(how, { flags: BigInt(O_PATH | O_CLOEXEC), resolve });
  howAddress ??= libc().addressOf(how);
  const path = cString(name);
  const found = folder.call((fd) =>
    libc().syscallBuffer(SYS("openat2"), fd, path, howAddress!, open_how.size)
  );
  if (found < 0) return false;
  new OpenFile(found, name).close();
  return true;
}

/** `ioctl(fd, request, argument)` by another thread: for requests that freeze the queue or write back. */
export async function ioctlOnThread(
  file: OpenFile,
  name: string,
  request: number,
  argument: number | Uint8Array = 0,
): Promise<void> {
  const result = await file.callOnThread((fd) =>
    uninterruptedOnThread("ioctl", fd, request, argument)
  );
  check(result, "ioctl", file.path, name);
}

/** Writes a file of `size` bytes back, as LOOP_CONFIGURE would. Errors are ignored: the kernel does so too. */
export async function flush(file: OpenFile, size: number, signal?: AbortSignal): Promise<void> {
  if (!waitsForStorage(file, size)) return;
  await file.callOnThread((fd) => chainOnThread([{ name: "fsync", args: [fd] }], signal));
}

/** `<linux/fs.h>` */
const SYNC_FILE_RANGE_WAIT_BEFORE = 1;
const SYNC_FILE_RANGE_WRITE = 2;
const SYNC_FILE_RANGE_WAIT_AFTER = 4;
const WRITE_AND_WAIT = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
  SYNC_FILE_RANGE_WAIT_AFTER;

/**
 * Makes an open file forget failed write-backs. The kernel reports each failure once to everyone who has
 * the file open, whoever wrote the data, and keeps an unreported one for the next opener.
 */
export function forgetFailures(file: OpenFile): void {
  const flags = SYNC_FILE_RANGE_WAIT_BEFORE;
  file.call((fd) => libc().syscall(SYS("sync_file_range"), fd, 0, 0, flags));
}

/** A file and its size in bytes. */
export interface SizedFile {
  readonly file: OpenFile;
  readonly size: number;
}

/** A write-back that failed. */
export interface FailedWrite {
  readonly path: string;
  readonly syscall: string;
  /** −errno */
  readonly result: number;
}

/** How a write-back has ended. */
export interface WrittenBack {
  /** The first failure. */
  readonly failed: FailedWrite | undefined;
  /** Whether nobody had time to write meanwhile: this thread has made all calls. */
  readonly isQuick: boolean;
}

/**
 * Writes back the page caches of `nodes` of a block device, in order, and the backing file, which fsync()
 * of the last node reaches. Gives the first failure since a node was opened, or an earlier one that was
 * never reported. By another thread if it can take long; also if `backing` is not given, since its dirty
 * pages cannot be counted then.
 */
export async function writeBack(
  nodes: readonly SizedFile[],
  backing?: SizedFile,
): Promise<WrittenBack> {
  const all = backing ? [...nodes, backing] : nodes;
  let isQuick = backing !== undefined &&
    !all.some(({ file, size }) => waitsForStorage(file, size));
  const files = (isQuick ? all : nodes).map(({ file }) => file);
  const range = [0, 0, WRITE_AND_WAIT] as const;
  let calls = files.map((): SyscallName => "sync_file_range");
  let results: readonly number[];
  if (isQuick) {
    const call = SYS("sync_file_range");
    results = files.map((file) =>
      file.call((fd) => uninterrupted(() => libc().syscall(call, fd, ...range)))
    );
  } else {
    calls[files.length - 1] = "fsync";
    results = await eachOf(files, calls, range);
  }
  // A seccomp filter may forbid sync_file_range().
  if (results.some((result) => isErrno(result, "ENOSYS") || isErrno(result, "EPERM"))) {
    calls = files.map(() => "fsync");
    results = await eachOf(files, calls, []);
    isQuick = false;
  }
  const failed = results.findIndex((result) => result < 0);
  if (failed < 0) return { failed: undefined, isQuick };
  const { path } = files[failed];
  return { failed: { path, syscall: calls[failed], result: results[failed] }, isQuick };
}

/**
 * Has what was written to a disk of `size` bytes reach what lies below it, since each of its partitions has a page
 * cache of its own, and reads from there. A program's close of the disk does that only where nobody else has it
 * open. By a description of its own: that of `file` keeps the failures that it has to report.
 */
export async function writeDown(file: OpenFile, size: number): Promise<void> {
  if (!mayHaveUnwritten(file, size, 0)) return;
  const again = await openAgain(file);
  try {
    const [result] = await eachOf([again], ["sync_file_range"], [0, 0, WRITE_AND_WAIT]);
    // A seccomp filter may forbid it.
    if (result < 0) await eachOf([again], ["fsync"], []);
  } finally {
    await again.closeOnThread();
  }
}

/** Makes one call on each file, in order, by another thread. */
async function eachOf(
  files: readonly OpenFile[],
  names: readonly SyscallName[],
  args: readonly number[],
  fds: readonly Descriptor[] = [],
): Promise<readonly number[]> {
  const next = files[fds.length];
  if (next) return await next.callOnThread((fd) => eachOf(files, names, args, [...fds, fd]));
  return await eachOnThread(names.map((name, i) => ({ name, args: [fds[i], ...args] })));
}

/** Closes a block device of `size` bytes: the last close writes its dirty pages back. */
export async function closeFlushed(file: OpenFile, size: number): Promise<void> {
  if (!file.isClosed && waitsForStorage(file, size)) await file.closeOnThread();
  else file.close();
}

const pages = cachestat.buffer();
const count = cachestat.reader(pages);
let resultAddress: bigint | undefined;
/** What `pages` asks for. */
let counted = { offset: 0, length: 0 };

/**
 * `cachestat(fd)` into `pages`; whether the kernel tells: Linux 6.5, and not of a file that this process
 * neither owns nor may write.
 */
function countPages(file: OpenFile, offset: number, length: number): boolean {
  if (counted.offset !== offset || counted.length !== length) {
    cachestat.write(pages, { off: BigInt(offset), len: BigInt(length) });
    counted = { offset, length };
  }
  resultAddress ??= libc().addressOf(pages) + BigInt(cachestat.offsets.nr_cache);
  const result = file.call((fd) =>
    libc().syscallBuffer(SYS("cachestat"), fd, pages, resultAddress!, 0)
  );
  return result >= 0;
}

/** A disk writes these in 1 or 2 ms, less than a first thread takes to start. */
const FEW_PAGES = 256;
/** cachestat() visits each cached page: µs for a GiB that is not cached, ms for one that is. */
const PIECE = 2 ** 30;
const PATIENCE_MS = 1;

/** Whether enough of a file may be dirty for its write-back to be worth a thread. */
function waitsForStorage(file: OpenFile, size: number): boolean {
  // fsync() of a file on tmpfs does nothing.
  return !inMemory.has(file) && mayHaveUnwritten(file, size, libc().threaded ? 0 : FEW_PAGES);
}

/** Whether more pages than `few` may be dirty. */
function mayHaveUnwritten(file: OpenFile, size: number, few: number): boolean {
  const start = performance.now();
  let unwritten = 0;
  let offset = 0;
  do {
    if (!countPages(file, offset, PIECE)) return true;
    unwritten += Number(count("nr_dirty") + count("nr_writeback"));
    if (unwritten > few) return true;
    offset += PIECE;
  } while (offset < size && performance.now() - start < PATIENCE_MS);
  return offset < size;
}

/** The smallest page size. Where pages are larger, too few are counted, and a thread makes the read. */
const PAGE = 4096;

/** Regular files on tmpfs. An open file stays on its file system. */
const inMemory = new WeakSet<OpenFile>();

/** Says that a file has no storage but memory and swap. */
export function noteInMemory(file: OpenFile): void {
  inMemory.add(file);
}

/**
 * Whether no byte must be read from storage. tmpfs has no page for a hole, and the kernel counts what it has
 * moved to swap as evicted.
 */
function isCached(file: OpenFile, offset: number, length: number): boolean {
  const wanted = Math.ceil((offset + length) / PAGE) - Math.floor(offset / PAGE);
  if (!countPages(file, offset, length)) return false;
  if (Number(count("nr_cache")) >= wanted) return true;
  return Number(count("nr_evicted")) === 0 && inMemory.has(file);
}

/**
 * Like {@linkcode readAt}, by another thread unless the bytes are certainly cached. `buffer`: memory of
 * that length to read into.
 */
export function readWithoutWaiting(
  file: OpenFile,
  offset: number,
  length: number,
  buffer: Uint8Array = new Uint8Array(new ArrayBuffer(length)),
): Uint8Array | Promise<Uint8Array> {
  const isQuick = isCached(file, offset, length);
  return isQuick ? readInto(file, offset, buffer) : readOnThread(file, offset, buffer);
}

async function readOnThread(
  file: OpenFile,
  offset: number,
  buffer: Uint8Array,
): Promise<Uint8Array> {
  let done = 0;
  while (done < buffer.length) {
    const rest = buffer.subarray(done);
    const [n] = await file.callOnThread((fd) =>
      chainOnThread([{ name: "pread64", args: [fd, rest, rest.length, offset + done] }])
    );
    if (check(n, "pread", file.path) === 0) break;
    done += n;
  }
  return buffer.subarray(0, done);
}

/**
 * Fills the memory of all pieces of a file, in one trip to another thread unless all are cached. False if
 * one of them could not be read, or not all of it.
 */
export async function readAllWithoutWaiting(
  file: OpenFile,
  pieces: readonly { offset: number; bytes: Uint8Array }[],
): Promise<boolean> {
  if (pieces.every(({ offset, bytes }) => isCached(file, offset, bytes.length))) {
    return pieces.every(({ offset, bytes }) => {
      const { length } = readInto(file, offset, bytes);
      return length === bytes.length;
    });
  }
  const results = await file.callOnThread((fd) =>
    chainOnThread(pieces.map(({ offset, bytes }): NamedStep => ({
      name: "pread64",
      args: [fd, bytes, bytes.length, offset],
    })))
  );
  return pieces.every(({ bytes }, i) => results[i] === bytes.length);
}
