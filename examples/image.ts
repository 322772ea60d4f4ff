/** Makes a small disk image with a GUID partition table. */
import { encodeGpt } from "../gpt.ts";
import { NewFile } from "./files.ts";

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
  const partitions = specs.map(({ name, type, mib }) => {
    const start = end;
    end += mib * MIB;
    return { name, type, start, size: mib * MIB };
  });
  const size = end + MIB;
  using file = new NewFile(path);
  for (const { offset, bytes } of encodeGpt(size, partitions)) file.write(bytes, offset);
  partitions.forEach(({ start }, i) => {
    file.write(new TextEncoder().encode(specs[i].content), start);
  });
  return size;
}
