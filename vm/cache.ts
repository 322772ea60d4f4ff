/** The cache of kernels, user spaces and emulators, which runs share. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { O_CREAT, O_RDWR, open } from "../lib/kernel/file.ts";
import { LOCK_EX, tryFlock } from "../lib/kernel/flock.ts";

const POLL_MILLISECONDS = 200;

/** The caches whose lock this process has: what is made of parts locks for each of them. */
const locked = new Set<string>();

/** Calls `make` while no other process makes anything in this cache: it waits, and finds it made. */
export function lockCache<T>(cache: string, make: () => T): T {
  if (locked.has(cache)) return make();
  mkdirSync(cache, { recursive: true });
  using file = open(join(cache, "lock"), O_RDWR | O_CREAT, 0o600);
  while (!tryFlock(file, LOCK_EX)) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, POLL_MILLISECONDS);
  }
  locked.add(cache);
  try {
    return make();
  } finally {
    locked.delete(cache);
  }
}
