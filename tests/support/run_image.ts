/** An image with a busybox in it, for the tests of run(). */
import { cpSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { makeImage, output, run, scratch } from "./support.ts";

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

/** 8 MiB of ext4. `change` gets the directory that it is made of. */
export function busyboxImage(name: string, change: (tree: string) => void = () => {}): string {
  const tree = scratch(`tree-of-${name}`);
  rmSync(tree, { recursive: true, force: true });
  putBusybox(tree);
  change(tree);
  const file = makeImage(name, 8);
  output(["mkfs.ext4", "-q", "-b", "1024", "-O", "^has_journal", "-d", tree, file]);
  return file;
}
