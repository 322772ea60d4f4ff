/**
 * Grows IMAGE to SIZE bytes: what bench/grow.ts measures and kills. Says "with resize2fs" where that did
 * the last step.
 *
 *     bun bench/grow_once.ts IMAGE 1073741824
 */
import { spawnSync } from "node:child_process";
import { readOptions } from "../dev/options.ts";
import { attach, growImage } from "../mod.ts";

const HELP = `Usage: bench/grow_once.ts IMAGE SIZE

What bench/grow.ts starts: grows IMAGE, its last partition and the file system in it to SIZE bytes.

  -h, --help  this text`;
const { operands: [image, size] } = readOptions(HELP, {}, { least: 2, most: 2 });

function must(name: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(name, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${name}: ${stderr}`);
}

const { fileSystem } = await growImage(image, { size: Number(size) });
if (fileSystem?.reason?.includes("e2fsck")) {
  // The kernel lets only CAP_SYS_RESOURCE grow a mounted ext4: what the reason advises, then.
  await using loop = await attach(image, { partscan: "userspace" });
  const { path } = loop.partitions.at(-1)!;
  must("e2fsck", "-fp", path);
  must("resize2fs", path);
  console.log("with resize2fs");
} else if (fileSystem?.reason !== undefined) {
  throw new Error(fileSystem.reason);
}
