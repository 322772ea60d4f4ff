/** What the programs of the guest share: commands that must succeed, images of two partitions, who has one. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

/** Of every image here. */
export const PARTITIONS = 2;

/** Runs a command that must succeed, and gives what it prints. */
export function run(command: string[], input?: string): string {
  const [name, ...args] = command;
  const { status, stdout, stderr, error } = spawnSync(name, args, { input, encoding: "utf8" });
  if (status !== 0) {
    throw new Error(`${command.join(" ")}: ${error ?? (stderr || `status ${status}`)}`);
  }
  return stdout.trim();
}

/** A GPT with two partitions of 2 MiB in a file of 8 MiB. */
export function makeImage(path: string): string {
  run(["truncate", "-s", "0", path]);
  run(["truncate", "-s", "8M", path]);
  run(["sfdisk", "-q", path], "label: gpt\nsize=2M\nsize=2M\n");
  return path;
}

/** Whether a loop device has the image, or one in that folder. */
export const isBound = (image: string): boolean =>
  readdirSync("/sys/block").some((name) => {
    try {
      return readFileSync(`/sys/block/${name}/loop/backing_file`, "utf8").startsWith(image);
    } catch {
      // Not bound, or detached just now.
      return false;
    }
  });
