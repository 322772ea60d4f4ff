/** An image with a busybox in it, for the tests of run(). */
import { cpSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { output, run, scratch } from "./support.ts";

const DIRECTORIES = ["bin", "dev", "etc", "proc", "run", "sys", "tmp"];

/** Puts a busybox with its applets into a directory, and the directories that every root has. */
export function putBusybox(tree: string): void {
  for (const directory of DIRECTORIES) mkdirSync(`${tree}/${directory}`, { recursive: true });
  const busybox = run(["sh", "-c", "command -v busybox"]).stdout.trim();
  cpSync(busybox, `${tree}/bin/busybox`, { dereference: true });
  for (const applet of output(["busybox", "--list"]).trim().split("\n")) {
    if (applet !== "busybox") symlinkSync("busybox", `${tree}/bin/${applet}`);
  }
}

/** 8 MiB of ext4, in the test's folder. */
export function busyboxImage(name: string, change?: (tree: string) => void): string {
  const file = scratch(name);
  makeBusyboxImage(file, scratch(`tree-of-${name}`), change);
  return file;
}

/** `change` gets the directory that the image is made of, `tree`. */
export function makeBusyboxImage(
  file: string,
  tree: string,
  change: (tree: string) => void = () => {},
): void {
  for (const path of [tree, file]) rmSync(path, { recursive: true, force: true });
  putBusybox(tree);
  change(tree);
  output(["mkfs.ext4", "-q", "-b", "1024", "-O", "^has_journal", "-d", tree, file, "8M"]);
}
