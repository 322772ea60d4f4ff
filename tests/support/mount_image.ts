/** Images with file systems for the tests of mounts, and what others see of a mount. */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
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

const mountinfo = (pid: number | "self") =>
  readFileSync(`/proc/${pid}/mountinfo`, "utf8").split("\n");

/** Lines of a process's list of mounts that name a device. One that is detached may be a neighbour's by now. */
export function mountsOf(device: string, pid: number | "self" = "self"): string[] {
  return mountinfo(pid).filter((line) => line.includes(` ${device} `));
}

/** Lines of this process's list of mounts that lie on a directory. */
export function mountsAt(path: string): string[] {
  const shown = path.replaceAll(
    /[ \t\n\\]/g,
    (letter) => `\\${letter.charCodeAt(0).toString(8).padStart(3, "0")}`,
  );
  return mountinfo("self").filter((line) => line.split(" ")[4] === shown);
}

let places = 0;

/**
 * A directory to mount on, for `use`. Its end takes the mount out of all mount namespaces that were made meanwhile,
 * too: there it would keep the file system as it was mounted.
 */
export async function onDirectory<T>(use: (at: string) => Promise<T>): Promise<T> {
  const at = scratch(`place-${places++}`);
  mkdirSync(at);
  const result = await use(at);
  rmdirSync(at);
  return result;
}
