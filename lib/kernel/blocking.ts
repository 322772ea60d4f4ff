/**
 * Calls that can wait for storage, made by another thread where they would, so that the event loop goes
 * on. What can be known beforehand is asked first: most of these calls wait for nothing, and a
 * thread costs 40 to 70 µs a call, the first one in Bun 3 ms.
 *
 * Never waits: LOOP_CONFIGURE. The kernel flushes the backing file in it, so we do that before
 * ({@linkcode flush}); from then to the bind no other call of this process comes in between.
 *
 * @module
 */
import { chainOnThread, eachOnThread, type NamedStep, uninterruptedOnThread } from "./chain.ts";
import {
  AT_FDCWD,
  check,
  cString,
  O_CLOEXEC,
  open,
  OpenFile,
  readAt,
  uninterrupted,
} from "./file.ts";
import { isErrno } from "../base/errors.ts";
import { libc } from "../runtime/libc.ts";
import { __u64, struct } from "../base/struct.ts";
import { SYS, type SyscallName } from "./syscalls.ts";
import type { Descriptor } from "../runtime/contract.ts";

/** `<linux/openat2.h>` */
export const open_how = struct("open_how", 24, { flags: __u64, mode: __u64, resolve: __u64 });
const RESOLVE_CACHED = 0x20n;
/** Of these there is one for all calls, each of which is done with it when it returns. */
const how = open_how.buffer();
let howAddress: bigint | undefined;

/** `<linux/mman.h>`: struct cachestat_range, and struct cachestat behind it. */
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
 * `open(path, flags)`, by a thread if the path is not in the kernel's cache of names: its directories
 * are on a disk or at the other end of a network then. Before Linux 5.12 nobody can tell. `signal` takes
 * it back while it waits for a thread.
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
  // Whatever else it is, open() says it better: kernels and seccomp filters do not know openat2().
  if (!isErrno(fd, "EAGAIN")) return open(path, flags);
  const step: NamedStep = { name: "openat", args: [AT_FDCWD, name, flags | O_CLOEXEC, 0] };
  const [opened] = await chainOnThread([step], signal);
  return new OpenFile(check(opened, "open", path), path);
}

/** `ioctl(fd, request, argument)` by a thread: for requests that freeze the queue or write back. */
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

/**
 * Writes a file of `size` bytes back, as LOOP_CONFIGURE would. What fails here fails there as well,
 * where the kernel does not care.
 */
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
 * Makes an open file forget which writes have failed before now. A failed write-back is remembered until
 * somebody asks, and whoever opened the file before that is told of it, whosever it was.
 */
export function forgetFailures(file: OpenFile): void {
  const flags = SYNC_FILE_RANGE_WAIT_BEFORE;
  file.call((fd) => libc().syscall(SYS("sync_file_range"), fd, 0, 0, flags));
}

/** A file, and how many bytes it has. */
export interface SizedFile {
  readonly file: OpenFile;
  readonly size: number;
}

/** A write-back that failed: of which file, by which call, and −errno. */
export interface FailedWrite {
  readonly path: string;
  readonly syscall: string;
  readonly result: number;
}

/**
 * Writes back what `nodes` of a block device have in their page caches, one after another, and the file
 * below them, which is behind the last of them. Gives the first write that has failed since that node
 * was opened, or before that if nobody was told of it. By another thread if it can take long, and
 * always without `backing`, the file below: nobody can tell then what waits for its disk.
 */
export async function writeBack(
  nodes: readonly SizedFile[],
  backing?: SizedFile,
): Promise<FailedWrite | undefined> {
  const all = backing ? [...nodes, backing] : nodes;
  const isQuick = backing !== undefined &&
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
  // A seccomp filter may not know it.
  if (results.some((result) => isErrno(result, "ENOSYS") || isErrno(result, "EPERM"))) {
    calls = files.map(() => "fsync");
    results = await eachOf(files, calls, []);
  }
  const failed = results.findIndex((result) => result < 0);
  if (failed < 0) return undefined;
  return { path: files[failed].path, syscall: calls[failed], result: results[failed] };
}

/** A call on each file, one after another, by another thread. */
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

/** What a disk writes in a millisecond or two: less than a first thread takes to start. */
const FEW_PAGES = 256;
/** The kernel looks at each page that it has of a file: some µs a GiB that is not there, ms if it is. */
const PIECE = 2 ** 30;
const PATIENCE_MS = 1;

const pages = cachestat.buffer();
const count = cachestat.reader(pages);
let resultAddress: bigint | undefined;

/** Whether so much of a file is dirty that writing it back is worth a thread. */
function waitsForStorage(file: OpenFile, size: number): boolean {
  resultAddress ??= libc().addressOf(pages) + BigInt(cachestat.offsets.nr_cache);
  const few = libc().threaded ? 0 : FEW_PAGES;
  const start = performance.now();
  let unwritten = 0;
  let offset = 0;
  do {
    cachestat.write(pages, { off: BigInt(offset), len: BigInt(PIECE) });
    // Before Linux 6.5, and where only the owner may know, we cannot.
    const result = file.call((fd) =>
      libc().syscallBuffer(SYS("cachestat"), fd, pages, resultAddress!, 0)
    );
    if (result < 0) return true;
    unwritten += Number(count("nr_dirty") + count("nr_writeback"));
    if (unwritten > few) return true;
    offset += PIECE;
  } while (offset < size && performance.now() - start < PATIENCE_MS);
  return offset < size;
}

/** The smallest page there is: where pages are larger, all reads are made by a thread. */
const PAGE = 4096;

/** Whether all of a part of a file is in memory. Before Linux 6.5 nobody can tell: then it is not. */
function isInMemory(file: OpenFile, offset: number, length: number): boolean {
  cachestat.write(pages, { off: BigInt(offset), len: BigInt(length) });
  resultAddress ??= libc().addressOf(pages) + BigInt(cachestat.offsets.nr_cache);
  const result = file.call((fd) =>
    libc().syscallBuffer(SYS("cachestat"), fd, pages, resultAddress!, 0)
  );
  if (result < 0) return false;
  const wanted = Math.ceil((offset + length) / PAGE) - Math.floor(offset / PAGE);
  return Number(count("nr_cache")) >= wanted;
}

/**
 * Up to `length` bytes from `offset`, by a thread where they would have to be fetched; fewer at the end
 * of the file.
 */
export async function readWithoutWaiting(
  file: OpenFile,
  offset: number,
  length: number,
): Promise<Uint8Array> {
  if (isInMemory(file, offset, length)) return readAt(file, offset, length);
  const buffer = new Uint8Array(new ArrayBuffer(length));
  let done = 0;
  while (done < length) {
    const rest = buffer.subarray(done);
    const [n] = await file.callOnThread((fd) =>
      chainOnThread([{ name: "pread64", args: [fd, rest, rest.length, offset + done] }])
    );
    if (check(n, "pread", file.path) === 0) break;
    done += n;
  }
  return buffer.subarray(0, done);
}
