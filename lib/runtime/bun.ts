/**
 * {@linkcode Libc} through `bun:ffi`. JavaScriptCore does not change errno between a call and the read
 * that follows it.
 *
 * @module
 */
import type { Argument, Libc } from "./contract.ts";
import { bunThreads } from "./bun_threads.ts";
import { type SpawnCalls, spawnProgram } from "./spawn.ts";
import { plainSteps } from "./steps.ts";
import { Threads } from "./threads.ts";
import { setImmediate, type Syscall } from "./workers.ts";

// Not a static import: this module must load, and be checked, where there is no bun:ffi.
const { dlopen, ptr, read } = await import("bun:ffi");

/** Says what to do where bun:ffi cannot compile code: it does for each function that it opens. */
function opened<T>(open: () => T): T {
  try {
    return open();
  } catch (cause) {
    if (!(cause instanceof Error) || !cause.message.includes("requires the JIT")) throw cause;
    throw new Error(
      "Bun's FFI cannot make memory executable here: allow it (systemd: " +
        "MemoryDenyWriteExecute=no; SELinux: execmem), or raise ulimit -v",
      { cause },
    );
  }
}

/** Opens libc. "libc.so.6" is glibc's name, and musl's loader takes it for musl. */
export function load(): Libc {
  const { symbols: libc } = opened(() =>
    dlopen("libc.so.6", {
      __errno_location: { args: [], returns: "ptr" },
      open: { args: ["ptr", "i32", "u32"], returns: "i32" },
      close: { args: ["i32"], returns: "i32" },
      // Lengths stay far below 2 GiB: the low half of a ssize_t is all of it.
      pread: { args: ["i32", "ptr", "u64", "i64"], returns: "i32" },
      pwrite: { args: ["i32", "ptr", "u64", "i64"], returns: "i32" },
      unlink: { args: ["ptr"], returns: "i32" },
      readlink: { args: ["ptr", "ptr", "u64"], returns: "i32" },
      fcntl: { args: ["i32", "i32", "u64"], returns: "i32" },
      // Bun 1.3 makes 0 of a negative number that shall be unsigned: LOOP_CTL_ADD takes −1.
      ioctl: { args: ["i32", "u64", "i64"], returns: "i32" },
      syscall: { args: ["i64", "i32", "ptr", "u64", "u64", "u64"], returns: "i32" },
      uname: { args: ["ptr"], returns: "i32" },
    })
  );
  // A handle has one signature for a symbol: the others need another handle.
  const { symbols: other } = opened(() =>
    dlopen("libc.so.6", {
      ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
      syscall: { args: ["i64", "i64", "i64", "i64", "i64", "i64"], returns: "i32" },
    })
  );
  const errnoPointer = libc.__errno_location()!;
  const outcome = (result: number): number => result < 0 ? -read.i32(errnoPointer, 0) : result;
  // For an empty buffer ptr() returns an Error; any address will do.
  const addressOf = (buffer: Uint8Array): number => buffer.length === 0 ? 0 : ptr(buffer);
  const plain = (argument: Argument): number | bigint =>
    argument instanceof Uint8Array ? addressOf(argument) : argument;
  const syscall: Syscall = (number, a = 0, b = 0, c = 0, d = 0, e = 0) =>
    outcome(other.syscall(number, a, b, c, d, e));
  const threads = new Threads(bunThreads(syscall));
  const bigAddressOf = (buffer: Uint8Array) => BigInt(addressOf(buffer));
  let spawnCalls: SpawnCalls | undefined;

  return {
    machine: process.arch === "arm64" ? "aarch64" : "x86_64",
    open: (path, flags, mode) => outcome(libc.open(path, flags, mode)),
    close: (fd) => outcome(libc.close(fd)),
    pread: (fd, buffer, offset) => outcome(libc.pread(fd, buffer, buffer.length, offset)),
    pwrite: (fd, buffer, offset) => outcome(libc.pwrite(fd, buffer, buffer.length, offset)),
    unlink: (path) => outcome(libc.unlink(path)),
    readlink: (path, buffer) => outcome(libc.readlink(path, buffer, buffer.length)),
    fcntl: (fd, command, argument) => outcome(libc.fcntl(fd, command, argument)),
    ioctl: (fd, request, argument) => outcome(libc.ioctl(fd, request, argument)),
    ioctlBuffer: (fd, request, buffer) => outcome(other.ioctl(fd, request, buffer)),
    syscallBuffer: (number, fd, buffer, c, d, e = 0) =>
      outcome(libc.syscall(number, fd, buffer, c, d, e)),
    uname: (buffer) => libc.uname(buffer),
    addressOf: bigAddressOf,
    spawn: (program) => spawnProgram(spawnCalls ??= loadSpawn(), bigAddressOf, program),
    environment: () => Object.entries(process.env).map(([name, value]) => `${name}=${value}`),
    async chain(steps, signal) {
      // Keeps the buffers from being collected while the thread uses their addresses.
      const kept = [steps];
      const results = await threads.chain(plainSteps(steps, plain), signal);
      kept.length = 0;
      return results;
    },
    syscall: (number, a = 0, b = 0, c = 0, d = 0, e = 0) =>
      syscall(number, plain(a), plain(b), plain(c), plain(d), plain(e)),
    get threaded() {
      return threads.available;
    },
    startThread: () => threads.start(),
    turn: () => new Promise<void>((resolve) => setImmediate(resolve)),
    atNextTurn(callback) {
      setImmediate(callback).unref();
    },
  };
}

/** Called for the first program: most processes start none. */
function loadSpawn(): SpawnCalls {
  const { symbols } = dlopen("libc.so.6", {
    posix_spawn_file_actions_init: { args: ["ptr"], returns: "i32" },
    posix_spawn_file_actions_adddup2: { args: ["ptr", "i32", "i32"], returns: "i32" },
    posix_spawn_file_actions_addclose: { args: ["ptr", "i32"], returns: "i32" },
    posix_spawn_file_actions_destroy: { args: ["ptr"], returns: "i32" },
    posix_spawnattr_init: { args: ["ptr"], returns: "i32" },
    posix_spawnattr_setflags: { args: ["ptr", "i16"], returns: "i32" },
    posix_spawnattr_setsigmask: { args: ["ptr", "ptr"], returns: "i32" },
    posix_spawnattr_setsigdefault: { args: ["ptr", "ptr"], returns: "i32" },
    posix_spawn: { args: ["ptr", "ptr", "ptr", "ptr", "ptr", "ptr"], returns: "i32" },
  });
  return symbols;
}
