/**
 * What was written to a device and its partitions, and whether it has reached the backing file.
 *
 * A program that writes to a block device writes to its page cache, and hears of no error unless it asks
 * with fsync(2). The kernel writes back later, at the latest when the device is closed, and tells nobody.
 * So whoever ends the use of the device asks, and says what is lost.
 *
 * @module
 */
import { isRefusal, LoopError } from "../base/errors.ts";
import type { LoopFacts } from "./facts.ts";
import { O_NONBLOCK, O_RDONLY, open, type OpenFile } from "../kernel/file.ts";
import { fileStatus } from "../kernel/stat.ts";
import {
  type FailedWrite,
  type SizedFile,
  writeBack,
  type WrittenBack,
} from "../kernel/blocking.ts";
import { sysfsPartitionDevs } from "../kernel/sysfs.ts";
import { openOwnNode } from "../udev/close_write_race.ts";

/**
 * Writes back what the page caches of the device and its partitions have, down to the backing file's
 * disk. Gives the first write that failed: of a device that we bound, any since the bind; of partitions,
 * and of a device that another process bound, only one that no program was told of. `backing`: the bound
 * file; undefined where another process bound it.
 */
export async function writeAllBack(
  device: OpenFile,
  { readOnly, number, size, offset }: LoopFacts,
  backing: OpenFile | undefined,
): Promise<WrittenBack> {
  if (readOnly) return { failed: undefined, isQuick: true };
  const partitions = openPartitions(number);
  try {
    const nodes = [...partitions, device].map((file): SizedFile => ({ file, size }));
    return await writeBack(nodes, backing && { file: backing, size: offset + size });
  } finally {
    for (const partition of partitions) partition.close();
  }
}

/** Each partition has a page cache of its own, which only its own node leads to. */
function openPartitions(number: number): OpenFile[] {
  return sysfsPartitionDevs(number).flatMap(({ name, dev }) => {
    const path = `/dev/${name}`;
    let file: OpenFile | undefined;
    try {
      file = open(path, O_RDONLY | O_NONBLOCK);
      if (fileStatus(file).rdev === dev) return [file];
    } catch (error) {
      // No node, as in a static /dev, or no device behind it any more.
      if (!isRefusal(error)) throw error;
    }
    file?.close();
    return openOwnNode(path, dev, O_RDONLY) ?? [];
  });
}

/** The error that says so. `end`: what has become of the device. */
export function lossOf(
  { path, syscall, result }: FailedWrite,
  backingFile: string,
  end: string,
): LoopError {
  const hint =
    `not all that was written there has reached ${backingFile}, and it is lost: is there ` +
    `space left (df), is its disk in order (dmesg)? ${end}`;
  return new LoopError({ code: -result, syscall, path, hint });
}
