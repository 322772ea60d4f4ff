/**
 * {@linkcode Libc} through `Deno.dlopen`. Needs `--allow-ffi`, nothing else.
 *
 * errno: V8's garbage collector may run on this thread whenever a function is entered or something is
 * allocated, and its futexes leave EAGAIN in errno. So each method copies errno right after the call,
 * whatever it returned. The methods must not share a helper.
 *
 * @module
 */
import { decodeName } from "../base/names.ts";
import type { Argument, Libc, PlainStep } from "./contract.ts";
import { denoThreads } from "./deno_threads.ts";
import { type SpawnCalls, spawnProgram } from "./spawn.ts";
import { makeSteps, plainSteps } from "./steps.ts";
import { SYSCALLS, X86_64 } from "./syscall_numbers.ts";
import { Threads } from "./threads.ts";

const AT_FDCWD = -100;

/** Deno declares 64-bit parameters as bigint, and takes numbers too, for which it allocates nothing. */
type TakesNumbers<Symbols> = {
  [Name in keyof Symbols]: Symbols[Name] extends (...args: infer Args) => infer Result
    ? (...args: { [I in keyof Args]: Args[I] extends bigint ? number | bigint : Args[I] }) => Result
    : never;
};

/**
 * Opens libc. "libc.so.6" is glibc's name, and musl's loader takes it for musl.
 *
 * Deno compiles each function while it opens it, which takes 0.2 ms. So calls that syscall() can make have none
 * of their own, but for ioctl() with a buffer: to ask for a buffer's address takes longer than the rest of
 * a call.
 */
