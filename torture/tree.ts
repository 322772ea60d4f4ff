/** A copy of the source tree, to change and to throw away. */
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { output, ROOT } from "../tests/support.ts";

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

export function replaceOnce(folder: string, { file, from, to }: Replacement): void {
  const path = join(folder, file);
  const parts = readFileSync(path, "utf8").split(from);
  if (parts.length !== 2) {
    throw new Error(`${file} has ${parts.length - 1} times, not once: ${JSON.stringify(from)}`);
  }
  writeFileSync(path, parts.join(to));
}
