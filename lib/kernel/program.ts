/**
 * Programs that this process starts, and pipes to them.
 *
 * @module
 */
import { isErrno, LoopError } from "../base/errors.ts";
import type { Descriptor, Program } from "../runtime/contract.ts";
import { libc } from "../runtime/libc.ts";
import { uninterruptedOnThread } from "./chain.ts";
import {
  check,
  ifAllowed,
  listDirectory,
  memoryFile,
  O_NONBLOCK,
  OpenFile,
  readText,
  setStatusFlags,
  uninterrupted,
} from "./file.ts";
import { readable } from "./readiness.ts";
import { SYS } from "./syscalls.ts";

const F_GETFD = 1;
const F_GETFL = 3;
const F_SETFL = 4;
const FD_CLOEXEC = 1;
/** `<asm-generic/poll.h>` */
const POLLERR = 8;

/** Whether any process still has the read end of a pipe open. */
export function hasReader(writeEnd: OpenFile): boolean {
  // struct pollfd: fd int, events short, revents short
  const pollfd = new Int32Array(new ArrayBuffer(8));
  const now = new Uint8Array(new ArrayBuffer(16));
  const result = writeEnd.call((fd) => {
    pollfd[0] = fd;
    return uninterrupted(() =>
      libc().syscall(SYS("ppoll"), new Uint8Array(pollfd.buffer), 1, now, 0, 0)
    );
  });
  check(result, "ppoll", writeEnd.path);
  return ((pollfd[1] >>> 16) & POLLERR) === 0;
}

const MOST_READ = 4096;

/** What the next read of a pipe gives, by another thread, since it waits; nothing at the pipe's end. */
export async function readSome(readEnd: OpenFile): Promise<Uint8Array> {
  const buffer = new Uint8Array(new ArrayBuffer(MOST_READ));
  const length = await readEnd.callOnThread((fd) =>
    uninterruptedOnThread("read", fd, buffer, buffer.length)
  );
  return buffer.subarray(0, check(length, "read", readEnd.path));
}

/** Writes a few bytes, which the pipe has room for: how many, or −errno. Runtimes ignore SIGPIPE. */
export function writeToPipe(writeEnd: OpenFile, bytes: Uint8Array): number {
  return writeEnd.call((fd) =>
    uninterrupted(() => libc().syscall(SYS("write"), fd, bytes, bytes.length))
  );
}

/** This process's environment as it is now: `NAME=value`. */
export function environment(): string[] {
  return libc().environment();
}

/** A program to start, with files that this process owns. */
export interface Plan extends Pick<Program, "path" | "args" | "env" | "session"> {
  /** Each descriptor of its own, and the file that it is of. What is not named of 0, 1 and 2 is ours. */
  readonly files: readonly (readonly [theirs: number, file: OpenFile])[];
}

/**
 * Takes O_NONBLOCK from a standard descriptor that a program is about to get: Node and Bun set it on pipes
 * and terminals, the flag is one for all who share the file, and most programs take EAGAIN for an error.
 */
