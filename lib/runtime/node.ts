/**
 * {@linkcode Libc} through `node:ffi`, which Node.js has without a flag since 26.10.
 *
 * errno: V8's garbage collector may overwrite it, as on Deno (see deno.ts). So each method reads it right
 * after the call, by getInt32(), which is native and allocates nothing. The methods must not share a
 * helper.
 *
 * @module
 */
import type { Argument, Libc } from "./contract.ts";
import { nodeThreads } from "./node_threads.ts";
import { type SpawnCalls, spawnProgram } from "./spawn.ts";
import { plainSteps } from "./steps.ts";
import { SYSCALLS } from "./syscall_numbers.ts";
import { Threads } from "./threads.ts";
import { setImmediate } from "./workers.ts";

// Not a static import: this module must load, and be checked, where there is no node:ffi.
const { dlopen, getInt32, getRawPointer } = await import("node:ffi").catch(refuseRuntime);

/** Throws when loopdev is imported: before the program has done anything. */
function refuseRuntime(): never {
  const { versions, allowedNodeEnvironmentFlags: flags } = globalThis.process ?? {};
  const name = versions?.node === undefined ? "this runtime" : `Node.js ${versions.node}`;
  const remedy = flags?.has("--experimental-ffi")
    ? "was started without: add --experimental-ffi, the default from Node.js 26.10 on"
    : "does not have: run it with Node.js 26.10, with `bun` or with `deno run --allow-ffi`";
  throw new TypeError(`loopdev calls libc through an FFI, which ${name} ${remedy}`);
}

const F_SETFD = 2;

/**
 * A number, and as many arguments as the kernel takes. On x86-64 Node passes seven in memory, which takes half
 * the time of a call with six.
 */
const SYSCALL = ["i64", "i64", "i64", "i64", "i64", "i64", "i64"] as const;

/** Most arguments are below 512, and to make a bigint takes longer than to find one. */
const SMALL = Array.from({ length: 512 }, (_, n) => BigInt(n));

