/**
 * The libc calls that loopdev makes: the contract that each runtime's adapter keeps.
 *
 * @module
 */

declare const owned: unique symbol;

/**
 * A descriptor of a file that is open. Only an OpenFile lends one, for the time of a call: the kernel
 * gives a closed descriptor's number to the next file.
 */
export type Descriptor = number & { readonly [owned]: true };

/** An argument of a system call: an integer, or a buffer, which is given by its address. */
export type Argument = number | bigint | Uint8Array;

/** One system call of a chain. */
export interface Step<Arg = Argument> {
  /** As in `syscall(number, ...)`. */
  readonly number: number;
  /** The index of an earlier step: the descriptor that it returned is the first argument of this one. */
  readonly on?: number;
  /** At most five, with the one of `on`. */
  readonly args: readonly Arg[];
}

/** A step as a thread takes it: with addresses, which are the same in all threads. */
export type PlainStep = Step<number | bigint>;

/**
 * Each method returns what the call returns (≥ 0), or −errno. Paths are bytes that end with a NUL.
 * Nothing here throws or retries: no request is made twice.
 */
export interface Libc {
  /** The machine that this process is built for; uname(2) may say another one (personality(2)). */
  readonly machine: Machine;
  /** `open(path, flags, mode)` */
  open(path: Uint8Array, flags: number, mode: number): number;
  /** `close(fd)`: not to be repeated, since the descriptor is gone even if it fails. */
  close(fd: Descriptor): number;
  /** `ioctl(fd, request, argument)` with an integer. */
  ioctl(fd: Descriptor, request: number, argument: number): number;
  /** `ioctl(fd, request, buffer)` with the address of a buffer. */
  ioctlBuffer(fd: Descriptor, request: number, buffer: Uint8Array): number;
  /** `pread(fd, buffer, sizeof buffer, offset)` */
  pread(fd: Descriptor, buffer: Uint8Array, offset: number): number;
  /** `pwrite(fd, buffer, sizeof buffer, offset)` */
  pwrite(fd: Descriptor, buffer: Uint8Array, offset: number): number;
  /** `unlink(path)` */
  unlink(path: Uint8Array): number;
  /** `readlink(path, buffer, sizeof buffer)`: the length, without a NUL. */
  readlink(path: Uint8Array, buffer: Uint8Array): number;
  /** `fcntl(fd, command, argument)` */
  fcntl(fd: Descriptor, command: number, argument: number): number;
  /** `syscall(number, fd, buffer, c, d, e)`, for calls that older libcs do not wrap. */
  syscallBuffer(
    number: number,
    fd: Descriptor,
    buffer: Uint8Array,
    c: number | bigint,
    d: number,
    e?: number,
  ): number;
  /** `uname(buffer)`, which cannot fail. */
  uname(buffer: Uint8Array): number;
  /** The address of `buffer`, for a struct that points to it; any, if it is empty. */
  addressOf(buffer: Uint8Array): bigint;
  /**
   * Another thread makes the system calls one after another, up to the first that fails, while this
   * thread goes on. Resolves to what each returned. Rejects if the thread dies, which is a bug. The
   * process does not end before the calls have.
   *
   * If `signal` aborts before a thread has begun, rejects with the signal's reason, and no call is made.
   * Afterwards the signal only lets the process end: the caller must keep the descriptors open until
   * the calls are over.
   *
   * @param steps At least one.
   */
  chain(steps: readonly Step[], signal?: AbortSignal): Promise<number[]>;
  /**
   * `posix_spawn()`: starts a program with no signal blocked or ignored. Returns its pid, or −errno.
   */
  spawn(program: Program): number;
  /** This process's environment as it is now: `NAME=value`. */
  environment(): string[];
  /** Any system call, made on this thread. An argument that is left out is 0. */
  syscall(
    number: number,
    a?: Argument,
    b?: Argument,
    c?: Argument,
    d?: Argument,
    e?: Argument,
  ): number;
  /** Whether a thread has started. If not, the first `chain` takes longer: 3 ms on Bun, more on Node. */
  readonly threaded: boolean;
  /** Begins to start a thread, if none has started, for a `chain` that comes soon. */
  startThread(): void;
  /** Resolves when the event loop has turned: timers and signal handlers that were due have run. */
  turn(): Promise<void>;
  /** Calls back when the event loop turns. Does not keep the process from ending. */
  atNextTurn(callback: () => void): void;
}

/** A program to start. */
export interface Program {
  readonly path: string;
  /** Beginning with its own name. */
  readonly args: readonly string[];
  /** `NAME=value` */
  readonly env: readonly string[];
  /** Each descriptor of its own, and ours that it is a copy of; no number stands on both sides. */
  readonly files: readonly (readonly [theirs: number, ours: Descriptor])[];
  /** Descriptors of ours to close in it: those that are not O_CLOEXEC. */
  readonly close: readonly number[];
  /** Whether it gets a session of its own, so that no terminal's signals reach it. */
  readonly session: boolean;
}

/** As uname(2) names them. */
export type Machine = "x86_64" | "aarch64";
