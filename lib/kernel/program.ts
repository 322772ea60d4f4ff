/**
 * Programs that this process starts, and pipes to them.
 *
 * @module
 */
import type { Descriptor } from "../runtime/contract.ts";
import { libc } from "../runtime/libc.ts";
import { uninterruptedOnThread } from "./chain.ts";
import {
  check,
  listDirectory,
  memoryFile,
  O_CLOEXEC,
  OpenFile,
  uninterrupted,
  writeAt,
} from "./file.ts";
import { SYS } from "./syscalls.ts";

const F_GETFD = 1;
const FD_CLOEXEC = 1;
/** `<asm-generic/poll.h>` */
const POLLERR = 8;

/** `pipe2(O_CLOEXEC)` */
export function pipe(name: string): { readEnd: OpenFile; writeEnd: OpenFile } {
  const pair = new Int32Array(new ArrayBuffer(8));
  check(libc().syscall(SYS("pipe2"), new Uint8Array(pair.buffer), O_CLOEXEC), "pipe2", name);
  return { readEnd: new OpenFile(pair[0], name), writeEnd: new OpenFile(pair[1], name) };
}

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

const FIRST = 3;

/**
 * Runs a shell script in a session of its own, and resolves to its exit status. A process that it leaves in
 * the background becomes an orphan. The text is passed as a file, so that lists of processes do not show
 * it. Throws LoopError if the shell cannot be started.
 */
export async function runScript(
  { path, text, name, args, env, files }: ShellScript,
): Promise<number> {
  using script = memoryFile(name, 1);
  writeAt(script, 0, new TextEncoder().encode(text));
  const all = [...files, script];
  // Numbered above their targets, so that no dup2() overwrites one that is still to be duplicated.
  const handed = all.map((file) => file.duplicate(FIRST + all.length));
  try {
    const pid = libc().spawn({
      path,
      args: ["sh", `/proc/self/fd/${FIRST + files.length}`, ...args],
      env,
      files: handed.map((file, i) => [FIRST + i, file.call((fd) => fd)]),
      // A pipe of this process stays open as long as the script has it.
      close: inheritable(),
    });
    check(pid, "posix_spawn", path);
    return await statusOf(pid);
  } finally {
    for (const file of handed) file.close();
  }
}

/** `wait4(pid)`, by another thread. */
async function statusOf(pid: number): Promise<number> {
  const status = new Int32Array(new ArrayBuffer(4));
  const result = await uninterruptedOnThread("wait4", pid, new Uint8Array(status.buffer), 0, 0);
  // ECHILD: a process that ignores SIGCHLD cannot learn its children's status.
  if (result < 0 || status[0] === 0) return 0;
  return (status[0] & 0x7f) === 0 ? status[0] >>> 8 : 128 + (status[0] & 0x7f);
}

/** This process's descriptors that a program it starts would inherit, but for the standard ones. */
function inheritable(): number[] {
  const numbers = listDirectory("/proc/self/fd").map(Number).filter((fd) => fd >= FIRST);
  return numbers.filter((fd) => {
    const flags = libc().fcntl(fd as Descriptor, F_GETFD, 0);
    return flags >= 0 && (flags & FD_CLOEXEC) === 0;
  });
}
