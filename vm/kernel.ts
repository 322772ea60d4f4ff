/** Debian's kernels: which the archive offers, their vmlinuz and loop.ko, ext4 and vfat. */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync } from "node:fs";
import { renameSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { type Apt, type Package, run } from "./apt.ts";
import { compareReleases, inRow, type KernelRow } from "./cells.ts";

export interface Kernel {
  /** "6.12.90", from the package's version: uname -r may hide it. */
  release: string;
  vmlinuz: string;
  loopModule: string;
  /** ext4, vfat and what they need, in the order in which they can be loaded; undefined: not wanted. */
  ext4Modules: readonly string[] | undefined;
  /** What a step loads itself, in that order. */
  modules?: readonly string[];
}

/** In that order; of what is not there a kernel has no need, or it is built in. */
const FILE_SYSTEMS = [
  ...["lib/crc16", "lib/crc/crc16", "crypto/crc32c_generic", "lib/libcrc32c"],
  ...["fs/mbcache", "fs/jbd2/jbd2", "fs/ext4/ext4"],
  ...["fs/nls/nls_cp437", "fs/nls/nls_ascii", "fs/nls/nls_utf8", "fs/nls/nls_iso8859-1"],
  ...["fs/fat/fat", "fs/fat/vfat"],
];

/** The cloud's is small and boots fast; the generic one reads all kinds of partition tables. */
export type Flavour = "cloud" | "generic";

/** Every linux-image package of that flavour, newest first. */
export function listKernels(apt: Apt, flavour: Flavour): { release: string; image: Package }[] {
  const isOther = ({ name }: Package) => /-(cloud|rt)-/.test(name) === (flavour === "generic");
  const infix = flavour === "cloud" ? "cloud-" : "";
  return apt.available(`^linux-image-[0-9.]+[0-9a-z.+-]*-${infix}${apt.architecture}$`)
    .filter((image) => !isOther(image))
    .filter(({ name }) => /^linux-image-\d+\.\d+\.\d/.test(name)) // no metapackages
    .map((image) => ({ release: /^[\d.]*\d/.exec(image.version)![0], image }))
    .sort((a, b) =>
      compareReleases(b.release, a.release) ||
      b.image.version.localeCompare(a.image.version, "en", { numeric: true })
    );
}

/** The newest image of a row, or undefined when the archive has none. */
export function findKernel(
  offered: readonly { release: string; image: Package }[],
  row: KernelRow,
): { release: string; image: Package } | undefined {
  return offered.find(({ release }) => inRow(release, row));
}

/**
 * Fetches and unpacks one kernel below `cache`, with `ext4` its modules; throws when a part of it is
 * gone.
 */
export function fetchKernel(
  apt: Apt,
  cache: string,
  { release, image }: { release: string; image: Package },
  ext4 = false,
): Kernel {
  const directory = join(cache, `${image.name}_${image.version}`);
  unpackOnce(apt, cache, image, directory, (find, out) => {
    const found = (pattern: RegExp) => {
      const path = find(pattern);
      if (path === undefined) throw new Error(`${image.name} holds no ${pattern.source}`);
      return path;
    };
    copyFileSync(found(/\/vmlinuz[^/]*$/), join(out, "vmlinuz"));
    decompress(found(/\/drivers\/block\/loop\.ko(\.\w+)?$/), join(out, "loop.ko"));
  });
  const modules = `${directory}.file-systems`;
  if (ext4) {
    unpackOnce(apt, cache, image, modules, (find, out) => {
      for (const [i, name] of FILE_SYSTEMS.entries()) {
        const path = find(new RegExp(`/${name}\\.ko(\\.\\w+)?$`));
        if (path !== undefined) {
          decompress(path, join(out, `${String(i).padStart(2, "0")}-${basename(name)}.ko`));
        }
      }
    });
  }
  return {
    release,
    vmlinuz: join(directory, "vmlinuz"),
    loopModule: join(directory, "loop.ko"),
    ext4Modules: ext4
      ? readdirSync(modules).toSorted().map((name) => join(modules, name))
      : undefined,
  };
}

/** Unpacks a kernel's packages, and has what is wanted of them put into `directory`. */
function unpackOnce(
  apt: Apt,
  cache: string,
  image: Package,
  directory: string,
  take: (find: (pattern: RegExp) => string | undefined, out: string) => void,
): void {
  if (existsSync(directory)) return;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, "unpack-"));
  try {
    const files = packagesOf(apt, image, work).flatMap((deb, index) => {
      const tree = join(work, String(index));
      run("dpkg-deb", ["-x", deb, tree]);
      return readdirSync(tree, { recursive: true }).map((name) => join(tree, String(name)));
    });
    const out = join(work, "out");
    mkdirSync(out);
    take((pattern) => files.find((name) => pattern.test(name)), out);
    renameSync(out, directory);
  } finally {
    rmSync(work, { recursive: true });
  }
}

/**
 * The .debs with the kernel in them. Up to 6.18 that is linux-image; from 6.19 on it is empty and
 * needs linux-binary (signed) and linux-modules. The lists drop linux-modules of an older release
 * before linux-binary, while its pool still has the file; then it comes from there, unverified by
 * apt, and the guest boots with module.sig_enforce=1: the kernel, which apt did verify, takes no
 * module that was not signed in its own build.
 */
export function packagesOf(apt: Apt, image: Package, work: string): string[] {
  const split = apt.depends(image).filter((name) => /^linux-(binary|modules)-/.test(name));
  if (split.length === 0) return [apt.download(image, join(work, image.name))];
  return split.map((name) => {
    const part = { name, version: image.version };
    try {
      return apt.download(part, join(work, name));
    } catch (error) {
      if (!name.startsWith("linux-modules-")) throw error;
      return apt.downloadFromPool(part, "pool/main/l/linux", join(work, name));
    }
  });
}

export function decompress(source: string, target: string): void {
  const tool = source.endsWith(".xz") ? "xz" : source.endsWith(".zst") ? "zstd" : undefined;
  if (tool === undefined) return copyFileSync(source, target);
  run(tool, ["-q", "-d", "-k", "-f", source]);
  copyFileSync(source.replace(/\.\w+$/, ""), target);
}
