/** A copy of the source tree, to change and to throw away. */
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { output, ROOT } from "../tests/support/support.ts";

/** Copies what git knows, and what it would: the tree as it stands. */
export function copyTree(folder: string): void {
  const listed = output(["git", "ls-files", "--cached", "--others", "--exclude-standard"], {
    cwd: ROOT,
  });
  for (const name of listed.trim().split("\n")) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    cpSync(join(ROOT, name), join(folder, name));
  }
  symlinkSync(join(ROOT, "dev/node_modules"), join(folder, "dev/node_modules"));
}

/** A text that stands in a file just once, and another one instead of it. */
export interface Replacement {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** How often it stands there. */
export function timesIn(folder: string, { file, from }: Replacement): number {
  return readFileSync(join(folder, file), "utf8").split(from).length - 1;
}

export function replaceOnce(folder: string, replacement: Replacement): void {
  const { file, from, to } = replacement;
  const times = timesIn(folder, replacement);
  if (times !== 1) throw new Error(`${file} has ${times} times, not once: ${JSON.stringify(from)}`);
  const path = join(folder, file);
  writeFileSync(path, readFileSync(path, "utf8").split(from).join(to));
}