/** Opens libc. "libc.so.6" is glibc's name, and musl's loader takes it for musl. */
export function load(): Libc {
  requirePermission();
  // Node 26.10 takes bigint, and no number, for 64 bits.
  const { functions: libc } = dlopen("libc.so.6", {
    __errno_location: { arguments: [], return: "pointer" },
    _exit: { arguments: ["i32"], return: "void" },
    open: { arguments: ["buffer", "i32", "u32"], return: "i32" },
    close: { arguments: ["i32"], return: "i32" },
    unlink: { arguments: ["buffer"], return: "i32" },
    readlink: { arguments: ["buffer", "buffer", "u64"], return: "i32" },
    fcntl: { arguments: ["i32", "i32", "i64"], return: "i32" },
    ioctl: { arguments: ["i32", "u64", "i64"], return: "i32" },
    // Lengths stay far below 2 GiB: the low half of a ssize_t is all of it.
    syscall: { arguments: SYSCALL, return: "i32" },
    uname: { arguments: ["buffer"], return: "i32" },
  });
  // A handle has one signature for a symbol: the other needs another handle.
  const { functions: other } = dlopen("libc.so.6", {
    ioctl: { arguments: ["i32", "u64", "buffer"], return: "i32" },
  });
  const errnoPointer = libc.__errno_location();
  const plain = (argument: Argument) =>
    argument instanceof Uint8Array ? getRawPointer(argument) : argument;
  const big = (argument: Argument) => {
    if (argument instanceof Uint8Array) return getRawPointer(argument);
    if (typeof argument === "bigint") return argument;
    return argument >= 0 && argument < SMALL.length ? SMALL[argument] : BigInt(argument);
  };
  const held: Argument[] = [];
  const syscall: Libc["syscall"] = (number, a = 0, b = 0, c = 0, d = 0, e = 0) => {
    // Keeps the buffers from being collected while the kernel uses their addresses.
    held[0] = a;
    held[1] = b;
    held[2] = c;
    held[3] = d;
    held[4] = e;
    const result = libc.syscall(big(number), big(a), big(b), big(c), big(d), big(e), 0n);
    const errno = getInt32(errnoPointer);
    return result < 0 ? -errno : result;
  };
  let threads: Threads | undefined;
  const startedThreads = () => threads ??= new Threads(nodeThreads(syscall, libc._exit));
  let spawnCalls: SpawnCalls | undefined;

  const machine = process.arch === "arm64" ? "aarch64" : "x86_64";
  const [PREAD, PWRITE] = [SYSCALLS.pread64[machine], SYSCALLS.pwrite64[machine]];

  return {
    machine,
    open(path, flags, mode) {
      const result = libc.open(path, flags, mode);
      const errno = getInt32(errnoPointer);
      return result < 0 ? -errno : result;
    },
    close(fd) {
      const result = libc.close(fd);
      const errno = getInt32(errnoPointer);
      return result < 0 ? -errno : result;
    },
    pread: (fd, buffer, offset) => syscall(PREAD, fd, buffer, buffer.length, offset),
    pwrite: (fd, buffer, offset) => syscall(PWRITE, fd, buffer, buffer.length, offset),
    unlink(path) {
      const result = libc.unlink(path);
      const errno = getInt32(errnoPointer);
      return result < 0 ? -errno : result;
    },
    readlink(path, buffer) {
      const result = libc.readlink(path, buffer, BigInt(buffer.length));
      const errno = getInt32(errnoPointer);
      return result < 0 ? -errno : result;
    },
    fcntl(fd, command, argument) {
      const result = libc.fcntl(fd, command, BigInt(argument));
      const errno = getInt32(errnoPointer);
      return result < 0 ? -errno : result;
    },
    ioctl(fd, request, argument) {
      const result = libc.ioctl(fd, BigInt(request), BigInt(argument));
      const errno = getInt32(errnoPointer);
      return result < 0 ? -errno : result;
    },
    ioctlBuffer(fd, request, buffer) {
      const result = other.ioctl(fd, BigInt(request), buffer);
      const errno = getInt32(errnoPointer);
      return result < 0 ? -errno : result;
    },
    syscallBuffer: syscall,
    uname: (buffer) => libc.uname(buffer),
    addressOf: getRawPointer,
    spawn(program) {
      // Node makes its standard descriptors close-on-exec, and gives them to its own children by dup2().
      for (const fd of [0, 1, 2]) libc.fcntl(fd, F_SETFD, 0n);
      return spawnProgram(spawnCalls ??= loadSpawn(), getRawPointer, program);
    },
    environment: () => Object.entries(process.env).map(([name, value]) => `${name}=${value}`),
    async chain(steps, signal) {
      // Keeps the buffers from being collected while the thread uses their addresses.
      const kept = [steps];
      const results = await startedThreads().chain(plainSteps(steps, plain), signal);
      kept.length = 0;
      return results;
    },
    syscall,
    get threaded() {
      return threads?.available ?? false;
    },
    startThread: () => startedThreads().start(),
    turn: () => new Promise<void>((resolve) => setImmediate(resolve)),
    atNextTurn(callback) {
      setImmediate(callback).unref();
    },
  };
}

/** Called for the first program: most processes start none. */
function loadSpawn(): SpawnCalls {
  const { functions } = dlopen("libc.so.6", {
    posix_spawn_file_actions_init: { arguments: ["buffer"], return: "i32" },
    posix_spawn_file_actions_adddup2: { arguments: ["buffer", "i32", "i32"], return: "i32" },
    posix_spawn_file_actions_addclose: { arguments: ["buffer", "i32"], return: "i32" },
    posix_spawn_file_actions_destroy: { arguments: ["buffer"], return: "i32" },
    posix_spawnattr_init: { arguments: ["buffer"], return: "i32" },
    posix_spawnattr_setflags: { arguments: ["buffer", "i16"], return: "i32" },
    posix_spawnattr_setsigmask: { arguments: ["buffer", "buffer"], return: "i32" },
    posix_spawnattr_setsigdefault: { arguments: ["buffer", "buffer"], return: "i32" },
    posix_spawn: {
      arguments: ["buffer", "buffer", "buffer", "buffer", "buffer", "buffer"],
      return: "i32",
    },
  });
  return functions;
}

function requirePermission(): void {
  if (process.permission?.has("ffi") ?? true) return;
  throw new Error("loopdev calls libc, which --permission forbids: add --allow-ffi");
}