export function load(): Libc {
  requirePermission();
  const { symbols } = Deno.dlopen("libc.so.6", {
    __errno_location: { parameters: [], result: "pointer" },
    memcpy: { parameters: ["buffer", "pointer", "usize"], result: "void" },
    ioctlBuffer: { name: "ioctl", parameters: ["i32", "usize", "buffer"], result: "i32" },
    // Lengths stay far below 2 GiB: the low half of a ssize_t is all of it.
    syscall: { parameters: ["isize", "i32", "buffer", "usize", "usize", "usize"], result: "i32" },
    syscallPlain: {
      name: "syscall",
      parameters: ["isize", "isize", "isize", "isize", "isize", "isize"],
      result: "i32",
    },
    getpid: { parameters: [], result: "i32", nonblocking: true },
  });
  const libc = symbols as TakesNumbers<typeof symbols>;
  const errnoPointer = libc.__errno_location();
  const errno = new Int32Array(1);
  const errnoBytes = new Uint8Array(errno.buffer);
  const machine = Deno.build.arch;
  const number = (name: keyof typeof SYSCALLS) => SYSCALLS[name][machine];
  const [CLOSE, IOCTL, FCNTL] = [number("close"), number("ioctl"), number("fcntl")];
  const [PREAD, PWRITE, OPENAT] = [number("pread64"), number("pwrite64"), number("openat")];
  const addressOf = (buffer: Uint8Array) =>
    Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer as BufferSource));
  const plain = (argument: Argument) =>
    argument instanceof Uint8Array ? addressOf(argument) : argument;
  const held: Argument[] = [];
  const syscall: Libc["syscall"] = (number, a = 0, b = 0, c = 0, d = 0, e = 0) => {
    // Keeps the buffers from being collected while the kernel uses their addresses.
    held[0] = a;
    held[1] = b;
    held[2] = c;
    held[3] = d;
    held[4] = e;
    const A = plain(a);
    const B = plain(b);
    const C = plain(c);
    const result = libc.syscallPlain(number, A, B, C, plain(d), plain(e));
    libc.memcpy(errnoBytes, errnoPointer, 4);
    return result < 0 ? -errno[0] : result;
  };
  const here = (steps: readonly PlainStep[]) => makeSteps(steps, syscall);
  let threads: Threads | undefined;
  let spawnCalls: SpawnCalls | undefined;
  // setTimeout() takes at least a ms, and its first use loads Node's timers: a fifth of Deno's start.
  // setImmediate() loads all of Node's API, which takes as long as the start.
  const turn = async () => void await libc.getpid();

  return {
    machine,
    open(path, flags, mode) {
      const result = libc.syscall(OPENAT, AT_FDCWD, path as BufferSource, flags, mode, 0);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    close(fd) {
      const result = libc.syscallPlain(CLOSE, fd, 0, 0, 0, 0);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    pread(fd, buffer, offset) {
      const result = libc.syscall(PREAD, fd, buffer as BufferSource, buffer.length, offset, 0);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    pwrite(fd, buffer, offset) {
      const result = libc.syscall(PWRITE, fd, buffer as BufferSource, buffer.length, offset, 0);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    unlink: machine === "x86_64"
      ? (path) => syscall(X86_64.unlink, path)
      : (path) => syscall(number("unlinkat"), AT_FDCWD, path),
    readlink: machine === "x86_64"
      ? (path, buffer) => syscall(X86_64.readlink, path, buffer, buffer.length)
      : (path, buffer) => syscall(number("readlinkat"), AT_FDCWD, path, buffer, buffer.length),
    fcntl(fd, command, argument) {
      const result = libc.syscallPlain(FCNTL, fd, command, argument, 0, 0);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    ioctl(fd, request, argument) {
      const result = libc.syscallPlain(IOCTL, fd, request, argument, 0, 0);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    ioctlBuffer(fd, request, buffer) {
      const result = libc.ioctlBuffer(fd, request, buffer as BufferSource);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    syscallBuffer(number, fd, buffer, c, d, e = 0) {
      const result = libc.syscall(number, fd, buffer as BufferSource, c, d, e);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    uname: (buffer) => syscall(number("uname"), buffer),
    addressOf,
    spawn: (program) => spawnProgram(spawnCalls ??= loadSpawn(), addressOf, program),
    environment,
    async chain(steps, signal) {
      const kept = [steps];
      threads ??= new Threads(denoThreads(machine, here));
      const results = await threads.chain(plainSteps(steps, plain), signal);
      keep(kept);
      return results;
    },
    syscall,
    threaded: true,
    startThread() {},
    turn,
    // getpid() is over before the process could wait for it.
    atNextTurn: (callback) => void turn().then(callback),
  };
}

/** `environ`: Deno's own way to read it needs another permission. */
function environment(): string[] {
  const { symbols } = Deno.dlopen("libc.so.6", { environ: { type: "pointer" } });
  // Deno gives the address of the variable, which holds the address of the list.
  const address = symbols.environ && new Deno.UnsafePointerView(symbols.environ).getPointer();
  const list = address && new Deno.UnsafePointerView(address);
  const found: string[] = [];
  for (let at = 0; list; at += 8) {
    const text = list.getPointer(at);
    if (!text) break;
    const bytes: number[] = [];
    const view = new Deno.UnsafePointerView(text);
    for (let i = 0, byte; (byte = view.getUint8(i)) !== 0; i++) bytes.push(byte);
    found.push(decodeName(new Uint8Array(bytes)));
  }
  return found;
}

/** Called for the first program: most processes start none. */
function loadSpawn(): SpawnCalls {
  const { symbols } = Deno.dlopen("libc.so.6", {
    posix_spawn_file_actions_init: { parameters: ["buffer"], result: "i32" },
    posix_spawn_file_actions_adddup2: { parameters: ["buffer", "i32", "i32"], result: "i32" },
    posix_spawn_file_actions_addclose: { parameters: ["buffer", "i32"], result: "i32" },
    posix_spawn_file_actions_destroy: { parameters: ["buffer"], result: "i32" },
    posix_spawnattr_init: { parameters: ["buffer"], result: "i32" },
    posix_spawnattr_setflags: { parameters: ["buffer", "i16"], result: "i32" },
    posix_spawnattr_setsigmask: { parameters: ["buffer", "buffer"], result: "i32" },
    posix_spawnattr_setsigdefault: { parameters: ["buffer", "buffer"], result: "i32" },
    posix_spawn: {
      parameters: ["buffer", "buffer", "buffer", "buffer", "buffer", "buffer"],
      result: "i32",
    },
  });
  // Deno's types want a Uint8Array over an ArrayBuffer.
  return symbols as unknown as SpawnCalls;
}

/**
 * Asks for FFI without a library's name: in a terminal Deno asks the person. Throws if it is refused. For
 * a permission that names libc.so.6, Deno loads that file from the working directory, or fails.
 */
function requirePermission(): void {
  const ffi = { name: "ffi" } as const;
  if (Deno.permissions.querySync(ffi).state === "granted") return;
  if (Deno.permissions.requestSync(ffi).state === "granted") return;
  throw new Deno.errors.NotCapable(
    "loopdev calls libc, which needs --allow-ffi without a library's name " +
      "(Deno takes the name in --allow-ffi=libc.so.6 for a file in the working directory)",
  );
}

/** Called after a call that used their addresses: until then the buffers are not collected. */
function keep(buffers: unknown[]): void {
  buffers.length = 0;
}
