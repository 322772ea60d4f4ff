/** The guest's user space: a Debian suite's real systemd-udevd and losetup, and the runtimes. */
import { spawnSync } from "node:child_process";
import { closeSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, openSync } from "node:fs";
import { readdirSync, readFileSync, readSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { run } from "./apt.ts";
import type { Suite } from "./cells.ts";
import { CpioWriter } from "./cpio.ts";
import type { Runtime } from "../dev/runtimes.ts";
import { type Machine, MACHINES } from "./machines.ts";

/** The guest never reads these. */
const SLIM = new RegExp(
  "^(var/(cache|log|lib/(apt|dpkg))|usr/share/(doc|man|info|locale|i18n|zoneinfo|perl|perl5|bug|" +
    "common-licenses|lintian)|usr/lib/([^/]+-linux-gnu/(gconv|perl|perl-base)|locale|apt)|" +
    "usr/bin/perl.*|boot|proc|sys|dev|run|tmp|debootstrap|" +
    "(usr/)?lib/[^/]+-linux-gnu/libapt.*)(/|$)",
);

const SCRIPTS = "/usr/share/debootstrap/scripts";

/** The suite's user space as a cpio archive; made once, about 25 s. */
export function buildRootfs(cache: string, mirror: string, suite: Suite, machine: Machine): string {
  const name = [suite.name, ...machine.name === "amd64" ? [] : [machine.name]].join("-");
  const archive = join(cache, `${name}-${checksum(suite.include.join(" "))}.cpio`);
  if (existsSync(archive)) return archive;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, `${name}-`));
  const tree = join(work, "root");
  try {
    installSuite(tree, suite.name, suite.include, mirror, machine);
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

/** Installs a suite of Debian's, for this machine or another, with the packages that `include` names. */
export function installSuite(
  tree: string,
  suite: string,
  include: readonly string[],
  mirror: string,
  machine: Pick<Machine, "name"> = MACHINES.amd64,
): void {
  // A debootstrap older than the suite has no script for it; all suites of today share sid's.
  const script = existsSync(join(SCRIPTS, suite)) ? [] : [join(SCRIPTS, "sid")];
  const foreign = machine.name !== "amd64";
  run("debootstrap", [
    ...["--variant=minbase", `--arch=${machine.name}`, ...foreign ? ["--foreign"] : []],
    ...[`--include=${include.join(",")}`, suite, tree, mirror, ...script],
  ]);
  if (foreign) unpackAll(tree);
}

/**
 * Another machine's programs cannot run here, so that nothing can be configured: all packages are
 * unpacked, and the guest gets the users that base-passwd would write. What we start needs no more.
 */
function unpackAll(tree: string): void {
  const archives = join(tree, "var/cache/apt/archives");
  for (const name of readdirSync(archives).filter((name) => name.endsWith(".deb"))) {
    // Through tar, which keeps links to directories that dpkg-deb would replace: /lib is one.
    const unpack = 'dpkg-deb --fsys-tarfile "$0" | tar -C "$1" --keep-directory-symlink -xf -';
    run("sh", ["-c", unpack, join(archives, name), tree]);
  }
  for (const name of ["passwd", "group"]) {
    copyFileSync(join(tree, `usr/share/base-passwd/${name}.master`), join(tree, "etc", name));
  }
}

/** A runtime as the guest gets it. */
export interface GuestRuntime {
  /** "bun-1.4.5" */
  readonly version: string;
  /** A cpio archive. */
  readonly archive: string;
}

/**
 * All three need glibc 2.28 or older, which every suite has; Bun's default build wants AVX2, which
 * QEMU emulates from 7.2 on (before: its baseline build). A guest gets those that it runs: each takes
 * 100 to 150 MB of its memory.
 */
export function buildRuntime(cache: string, machine: Machine, name: Runtime): GuestRuntime {
  const binary = runtimePath(name);
  const number = run(binary, ["--version"]).match(/\d+\.\d+\.\d+/)![0];
  const version = `${name}-${number}`;
  const isOurs = machine.name === "amd64";
  const archive = join(cache, `${version}${isOurs ? "" : `-${machine.name}`}.cpio`);
  if (!existsSync(archive)) {
    mkdirSync(cache, { recursive: true });
    const cpio = new CpioWriter(archive + ".part");
    const path = isOurs ? binary : fetchRuntime(cache, machine, name, number);
    cpio.file(`usr/local/bin/${name}`, readFileSync(path), 0o755);
    cpio.close();
    renameSync(archive + ".part", archive);
  }
  return { version, archive };
}

/** The binary of the same version for another machine, which npm would not install on this one. */
function fetchRuntime(
  cache: string,
  { binaries }: Machine,
  name: Runtime,
  version: string,
): string {
  const [, scoped, path] = /^((?:@[^/]+\/)?[^/]+)\/(.*)$/.exec(binaries[name][0])!;
  const directory = join(cache, `${scoped.replaceAll(/[@/]/g, "")}-${version}`);
  const binary = join(directory, "package", path);
  if (existsSync(binary)) return binary;
  mkdirSync(directory, { recursive: true });
  const packed = run("npm", ["pack", "--silent", `${scoped}@${version}`], directory).trim();
  run("tar", ["-xzf", packed], directory);
  rmSync(join(directory, packed));
  return binary;
}

/** A runtime's ELF binary: $LOOPDEV_BUN and so on, node_modules, the npm cache of this one. */
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
    ...roots.flatMap((root) => MACHINES.amd64.binaries[name].map((path) => join(root, path))),
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
