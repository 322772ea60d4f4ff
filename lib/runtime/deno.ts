/**
 * {@linkcode Libc} through `Deno.dlopen`. Needs `--allow-ffi`, nothing else.
 *
 * errno: V8's garbage collector runs on other threads and on this one's function entries, and its
 * futexes leave EAGAIN in errno. So each call copies errno out at once, always, in the same function
 * with nothing in between: that is why these bodies are alike and must not share a helper.
 */
import type { Argument, Libc, PlainStep } from "./contract.ts";
import { denoThreads } from "./deno_threads.ts";
import { type SpawnCalls, spawnProgram } from "./spawn.ts";
import { makeSteps, plainSteps } from "./steps.ts";
import { Threads } from "./threads.ts";

/** Deno declares 64-bit parameters as bigint; the runtime takes numbers too, and allocates nothing. */
type TakesNumbers<Symbols> = {
  [Name in keyof Symbols]: Symbols[Name] extends (...args: infer Args) => infer Result
    ? (...args: { [I in keyof Args]: Args[I] extends bigint ? number | bigint : Args[I] }) => Result
    : never;
};

/** Opens libc. "libc.so.6" is glibc's own name, and musl's loader takes it for itself. */
export function load(): Libc {
  requirePermission();
  const { symbols } = Deno.dlopen("libc.so.6", {
    __errno_location: { parameters: [], result: "pointer" },
    memcpy: { parameters: ["buffer", "pointer", "usize"], result: "void" },
    open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    ioctl: { parameters: ["i32", "usize", "usize"], result: "i32" },
    ioctlBuffer: { name: "ioctl", parameters: ["i32", "usize", "buffer"], result: "i32" },
    // Lengths stay far below 2 GiB: the low half of a ssize_t is all of it.
    pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
    pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
    unlink: { parameters: ["buffer"], result: "i32" },
    readlink: { parameters: ["buffer", "buffer", "usize"], result: "i32" },
    fcntl: { parameters: ["i32", "i32", "usize"], result: "i32" },
    syscall: { parameters: ["isize", "i32", "buffer", "usize", "usize", "usize"], result: "i32" },
    syscallPlain: {
      name: "syscall",
      parameters: ["isize", "isize", "isize", "isize", "isize", "isize"],
      result: "i32",
    },
    uname: { parameters: ["buffer"], result: "i32" },
    getpid: { parameters: [], result: "i32", nonblocking: true },
  });
  const libc = symbols as TakesNumbers<typeof symbols>;
  const errnoPointer = libc.__errno_location();
  const errno = new Int32Array(1);
  const errnoBytes = new Uint8Array(errno.buffer);
  const machine = Deno.build.arch;
  const addressOf = (buffer: Uint8Array) =>
    Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer as BufferSource));
  const plain = (argument: Argument) =>
    argument instanceof Uint8Array ? addressOf(argument) : argument;
  const syscall = (...[number, a = 0, b = 0, c = 0, d = 0, e = 0]: (number | bigint)[]) => {
    const result = libc.syscallPlain(number, a, b, c, d, e);
    libc.memcpy(errnoBytes, errnoPointer, 4);
    return result < 0 ? -errno[0] : result;
  };
  const here = (steps: readonly PlainStep[]) => makeSteps(steps, syscall);
  let threads: Threads | undefined;
  let spawnCalls: SpawnCalls | undefined;
  // setTimeout() takes a ms at least, and its first use loads Node's timers, a fifth of a start;
  // setImmediate() loads all of Node's API, and that is another start.
  const turn = async () => void await libc.getpid();

  return {
    machine,
    open(path, flags, mode) {
      const result = libc.open(path as BufferSource, flags, mode);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    close(fd) {
      const result = libc.close(fd);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    pread(fd, buffer, offset) {
      const result = libc.pread(fd, buffer as BufferSource, buffer.length, offset);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    pwrite(fd, buffer, offset) {
      const result = libc.pwrite(fd, buffer as BufferSource, buffer.length, offset);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    unlink(path) {
      const result = libc.unlink(path as BufferSource);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    readlink(path, buffer) {
      const result = libc.readlink(path as BufferSource, buffer as BufferSource, buffer.length);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    fcntl(fd, command, argument) {
      const result = libc.fcntl(fd, command, argument);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    ioctl(fd, request, argument) {
      const result = libc.ioctl(fd, request, argument);
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
    uname(buffer) {
      const result = libc.uname(buffer as BufferSource);
      libc.memcpy(errnoBytes, errnoPointer, 4);
      return result < 0 ? -errno[0] : result;
    },
    addressOf,
    spawn: (program) => spawnProgram(spawnCalls ??= loadSpawn(), addressOf, program),
    async chain(steps, signal) {
      const kept = [steps];
      threads ??= new Threads(denoThreads(machine, here));
      const results = await threads.chain(plainSteps(steps, plain), signal);
      keep(kept);
      return results;
    },
    syscall(number, ...args) {
      const result = syscall(number, ...args.map(plain));
      keep(args);
      return result;
    },
    threaded: true,
    startThread() {},
    turn,
    // The call has ended before a process could wait for it.
    atNextTurn: (callback) => void turn().then(callback),
  };
}

/** Opened when the first program is started: most processes start none. */
function loadSpawn(): SpawnCalls {
  const { symbols } = Deno.dlopen("libc.so.6", {
    posix_spawn_file_actions_init: { parameters: ["buffer"], result: "i32" },
    posix_spawn_file_actions_adddup2: { parameters: ["buffer", "i32", "i32"], result: "i32" },
    posix_spawn_file_actions_addclose: { parameters: ["buffer", "i32"], result: "i32" },
    posix_spawn_file_actions_destroy: { parameters: ["buffer"], result: "i32" },
    posix_spawnattr_init: { parameters: ["buffer"], result: "i32" },
    posix_spawnattr_setflags: { parameters: ["buffer", "i16"], result: "i32" },
    posix_spawnattr_setsigmask: { parameters: ["buffer", "buffer"], result: "i32" },
    posix_spawn: {
      parameters: ["buffer", "buffer", "buffer", "buffer", "buffer", "buffer"],
      result: "i32",
    },
  });
  // Its types know no Uint8Array over whatever buffer.
  return symbols as unknown as SpawnCalls;
}

/**
 * Asks for all of FFI, in a terminal the person, or throws. Where the permission names libraries, or
 * dlopen() itself has asked for one, Deno loads libc.so.6 from the working directory, or fails.
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

/** Called after a call that was given addresses: until then their buffers may not be collected. */
function keep(buffers: unknown[]): void {
  buffers.length = 0;
}
