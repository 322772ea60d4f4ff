/** Modules of a kernel that its own packages have, for an initrd. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Apt, type Package, run } from "./apt.ts";
import { decompress, packagesOf } from "./kernel.ts";

/**
 * Paths of these modules, below `cache`, each behind those that it depends on. What the kernel has
 * built in is not among them.
 */
export function fetchModules(
  apt: Apt,
  cache: string,
  image: Package,
  names: readonly string[],
): string[] {
  const directory = join(cache, `${image.name}_${image.version}_${names.join("+")}`);
  if (!existsSync(directory)) {
    mkdirSync(cache, { recursive: true });
    const work = mkdtempSync(join(cache, "unpack-"));
    try {
      const out = join(work, "out");
      mkdirSync(out);
      const order = unpackModules(filesOf(packagesOf(apt, image, work), work), names, out);
      writeFileSync(join(out, "order"), order.join("\n"));
      renameSync(out, directory);
    } finally {
      rmSync(work, { recursive: true });
    }
  }
  return readFileSync(join(directory, "order"), "utf8").split("\n").filter((name) => name !== "")
    .map((name) => join(directory, `${name}.ko`));
}

/** All files of packages, unpacked below `work`. */
function filesOf(debs: readonly string[], work: string): string[] {
  return debs.flatMap((deb, index) => {
    const tree = join(work, String(index));
    run("dpkg-deb", ["-x", deb, tree]);
    return readdirSync(tree, { recursive: true }).map((name) => join(tree, String(name)));
  });
}

/** Puts modules and what they depend on into `out`; gives their names in the order of loading. */
function unpackModules(files: readonly string[], names: readonly string[], out: string): string[] {
  const wanted = [...names];
  const visited: string[] = [];
  for (let name = wanted.pop(); name !== undefined; name = wanted.pop()) {
    const own = new RegExp(`/${name.replaceAll("_", "[-_]")}\\.ko(\\.\\w+)?$`);
    const source = files.find((file) => own.test(file));
    if (source === undefined) continue;
    const path = join(out, `${name}.ko`);
    decompress(source, path);
    const depends = /\0depends=([^\0]*)\0/.exec(readFileSync(path, "latin1"))?.[1] ?? "";
    wanted.push(...depends.split(",").filter((each) => each !== ""));
    // Whatever it depends on is visited after it, and so comes before it in the other direction.
    visited.push(name);
  }
  return [...new Set(visited.toReversed())];
}
