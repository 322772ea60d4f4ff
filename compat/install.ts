/** Gets a cell's runtime from npm, and for musl what it needs beside it, into dev/compat/. */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { binaryPackage, type Cell } from "./cells.ts";

const ROOT = new URL("..", import.meta.url).pathname;

/** A runtime that stands ready. */
export interface Installed {
  /** A folder to begin PATH with: it has the runtime under its own name. */
  readonly folder: string;
  readonly version: string;
  readonly env: Record<string, string>;
}

function output(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] })
    .trim();
}

/** Installs it if it is not there yet. Throws if npm has no such version for this machine. */
export function install(cell: Cell): Installed {
  const { name, binary } = binaryPackage(cell);
  const version = output("npm", "view", `${name}@${cell.version}`, "version");
  const home = join(ROOT, "dev/compat", `${cell.runtime}-${cell.libc}-${version}`);
  const target = join(home, "node_modules", name, binary);
  if (!existsSync(target)) {
    mkdirSync(home, { recursive: true });
    // A package of its own: npm would install into the next one above.
    writeFileSync(join(home, "package.json"), '{ "private": true }\n');
    // --force: npm takes a glibc machine for the wrong one for a musl build.
    const quiet = ["--no-audit", "--no-fund", "--no-save", "--force", "--loglevel=error"];
    output("npm", "install", "--prefix", home, ...quiet, `${name}@${version}`);
  }
  const folder = join(home, "bin");
  mkdirSync(folder, { recursive: true });
  rmSync(join(folder, cell.runtime), { force: true });
  symlinkSync(target, join(folder, cell.runtime));
  return { folder, version, env: cell.libc === "musl" ? muslUserland(join(home, "lib")) : {} };
}

/** glibc's libstdc++ and libgcc where musl's loader finds them, with what they miss there. */
function muslUserland(folder: string): Record<string, string> {
  mkdirSync(folder, { recursive: true });
  for (const library of ["libstdc++.so.6", "libgcc_s.so.1"]) {
    copyFileSync(output("cc", `-print-file-name=${library}`), join(folder, library));
  }
  const source = join(ROOT, "compat/musl_shim.c");
  const shim = join(folder, "ld-linux-x86-64.so.2");
  output("musl-gcc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", shim, source);
  return { LD_LIBRARY_PATH: folder };
}
