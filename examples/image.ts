/** Makes a small disk image with a GUID partition table, through the same libc calls as loopdev. */
import { O_CREAT, O_EXCL, O_RDWR, open, writeAt } from "../lib/kernel/file.ts";
import { writeGpt } from "../lib/table/gpt_writer.ts";

const MIB = 1024 * 1024;

/** What a partition shall be: a name, a type GUID, whole MiB, and what is written at its beginning. */
export interface PartitionSpec {
  name: string;
  type: string;
  mib: number;
  content: string;
}

/** Creates `path`, which must not exist, and gives its size in bytes. */
export function makeImage(path: string, specs: PartitionSpec[]): number {
  let end = MIB;
  const partitions = specs.map(({ mib, ...spec }) => {
    const start = end;
    end += mib * MIB;
    return { ...spec, start, size: mib * MIB };
  });
  using file = open(path, O_RDWR | O_CREAT | O_EXCL, 0o600);
  writeGpt(file, end + MIB, partitions);
  for (const { start, content } of partitions) {
    writeAt(file, start, new TextEncoder().encode(content));
  }
  return end + MIB;
}
