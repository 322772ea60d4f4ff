/** The guest's user space: a Debian suite's real systemd-udevd and losetup, and the runtimes. */
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync } from "node:fs";
import { readFileSync, readSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { run } from "./apt.ts";
import type { Suite } from "./cells.ts";
import { CpioWriter } from "./cpio.ts";

export type Runtime = "bun" | "deno";

/** The guest never reads these. */
const SLIM = new RegExp(
  "^(var/(cache|log|lib/(apt|dpkg))|usr/share/(doc|man|info|locale|i18n|zoneinfo|perl|perl5|bug|" +
    "common-licenses|lintian)|usr/lib/(x86_64-linux-gnu/(gconv|perl|perl-base)|locale|apt)|" +
    "usr/bin/perl.*|boot|proc|sys|dev|run|tmp|debootstrap|" +
    "(usr/)?lib/x86_64-linux-gnu/libapt.*)(/|$)",
);

const SCRIPTS = "/usr/share/debootstrap/scripts";

/** The suite's user space as a cpio archive; made once, about 25 s. */
export function buildRootfs(cache: string, mirror: string, suite: Suite): string {
  const archive = join(cache, `${suite.name}-${checksum(suite.include.join(" "))}.cpio`);
  if (existsSync(archive)) return archive;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, `${suite.name}-`));
  const tree = join(work, "root");
  const args = ["--variant=minbase", `--include=${suite.include.join(",")}`, suite.name, tree];
  // A debootstrap older than the suite has no script for it; all suites of today share sid's.
  const script = existsSync(join(SCRIPTS, suite.name)) ? [] : [join(SCRIPTS, "sid")];
  try {
    run("debootstrap", ["--arch=amd64", ...args, mirror, ...script]);
    const cpio = new CpioWriter(archive + ".part");
    cpio.tree(tree, "", (path) => SLIM.test(path));
    for (const name of ["proc", "sys", "dev", "run", "tmp", "guest", "project", "root"]) {
      cpio.directory(name);
    }
    cpio.close();
    renameSync(archive + ".part", archive);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return archive;
}

/**
 * Bun and Deno as a cpio archive. Both need glibc 2.27 or older, which every suite has; Bun's
 * default build wants AVX2, which QEMU emulates from 7.2 on (before: its baseline build).
 */
export function buildRuntimes(cache: string): { archive: string; versions: string } {
  const binaries = { bun: runtimePath("bun"), deno: runtimePath("deno") };
  const versions = Object.entries(binaries).map(([name, path]) =>
    `${name}-${run(path, ["--version"]).match(/\d+\.\d+\.\d+/)![0]}`
  ).join("_");
  const archive = join(cache, `${versions}.cpio`);
  if (!existsSync(archive)) {
    mkdirSync(cache, { recursive: true });
    const cpio = new CpioWriter(archive + ".part");
    for (const [name, path] of Object.entries(binaries)) {
      cpio.file(`usr/local/bin/${name}`, readFileSync(path), 0o755);
    }
    cpio.close();
    renameSync(archive + ".part", archive);
  }
  return { archive, versions };
}

/** Where npm's packages keep the real binaries, beside the launchers that they link to. */
const PACKAGED = {
  bun: [
    "@oven/bun-linux-x64/bin/bun",
    "@oven/bun-linux-x64-baseline/bin/bun",
    "bun/node_modules/@oven/bun-linux-x64/bin/bun",
  ],
  deno: ["@deno/linux-x64-glibc/deno", "deno/node_modules/@deno/linux-x64-glibc/deno"],
};

/** A runtime's ELF binary: $LOOPDEV_BUN or $LOOPDEV_DENO, node_modules, the npm cache of this one. */
function runtimePath(name: Runtime): string {
  const roots = ["dev/node_modules", "node_modules"];
  const global = spawnSync("npm", ["root", "-g"], { encoding: "utf8" });
  if (global.status === 0) roots.push(global.stdout.trim());
  const npx = join(
    process.env.npm_config_cache ?? join(process.env.HOME ?? "/root", ".npm"),
    "_npx",
  );
  if (existsSync(npx)) roots.push(...readdirSync(npx).map((key) => join(npx, key, "node_modules")));
  const candidates = [
    process.env[`LOOPDEV_${name.toUpperCase()}`] ?? "",
    ...(process.execPath.endsWith(`/${name}`) ? [process.execPath] : []),
    ...roots.flatMap((root) => PACKAGED[name].map((path) => join(root, path))),
    ...(process.env.PATH ?? "").split(":").map((directory) => join(directory, name)),
  ];
  const path = candidates.find((path) => path !== "" && existsSync(path) && isElf(path));
  if (path !== undefined) return path;
  throw new Error(`no ${name} binary: set LOOPDEV_${name.toUpperCase()}, or npm install ${name}`);
}

function isElf(path: string): boolean {
  const magic = new Uint8Array(4);
  const fd = openSync(path, "r");
  readSync(fd, magic, 0, 4, 0);
  closeSync(fd);
  return magic.join() === "127,69,76,70";
}

/** FNV-1a: a changed package list makes another archive. */
function checksum(text: string): string {
  let hash = 0x811c9dc5;
  for (const char of text) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193) >>> 0;
  return hash.toString(16);
}
