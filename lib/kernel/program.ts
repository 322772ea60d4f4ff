/**
 * Programs that this process starts, and what they get of it.
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

/** `pipe2(O_CLOEXEC)`: what is written to the second end comes out of the first. */
export function pipe(name: string): { readEnd: OpenFile; writeEnd: OpenFile } {
  const pair = new Int32Array(new ArrayBuffer(8));
  check(libc().syscall(SYS("pipe2"), new Uint8Array(pair.buffer), O_CLOEXEC), "pipe2", name);
  return { readEnd: new OpenFile(pair[0], name), writeEnd: new OpenFile(pair[1], name) };
}

/** Whether anybody still has the read end of a pipe open. Throws LoopError where the kernel cannot say. */
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

/** Runs a shell script in a session of its own. */
export interface ShellScript {
  /** The shell. */
  readonly path: string;
  readonly text: string;
  /** Its name in a list of processes. */
  readonly name: string;
  readonly args: readonly string[];
  /** `NAME=value` */
  readonly env: readonly string[];
  /** Its descriptor 3, 4 and so on. */
  readonly files: readonly OpenFile[];
}

const FIRST = 3;

/**
 * Starts it, and resolves to its exit status when it has ended; what it leaves in the background is
 * nobody's child. Its text is in a file, so that a list of processes does not show it whole. Throws
 * LoopError if it cannot be started.
 */
export async function runScript(
  { path, text, name, args, env, files }: ShellScript,
): Promise<number> {
  using script = memoryFile(name, 1);
  writeAt(script, 0, new TextEncoder().encode(text));
  const all = [...files, script];
  // Beyond those that they become: none is overwritten before it is handed on.
  const handed = all.map((file) => file.duplicate(FIRST + all.length));
  try {
    const pid = libc().spawn({
      path,
      args: ["sh", `/proc/self/fd/${FIRST + files.length}`, ...args],
      env,
      files: handed.map((file, i) => [FIRST + i, file.call((fd) => fd)]),
      // Whoever waits for the end of a pipe of ours would wait for the script's, too.
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
  // ECHILD: who ignores SIGCHLD has no children to wait for.
  if (result < 0 || status[0] === 0) return 0;
  return (status[0] & 0x7f) === 0 ? status[0] >>> 8 : 128 + (status[0] & 0x7f);
}

/** This process's descriptors beyond the standard ones that a program it starts would get. */
function inheritable(): number[] {
  const numbers = listDirectory("/proc/self/fd").map(Number).filter((fd) => fd >= FIRST);
  return numbers.filter((fd) => {
    const flags = libc().fcntl(fd as Descriptor, F_GETFD, 0);
    return flags >= 0 && (flags & FD_CLOEXEC) === 0;
  });
}
