/**
 * readPartitions(): what an image's partition table says, without a device.
 *
 * @module
 */
import { deviceSize, openBackingFile } from "./binding/backing_file.ts";
import { blkSszGet } from "./kernel/block.ts";
import { absolutePath } from "./kernel/file.ts";
import { checkPath } from "./base/checks.ts";
import { readTableIn, refuseUnreadable } from "./binding/image_table.ts";
import { checkReadOptions, type ReadPartitionsOptions } from "./binding/options.ts";
import { refuseWrapped } from "./refuse_wrapped.ts";
import type { PartitionTable } from "./table/disk.ts";
import { yieldToEventLoop } from "./runtime/event_loop.ts";

/**
 * Reads a partition table, of any {@linkcode TableKind}, from an image or a block device. Needs neither
 * root nor a loop device, nor a kernel that knows any. What it gives are the partitions that
 * {@linkcode attach} with `partscan` has for the same offset, sizelimit and sector size.
 *
 * Throws (rejects with) TypeError or RangeError for a bad option, before any system call;
 * {@linkcode LoopError} for whatever the system refuses, EMEDIUMTYPE if the GPT is made for sectors
 * of another size than the given one, or the table is of a kind that is known and not read, EUCLEAN if
 * the MBR announces a GPT of which no header is whole, and EINVAL if the image is no disk yet:
 * compressed, an archive, or in a format like qcow2; the signal's
 * reason if aborted.
 *
 * @param file Path of the image, or its file: URL; a regular file or a block device.
 *
 * @example
 * ```ts
 * import { readPartitions } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 * const image = "/tmp/loopdev-example.img";
 * writeFileSync(image, new Uint8Array(2 ** 20));
 * const { kind, sectorSize, partitions } = await readPartitions(image);
 * for (const { number, start, size, typeName } of partitions) {
 *   console.log(kind, sectorSize, number, start, size, typeName); // gpt 512 1 1048576 …
 * }
 * ```
 */
export async function readPartitions(
  file: string | URL,
  options: ReadPartitionsOptions = {},
): Promise<PartitionTable> {
  return await readChecked(absolutePath(checkPath("file", file)), options);
}

/** readPartitions() behind the check of its name: `path` may be one that is no UTF-8. */
export async function readChecked(
  path: string,
  options: ReadPartitionsOptions,
): Promise<PartitionTable> {
  const { offset, sizelimit, sectorSize, signal } = checkReadOptions(options);
  await yieldToEventLoop();
  signal?.throwIfAborted();
  using image = await openBackingFile(path, { readOnly: true, offset });
  const size = deviceSize(image.size, { offset, sizelimit });
  // A block device knows its sectors, which tells the unit of an MBR.
  const usual = image.isBlockDevice && offset === 0 ? blkSszGet(image.file) : undefined;
  const table = await readTableIn(image.file, { size, offset, sectorSize, usual, signal });
  const wanted = sectorSize === "auto" ? table.sectorSize : sectorSize;
  const part = { file: image.file, offset, sizelimit };
  refuseUnreadable(table, { path, sectorSize: wanted, call: "read", part });
  if (table.kind === "none") {
    await refuseWrapped(image.file, { size: image.size, offset, sizelimit });
  }
  return table;
}
