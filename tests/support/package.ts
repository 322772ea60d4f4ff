/** What the tests of dist/ share: the tarball, and users' projects that have it installed. */
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { output, ROOT, scratch, testsOf } from "./support.ts";

/** It starts the same programs, whichever runtime does: on one of them is enough. */
export const withDist: ReturnType<typeof testsOf> = "Bun" in globalThis
  ? testsOf("what users get, in dist/", ["dist"])
  : () => {};

export const DIST: string = join(ROOT, "dist");
export const VERSION: string = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8")).version;
export const TARBALL: string = join(DIST, `loopdev-${VERSION}.tgz`);
export const dist = (name: string): string => readFileSync(join(DIST, name), "utf8");

/** A user's project with the package installed; the folder. */
export function project(installer: "npm" | "bun"): string {
  const folder = dirname(scratch("package.json"));
  writeFileSync(join(folder, "package.json"), '{ "name": "user", "type": "module" }');
  const quiet = ["--no-audit", "--no-fund", "--offline", "--silent"];
  if (installer === "bun") output(["bun", "add", TARBALL], { cwd: folder });
  else output(["npm", "install", ...quiet, TARBALL], { cwd: folder });
  return folder;
}