export function makeBlocking(descriptor: 0 | 1 | 2): void {
  const fd = descriptor as Descriptor;
  const flags = libc().fcntl(fd, F_GETFL, 0);
  if (flags >= 0 && flags & O_NONBLOCK) libc().fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

/** How a process ended. */
export interface Exit {
  /** As a shell gives it: 128 + the signal's number, if one killed it. */
  readonly code: number;
  /** The signal that killed it, by its number. */
  readonly signal: number | undefined;
}

/** Starts a program and gives its pid, which stays its own until {@linkcode exitOf} has been called. */
export function startProgram({ path, args, env, session, files }: Plan): number {
  const least = Math.max(FIRST, ...files.map(([theirs]) => theirs + 1));
  // Numbered above their targets, so that no dup2() overwrites one that is still to be duplicated.
  const handed: (readonly [theirs: number, file: OpenFile])[] = [];
  try {
    for (const [theirs, file] of files) handed.push([theirs, file.duplicate(least)]);
    const pid = libc().spawn({
      path,
      args,
      env,
      files: handed.map(([theirs, file]) => [theirs, file.call((fd) => fd)]),
      // A pipe of this process stays open as long as the program has it.
      close: inheritable(),
      session,
    });
    return check(pid, "posix_spawn", path);
  } finally {
    for (const [, file] of handed) file.close();
  }
}

export interface ShellScript {
  /** The shell. */
  readonly path: string;
  readonly text: string;
  /** The script's name in a list of processes. */
  readonly name: string;
  readonly args: readonly string[];
  /** `NAME=value` */
  readonly env: readonly string[];
  /** The script's descriptors 3, 4 and so on. */
  readonly files: readonly OpenFile[];
}

/** The first descriptor that is not a standard one. */
const FIRST = 3;

/** A file in memory with a script in it, which lists of processes do not show. */
export function scriptFile(name: string, text: string): OpenFile {
  return memoryFile(name, new TextEncoder().encode(text));
}

/**
 * Runs a shell script in a session of its own, and resolves to its exit status, undefined as of
 * {@linkcode exitOf}. A process that it leaves in the background becomes an orphan. Throws LoopError if the
 * shell cannot be started.
 */
export async function runScript(
  { path, text, name, args, env, files }: ShellScript,
): Promise<number | undefined> {
  using script = scriptFile(name, text);
  const pid = startProgram({
    path,
    args: ["sh", `/proc/self/fd/${FIRST + files.length}`, ...args],
    env,
    files: [...files, script].map((file, i) => [FIRST + i, file]),
    session: true,
  });
  const exit = await exitOf(pid);
  reapOrphans(pid);
  return exit?.code;
}

/** `<linux/wait.h>` */
const WNOHANG = 1;
/** Process groups of scripts that have left orphans to this process. */
const orphaned = new Set<number>();

/**
 * Reaps the orphans that have ended, of the group and of earlier ones. They are this process's children if it is
 * the first of a container, or a subreaper, and it has no other reason to wait for them.
 */
function reapOrphans(group: number): void {
  orphaned.add(group);
  for (const one of orphaned) {
    let ended: number;
    do ended = libc().syscall(SYS("wait4"), -one, 0, WNOHANG, 0); while (ended > 0);
    if (ended < 0) orphaned.delete(one);
  }
}

/** The error where {@linkcode exitOf} `path` is undefined. */
export function unknownExit(path: string): LoopError {
  const hint = "this process ignores SIGCHLD, so the kernel does not keep how its children ended";
  return new LoopError({ code: "ECHILD", syscall: "wait4", path, hint });
}

/**
 * Waits for a child by another thread. Undefined: its status cannot be known, since this process ignores
 * SIGCHLD.
 */
export async function exitOf(pid: number): Promise<Exit | undefined> {
  const status = new Int32Array(new ArrayBuffer(4));
  const result = await uninterruptedOnThread("wait4", pid, new Uint8Array(status.buffer), 0, 0);
  if (result < 0) return undefined;
  const signal = status[0] & 0x7f;
  return signal === 0
    ? { code: status[0] >>> 8, signal: undefined }
    : { code: 128 + signal, signal };
}

/** `pidfd_open(pid)`, Linux 5.3: stays with the process when its number is used again. */
function openProcess(pid: number): OpenFile {
  const path = `/proc/${pid}`;
  const fd = libc().syscall(SYS("pidfd_open"), pid, 0);
  if (!isErrno(fd, "ENOSYS")) return new OpenFile(check(fd, "pidfd_open", path), path);
  const hint = "waiting for a program takes Linux 5.3";
  throw new LoopError({ code: "ENOSYS", syscall: "pidfd_open", path, hint });
}

const READ_BYTES = 65536;

/** What a program writes into a pipe, as bytes. */
export class PipeReader implements Disposable {
  readonly #pipe: OpenFile;
  readonly #pieces: Uint8Array[] = [];
  #isOver = false;

  /** `readEnd` belongs to it from then on. */
  constructor(readEnd: OpenFile) {
    this.#pipe = readEnd;
    setStatusFlags(readEnd, O_NONBLOCK);
  }

  /** undefined: it has ended. */
  get pipe(): OpenFile | undefined {
    return this.#isOver ? undefined : this.#pipe;
  }

  /** Takes what is there, without waiting for more. */
  read(): void {
    while (!this.#isOver) {
      const piece = new Uint8Array(new ArrayBuffer(READ_BYTES));
      const length = this.#pipe.call((fd) =>
        uninterrupted(() => libc().syscall(SYS("read"), fd, piece, piece.length))
      );
      if (isErrno(length, "EAGAIN")) return;
      if (check(length, "read", this.#pipe.path) === 0) this.#isOver = true;
      else this.#pieces.push(piece.slice(0, length));
    }
  }

  /** All that was read. */
  bytes(): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(this.#pieces.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const piece of this.#pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }

  [Symbol.dispose](): void {
    this.#pipe.close();
  }
}

/** Reads the pipes until the child has ended. */
export async function readUntilExit(
  pid: number,
  readers: readonly PipeReader[],
): Promise<Exit | undefined> {
  using child = openProcess(pid);
  for (let isOver = false; !isOver;) {
    [isOver] = await readable([child, ...readers.flatMap(({ pipe }) => pipe ?? [])]);
    for (const reader of readers) reader.read();
  }
  return await exitOf(pid);
}

/** Sends a signal to the children of a process; whether there was one that had not ended. */
export function signalChildren(parent: number, signal: number): boolean {
  let sent = false;
  for (const pid of listDirectory("/proc").map(Number).filter((pid) => parentOf(pid) === parent)) {
    using child = ifAllowed(() => openProcess(pid));
    // Asked again of the process that the descriptor is of.
    if (!child || parentOf(pid) !== parent) continue;
    const result = child.call((fd) => libc().syscall(SYS("pidfd_send_signal"), fd, signal, 0, 0));
    sent ||= result === 0;
  }
  return sent;
}

function parentOf(pid: number): number | undefined {
  if (!Number.isInteger(pid)) return undefined;
  // "12 (a name) S 7 …"
  const ofStat = /^.*\) \w (\d+)/s;
  return ifAllowed(() => Number(ofStat.exec(readText(`/proc/${pid}/stat`))?.[1]));
}

/** This process's descriptors that a program it starts would inherit, but for the standard ones. */
function inheritable(): number[] {
  const numbers = listDirectory("/proc/self/fd").map(Number).filter((fd) => fd >= FIRST);
  return numbers.filter((fd) => {
    const flags = libc().fcntl(fd as Descriptor, F_GETFD, 0);
    return flags >= 0 && (flags & FD_CLOEXEC) === 0;
  });
}
