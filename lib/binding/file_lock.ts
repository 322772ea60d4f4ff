/**
 * One attach of a file at a time on the whole machine, from the look at the devices that have it already
 * until ours is usable.
 *
 * The lock is a record lock of one byte of the file, far behind its end: it is the same lock for every name
 * and container by which a process reaches the file. qemu locks other bytes (100 to 203), so does libvirt (0
 * and 1), and `flock disk.img COMMAND`, in which we may run, takes another kind of lock.
 *
 * @module
 */
import { isRefusal, laterToExplain, LoopError } from "../base/errors.ts";
import { delay, poll } from "../base/retry.ts";
import { describeOpeners } from "../holders/processes.ts";
import { type OpenFile, readLink } from "../kernel/file.ts";
import { openAgain, tryLockAlone } from "../kernel/record_lock.ts";

/** "loopdev" in ASCII. */
const LOCKED_BYTE = 0x6c6f_6f70_6465_76n;
const AS_FDINFO_SHOWS_IT = new RegExp(`^lock:.* OFDLCK .* ${LOCKED_BYTE} `, "m");

/** Two processes that try at the same moment try at different ones the next time. */
const APART_MS = 8;
const LONGEST_PAUSE_MS = 16;
const OUT_OF_SIGHT = "somebody out of sight";

/**
 * Runs `operation` while no other process does so for this file. Rejects with ETIMEDOUT, which names the
 * process that it waited for, after `timeout` ms; with the signal's reason if that comes first.
 */
export async function aloneWith<T>(
  file: OpenFile,
  { timeout, signal }: { timeout: number; signal?: AbortSignal },
  operation: () => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  using lock = await openAgain(file).catch(explainNoLock);
  let tries = 0;
  const attempt = async () => {
    if (tries++ > 0) await delay(Math.random() * APART_MS, signal);
    return await tryLockAlone(lock, LOCKED_BYTE).catch(explainNoLock) || undefined;
  };
  if (await poll(attempt, timeout, signal, LONGEST_PAUSE_MS)) return await operation();
  throw new LoopError({
    code: "ETIMEDOUT",
    syscall: "fcntl",
    path: file.path,
    request: "F_OFD_SETLK",
    hint: `after ${timeout} ms still being attached by ${
      await laterToExplain(() => lockersOf(lock)) ?? OUT_OF_SIGHT
    }`,
  });
}

/** Throws it again, with what helps. */
export function explainNoLock(error: unknown): never {
  if (isRefusal(error, "ENOENT")) {
    throw error.withHint("overlap is decided by a lock, which needs /proc: is it mounted?");
  }
  if (isRefusal(error, "ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL", "EIO")) {
    throw error.withHint(
      'overlap is decided by a lock of this file, which its file system refuses: overlap "allow" ' +
        "takes none",
    );
  }
  throw error;
}

async function lockersOf(lock: OpenFile): Promise<string> {
  const [path, fd] = lock.call((fd) => [readLink(`/proc/self/fd/${fd}`), fd]);
  const lockers = await describeOpeners((link) => link === path, AS_FDINFO_SHOWS_IT, fd);
  return lockers ?? OUT_OF_SIGHT;
}
