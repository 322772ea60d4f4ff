/**
 * fileSystem(): what an image holds, without a device.
 *
 * @module
 */
import { checkAgainst } from "./base/options.ts";
import { checkPath } from "./base/checks.ts";
import { deviceSize, openBackingFile } from "./binding/backing_file.ts";
import { READ, type ReadPartitionsOptions } from "./binding/options.ts";
import { absolutePath } from "./kernel/file.ts";
import { loadFileSystem } from "./mount/late.ts";
import { refuseWrapped } from "./refuse_wrapped.ts";
import { yieldToEventLoop } from "./runtime/event_loop.ts";
import type { FileSystem } from "./superblocks/file_systems.ts";

/**
 * Options of {@linkcode fileSystem}; they mean what they mean to {@linkcode attach}.
 *
 * @example
 * ```ts
 * import { type FileSystemOptions } from "@loopdev/loopdev";
 * const options: FileSystemOptions = { offset: 1024 * 1024, sizelimit: 64 * 1024 * 1024 };
 * ```
 */
export type FileSystemOptions = Omit<ReadPartitionsOptions, "sectorSize">;

const { sectorSize: _ofTables, ...OPTIONS } = READ;

/**
 * What an image, a part of one, or a block device holds, by its superblock, as blkid(8) has it: type,
 * label and UUID; undefined if there is nothing that is known. Needs neither root nor a loop device, nor
 * a kernel that knows any; on Deno, `--allow-ffi` is all the permission. Of a partition the table gives
 * `offset` and `sizelimit`: {@linkcode readPartitions}.
 *
 * Throws (rejects with) TypeError or RangeError for a bad option, before any system call;
 * {@linkcode LoopError} for whatever the system refuses, EUCLEAN if there are the superblocks of two
 * file systems, and EINVAL if the image is no disk yet: compressed, an archive, or in a format like
 * qcow2; the signal's reason if aborted.
 *
 * @param file Path of the image, or its file: URL; a regular file or a block device.
 *
 * @example
 * ```ts
 * import { fileSystem, readPartitions } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 * const image = "/tmp/loopdev-example.img";
 * writeFileSync(image, new Uint8Array(2 ** 20));
 * console.log(await fileSystem(image)); // undefined: it is empty
 * for (const { number, start, size } of (await readPartitions(image)).partitions) {
 *   const found = await fileSystem(image, { offset: start, sizelimit: size });
 *   console.log(number, found?.type, found?.label, found?.usage); // 1 vfat EFI filesystem
 * }
 * ```
 */
export async function fileSystem(
  file: string | URL,
  options: FileSystemOptions = {},
): Promise<FileSystem | undefined> {
  const path = absolutePath(checkPath("file", file));
  const { offset, sizelimit, signal } = checkAgainst(options, OPTIONS);
  await yieldToEventLoop();
  signal?.throwIfAborted();
  using image = await openBackingFile(path, { readOnly: true, offset, signal });
  const size = deviceSize(image.size, { offset, sizelimit });
  const { fileSystemsIn, onlyOne } = await loadFileSystem();
  const found = await fileSystemsIn(image.file, { offset, size, signal });
  if (found.length === 0) await refuseWrapped(image.file, { size: image.size, offset, sizelimit });
  return onlyOne(found, path);
}
