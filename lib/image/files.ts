/**
 * Files of an image, read as data: their names are resolved inside the image, and only regular files are
 * read, since a FIFO would wait for a writer and a device node stands for one of this machine.
 *
 * @module
 */
import { isErrno, laterUnlessRefused, withPath } from "../base/errors.ts";
import { decodeName } from "../base/names.ts";
import { openWithoutWaiting, readWithoutWaiting } from "../kernel/blocking.ts";
import { uninterruptedOnThread } from "../kernel/chain.ts";
import {
  ABSENCE,
  check,
  cString,
  DT_DIR,
  listDirectory,
  O_CLOEXEC,
  O_PATH,
  O_RDONLY,
  OpenFile,
} from "../kernel/file.ts";
import { fileStatus } from "../kernel/stat.ts";
import { openFlag } from "../kernel/syscalls.ts";
import { resolveBelow } from "../mount/resolve.ts";
import type { Descriptor } from "../runtime/contract.ts";

/** More than any file that is read here has. */
const MOST_BYTES = 1024 * 1024;

/** A file below an open directory; undefined: it is not there, or no regular file. */
export async function readBelow(root: OpenFile, name: string): Promise<string | undefined> {
  const below = await existing(() => resolveBelow(root, name, root.path));
  if (below === undefined || below === "") return undefined;
  // Opening a device node or a FIFO has effects: a descriptor with O_PATH says first what it is.
  const flags = O_PATH | O_CLOEXEC | openFlag("O_NOFOLLOW");
  const fd = await root.callOnThread((fd) =>
    uninterruptedOnThread("openat", fd, cString(below), flags, 0)
  );
  if (ABSENCE.some((code) => isErrno(fd, code)) || isErrno(fd, "ELOOP")) return undefined;
  const path = `${root.path}/${below}`;
  using found = new OpenFile(check(fd, "open", path), path);
  const { type, size } = fileStatus(found);
  if (type !== "file") return undefined;
  const read = async (fd: Descriptor) => {
    using file = await openWithoutWaiting(`/proc/self/fd/${fd}`, O_RDONLY);
    return decodeName(await readWithoutWaiting(file, 0, Math.min(size, MOST_BYTES)));
  };
  return await naming(path, () => found.callOnThread(read));
}

/** In an error the path leads to the file, and not to a descriptor of this process. */
async function naming<T>(path: string, look: () => Promise<T>): Promise<T> {
  try {
    return await look();
  } catch (error) {
    throw withPath(error, path);
  }
}

/**
 * Names in a directory below an open one, or only those of directories, in order; none if it is not there.
 */
export async function listBelow(
  root: OpenFile,
  name: string,
  only?: "directories",
): Promise<readonly string[]> {
  const list = async () => {
    const below = await resolveBelow(root, name, root.path);
    return root.call((fd) => listDirectory(`/proc/self/fd/${fd}/${below}`, only && DT_DIR));
  };
  const names = await existing(() => naming(`${root.path}/${name}`, list));
  return (names ?? []).toSorted();
}

const existing = <T>(look: () => Promise<T>) => laterUnlessRefused(look, ...ABSENCE, "ELOOP");

/** os-release(5): /etc's, or else /usr/lib's. */
export async function readOsRelease(root: OpenFile): Promise<string | undefined> {
  return await readBelow(root, "etc/os-release") ?? await readBelow(root, "usr/lib/os-release");
}
