/** Images with file systems for the tests of mounts, and what others see of a mount. */
import { spawnSync } from "node:child_process";
import { copyFileSync, readFileSync } from "node:fs";
import { readPartitions } from "../../mod.ts";
import { makeImage, output, run, scratch } from "./support.ts";

/** An image of 8 MiB with an ext4 that has a journal, and the label "data". */
export function ext4Image(name: string): string {
  const file = makeImage(name, 8);
  // By other numbers than mke2fs's own, which make no journal on so small a disk.
  output(["mkfs.ext4", "-q", "-b", "1024", "-J", "size=1", "-L", "data", file]);
  return file;
}

/** An image of so many partitions, each with an ext4; one of 8 MiB or more has a journal. */
export async function ext4Partitions(name: string, count: number, mib = 4): Promise<string> {
  const table = `label: gpt\n${`size=${mib}MiB\n`.repeat(count)}`;
  const file = makeImage(name, mib * count + 2, table);
  for (const partition of (await readPartitions(file)).partitions) {
    if (!makeExt4(file, partition)) throw new Error("mkfs.ext4 fails");
  }
  return file;
}

/** Makes an ext4 of a part of a file, with what is in `folder`; false where it cannot. */
export function makeExt4(
  file: string,
  { start, size }: { start: number; size: number },
  folder?: string,
): boolean {
  const journal = size >= 8 * 1024 * 1024 ? ["-J", "size=1"] : ["-O", "^has_journal"];
  const options = ["-q", "-b", "1024", ...journal, "-E", `offset=${start}`];
  if (folder !== undefined) options.push("-d", folder);
  return spawnSync("mkfs.ext4", [...options, file, `${size / 1024}`]).status === 0;
}

/** What e2fsck finds, without a change to the file; a journal is replayed in a copy. */
export function e2fsck(file: string): string {
  const copy = scratch("to-check.img");
  copyFileSync(file, copy);
  run(["e2fsck", "-p", "-E", "journal_only", copy]);
  const { status, stdout } = run(["e2fsck", "-fn", copy]);
  return status === 0 ? "clean" : stdout;
}

/** Lines of a process's list of mounts that name a device. */
export function mountsOf(device: string, pid: number | "self" = "self"): string[] {
  return readFileSync(`/proc/${pid}/mountinfo`, "utf8").split("\n")
    .filter((line) => line.includes(` ${device} `));
}
