/** The libc calls that loopdev makes, as a written contract with one implementation a runtime. */

declare const owned: unique symbol;

/**
 * A file descriptor while the file it belongs to is open. Only an OpenFile gives one away, for the
 * time of a call: a mere number may be another file's by the time the call is made.
 */
export type Descriptor = number & { readonly [owned]: true };

/** What a system call takes: integers, and buffers by their address. */
export type Argument = number | bigint | Uint8Array;

/** A system call by its number, in a chain of them. */
export interface Step<Arg = Argument> {
  readonly number: number;
  /** The index of an earlier call: what it returned, a descriptor, comes before the arguments here. */
  readonly on?: number;
  /** Five at most, with that of `on`. */
  readonly args: readonly Arg[];
}

/** What a thread takes: buffers by the addresses that they have in all threads. */
export type PlainStep = Step<number | bigint>;

/**
 * Every call returns what the system call returns (≥ 0), or −errno. Paths are bytes with a NUL at
 * their end. Nothing here throws, allocates on success, or retries; no request is made twice.
 */
export interface Libc {
  /** The machine that this process runs as, whatever the kernel's personality says to uname(2). */
  readonly machine: Machine;
  /** `open(path, flags, mode)` */
  open(path: Uint8Array, flags: number, mode: number): number;
  /** `close(fd)`: never repeated, the descriptor is gone even if it fails. */
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
  /** `syscall(number, fd, buffer, c, d, e)`, for what older libcs do not wrap; several in each attach. */
  syscallBuffer(
    number: number,
    fd: Descriptor,
    buffer: Uint8Array,
    c: number | bigint,
    d: number,
    e?: number,
  ): number;
  /** `uname(buffer)` */
  uname(buffer: Uint8Array): number;
  /** Where `buffer` lies, for a struct that points to another one; anywhere, if it is empty. */
  addressOf(buffer: Uint8Array): bigint;
  /**
   * System calls one after another, made by one other thread, so that their wait stops nobody; the
   * first one that fails is the last. What each of them returned. Rejects if the thread dies, which is
   * a bug; the process does not end before the calls have.
   *
   * `signal` takes them back while they wait for a thread: rejects with its reason, and none of them is
   * made. Once a thread has begun it changes nothing: what the calls are made on must stay what it is
   * until they are over, and who gave up waits no longer by himself.
   */
  chain(steps: readonly Step[], signal?: AbortSignal): Promise<number[]>;
  /**
   * `posix_spawn()` of the program at `path` in a session of its own, with no signal blocked. The
   * child's pid, or −errno.
   */
  spawn(program: Program): number;
  /** Any system call, by its number, made on this thread. */
  syscall(number: number, ...args: Argument[]): number;
  /** Whether a thread is at hand. If not, the first `chain` takes 3 ms longer. */
  readonly threaded: boolean;
  /** Begins to start a thread if none is at hand: there will be a `chain` soon. */
  startThread(): void;
  /** Resolves when the event loop has turned: timers and signal handlers have had their chance. */
  turn(): Promise<void>;
  /** Calls back when the event loop turns, if it does: keeps no process from ending. */
  atNextTurn(callback: () => void): void;
}

/** A program to be started. */
export interface Program {
  readonly path: string;
  /** With the name that it is called by. */
  readonly args: readonly string[];
  /** `NAME=value` */
  readonly env: readonly string[];
  /** Its descriptor, and the one of ours that it becomes; both from 3 on, and no number in both. */
  readonly files: readonly (readonly [theirs: number, ours: Descriptor])[];
  /** What it shall not get, of those of ours that are not O_CLOEXEC. It keeps the standard ones. */
  readonly close: readonly number[];
}

/** As uname(2) names them. */
export type Machine = "x86_64" | "aarch64";
