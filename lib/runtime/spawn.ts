/**
 * posix_spawn(3). A runtime's own way to start a program needs another permission, and shows the child
 * to the user's code.
 *
 * @module
 */
import { encodeName } from "../base/names.ts";
import type { Program } from "./contract.ts";

/** As in `<spawn.h>`; each returns 0 or an errno. */
export interface SpawnCalls {
  posix_spawn_file_actions_init(actions: Uint8Array): number;
  posix_spawn_file_actions_adddup2(actions: Uint8Array, from: number, to: number): number;
  posix_spawn_file_actions_addclose(actions: Uint8Array, fd: number): number;
  posix_spawn_file_actions_destroy(actions: Uint8Array): number;
  posix_spawnattr_init(attributes: Uint8Array): number;
  posix_spawnattr_setflags(attributes: Uint8Array, flags: number): number;
  posix_spawnattr_setsigmask(attributes: Uint8Array, signals: Uint8Array): number;
  posix_spawnattr_setsigdefault(attributes: Uint8Array, signals: Uint8Array): number;
  posix_spawn(
    pid: Uint8Array,
    path: Uint8Array,
    actions: Uint8Array,
    attributes: Uint8Array,
    args: Uint8Array,
    env: Uint8Array,
  ): number;
}

const POSIX_SPAWN_SETSIGDEF = 0x04;
const POSIX_SPAWN_SETSIGMASK = 0x08;
/** glibc 2.26 and musl. */
const POSIX_SPAWN_SETSID = 0x80;
/** The largest of posix_spawn_file_actions_t, posix_spawnattr_t and sigset_t in any libc has 336. */
const OPAQUE_BYTES = 512;

/** Memory that stays where it is: see oven-sh/bun#32055. */
const memory = (size: number) => new Uint8Array(new ArrayBuffer(size));

/** Starts the program; returns its pid, or −errno. */
export function spawnProgram(
  calls: SpawnCalls,
  addressOf: (buffer: Uint8Array) => bigint,
  { path, args, env, files, close, session }: Program,
): number {
  const [actions, attributes] = [memory(OPAQUE_BYTES), memory(OPAQUE_BYTES)];
  const strings = (list: readonly string[]) => {
    const kept = list.map(cString);
    const array = new BigUint64Array(new ArrayBuffer(8 * (kept.length + 1)));
    kept.forEach((string, i) => array[i] = addressOf(string));
    return { kept, array: new Uint8Array(array.buffer) };
  };
  const [argv, envp] = [strings(args), strings(env)];
  const pid = memory(4);
  calls.posix_spawn_file_actions_init(actions);
  calls.posix_spawnattr_init(attributes);
  try {
    for (const fd of close) calls.posix_spawn_file_actions_addclose(actions, fd);
    for (const [theirs, ours] of files) {
      const failed = calls.posix_spawn_file_actions_adddup2(actions, ours, theirs);
      if (failed !== 0) return -failed;
    }
    const flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
    calls.posix_spawnattr_setflags(attributes, session ? flags | POSIX_SPAWN_SETSID : flags);
    calls.posix_spawnattr_setsigmask(attributes, memory(OPAQUE_BYTES));
    // The runtimes ignore SIGPIPE, and a program would go on to ignore it.
    calls.posix_spawnattr_setsigdefault(attributes, standardSignals());
    const failed = calls.posix_spawn(
      ...[pid, cString(path), actions, attributes, argv.array, envp.array] as const,
    );
    return failed === 0 ? new DataView(pid.buffer).getInt32(0, true) : -failed;
  } finally {
    calls.posix_spawn_file_actions_destroy(actions);
    // Until here the garbage collector must leave them: C reads them by their addresses.
    argv.kept.length = envp.kept.length = 0;
  }
}

/** 1 to 31, as a sigset_t: the libc has its own uses for some of the others. */
function standardSignals(): Uint8Array {
  const signals = memory(OPAQUE_BYTES);
  signals.set([0xff, 0xff, 0xff, 0x7f]);
  return signals;
}

function cString(text: string): Uint8Array {
  const bytes = encodeName(text);
  const string = memory(bytes.length + 1);
  string.set(bytes);
  return string;
}
