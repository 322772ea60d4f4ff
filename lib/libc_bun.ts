/**
 * {@linkcode Libc} through `bun:ffi`. JavaScriptCore leaves errno alone between a call and the read
 * that follows it in the same function.
 *
 * @module
 */
import type { Libc, WaitingCalls } from "./libc.ts";
import { Threads } from "./libc_bun_threads.ts";

// Not a static import: this module must load (and be checked) where bun:ffi does not exist.
const { dlopen, ptr, read } = await import("bun:ffi");

/** Opens libc. "libc.so.6" is glibc's own name, and musl's loader takes it for itself. */
export function load(): Libc {
  const { symbols: libc } = dlopen("libc.so.6", {
    __errno_location: { args: [], returns: "ptr" },
    open: { args: ["ptr", "i32", "u32"], returns: "i32" },
    close: { args: ["i32"], returns: "i32" },
    fsync: { args: ["i32"], returns: "i32" },
    // Lengths stay far below 2 GiB: the low half of a ssize_t is all of it.
    pread: { args: ["i32", "ptr", "u64", "i64"], returns: "i32" },
    pwrite: { args: ["i32", "ptr", "u64", "i64"], returns: "i32" },
    unlink: { args: ["ptr"], returns: "i32" },
    readlink: { args: ["ptr", "ptr", "u64"], returns: "i32" },
    fcntl: { args: ["i32", "i32", "u64"], returns: "i32" },
    ioctl: { args: ["i32", "u64", "u64"], returns: "i32" },
    statx: { args: ["i32", "ptr", "i32", "u32", "ptr"], returns: "i32" },
    syscall: { args: ["i64", "i32", "ptr", "u64", "u64"], returns: "i32" },
    memfd_create: { args: ["ptr", "u32"], returns: "i32" },
    uname: { args: ["ptr"], returns: "i32" },
  });
  // The same symbol with another signature: a second dlopen, as Bun has no alias.
  const { symbols: withBuffer } = dlopen("libc.so.6", {
    ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
  });
  const errnoPointer = libc.__errno_location()!;
  const outcome = (result: number): number => result < 0 ? -read.i32(errnoPointer, 0) : result;

  const calls: Libc = {
    open: (path, flags, mode) => outcome(libc.open(path, flags, mode)),
    close: (fd) => outcome(libc.close(fd)),
    fsync: (fd) => outcome(libc.fsync(fd)),
    pread: (fd, buffer, offset) => outcome(libc.pread(fd, buffer, buffer.length, offset)),
    pwrite: (fd, buffer, offset) => outcome(libc.pwrite(fd, buffer, buffer.length, offset)),
    unlink: (path) => outcome(libc.unlink(path)),
    readlink: (path, buffer) => outcome(libc.readlink(path, buffer, buffer.length)),
    fcntl: (fd, command, argument) => outcome(libc.fcntl(fd, command, argument)),
    ioctl: (fd, request, argument) => outcome(libc.ioctl(fd, request, argument)),
    ioctlBuffer: (fd, request, buffer) => outcome(withBuffer.ioctl(fd, request, buffer)),
    statx: (dirfd, path, flags, mask, buffer) =>
      outcome(libc.statx(dirfd, path, flags, mask, buffer)),
    syscall: (number, fd, buffer, c, d) => outcome(libc.syscall(number, fd, buffer, c, d)),
    memfd_create: (name, flags) => outcome(libc.memfd_create(name, flags)),
    uname: (buffer) => outcome(libc.uname(buffer)),
    addressOf: (buffer) => BigInt(ptr(buffer)),
    later: (name, ...args) => threads.call(name, args),
    get threaded() {
      return threads.available;
    },
    startThread: () => threads.start(),
  };
  const threads = new Threads((name, args) =>
    (calls[name as keyof WaitingCalls] as (...args: unknown[]) => number)(...args)
  );
  return calls;
}
