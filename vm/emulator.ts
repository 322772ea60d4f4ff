/**
 * QEMU, of one Debian release on every machine, with that release's libraries.
 *
 * Not this machine's own: QEMU 7.2, of Debian 12, breaks programs of several threads now and then when it
 * emulates several processors. 11 of 80 programs on Node were ended by SIGSEGV or SIGTRAP, among them 7 of 40
 * whose garbage collector and compiler had no threads. QEMU 10.0 ran 80 of 80, in turns on the same machine. Of
 * boots with vm/guest/mounts.ts, 6 of 9 had such an end with 7.2, and 1 of 18 with 10.0.
 */
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { run } from "./apt.ts";
import type { Machine } from "./machines.ts";
import { installSuite } from "./rootfs.ts";

const SUITE = "trixie";

export interface Emulator {
  /** "10.0.13" */
  readonly version: string;
  /** The program and its first arguments. */
  readonly command: readonly [string, ...string[]];
}

/** Installed once for each kind of guest, about 35 s and 310 MB. */
export function installEmulator(cache: string, mirror: string, guest: Machine): Emulator {
  const tree = join(cache, `${SUITE}-${guest.name}`);
  if (!existsSync(tree)) {
    const part = `${tree}.${process.pid}.part`;
    mkdirSync(cache, { recursive: true });
    try {
      installSuite(part, SUITE, guest.emulator.packages, mirror);
      rmSync(join(part, "var/cache/apt"), { recursive: true });
      renameSync(part, tree);
    } finally {
      rmSync(part, { recursive: true, force: true });
    }
  }
  const loader = join(tree, "lib64/ld-linux-x86-64.so.2");
  const args = [
    ...["--library-path", join(tree, "usr/lib/x86_64-linux-gnu")],
    join(tree, "usr/bin", guest.emulator.program),
    ...["qemu", "seabios"].flatMap((name) => ["-L", join(tree, "usr/share", name)]),
  ];
  const version = /version (\S+)/.exec(run(loader, [...args, "--version"]))?.[1] ?? "";
  return { version, command: [loader, ...args] };
}
