/**
 * What is in the directories and files of a mounted tree, across its mounts.
 *
 * @module
 */
import { laterUnlessRefused, withMore } from "../base/errors.ts";
import { openWithoutWaiting } from "../kernel/blocking.ts";
import { O_RDONLY, type OpenFile } from "../kernel/file.ts";
import { openFlag } from "../kernel/syscalls.ts";
import type { LoopMount } from "../mount/mounted.ts";
import { listBelow, readBelow, readOsRelease } from "./files.ts";

/** Names in a directory; undefined: it is no directory, or not there. */
export async function listInTree(
  root: LoopMount,
  name: string,
): Promise<readonly string[] | undefined> {
  const list = async () => {
    const path = await root.resolve(name);
    using directory = await openWithoutWaiting(path, O_RDONLY | openFlag("O_DIRECTORY"));
    return await listBelow(directory, "");
  };
  return await laterUnlessRefused(list, "ENOENT", "ENOTDIR", "ELOOP");
}

/** A file; undefined: it is not there, or no regular file. */
export async function readInTree(root: LoopMount, name: string): Promise<string | undefined> {
  return await inRoot(root, (directory) => readBelow(directory, name));
}

/** os-release(5). */
export async function osReleaseInTree(root: LoopMount): Promise<string | undefined> {
  return await inRoot(root, readOsRelease);
}

async function inRoot<T>(
  { path }: LoopMount,
  read: (directory: OpenFile) => Promise<T>,
): Promise<T> {
  using directory = await openWithoutWaiting(path, O_RDONLY | openFlag("O_DIRECTORY"));
  try {
    return await read(directory);
  } catch (error) {
    throw withMore(error, UNREAD);
  }
}

const UNREAD =
  "is its disk in order? attach() and LoopDevice.mount() mount the file system without " +
  "reading this file";
