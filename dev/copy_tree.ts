/** A copy of the source tree, to change and to throw away. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT } from "./runtimes.ts";

/** Copies what git knows, and what it would: the tree as it stands. */
export function copyTree(folder: string): void {
  const args = ["ls-files", "--cached", "--others", "--exclude-standard"];
  const listed = execFileSync("git", args, { cwd: ROOT, encoding: "utf8" });
  for (const name of listed.trim().split("\n")) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    cpSync(join(ROOT, name), join(folder, name));
  }
  symlinkSync(join(ROOT, "dev/node_modules"), join(folder, "dev/node_modules"));
}
