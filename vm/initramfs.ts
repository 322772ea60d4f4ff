/** Puts one guest together: user space, runtimes, loop.ko, the project and what to run. */
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { truncateSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { writeTable } from "../tests/cases/disk_image.ts";
import { makeExt4 } from "../tests/support/mount_image.ts";
import { CpioWriter } from "./cpio.ts";
import type { Init } from "./cells.ts";
import type { Kernel } from "./kernel.ts";
import type { Machine } from "./machines.ts";
import { muted } from "./muted_module.ts";

/** One command in the guest. */
export interface GuestCommand {
  name: string;
  seconds: number;
  command: readonly string[];
}

export interface Guest extends GuestOptions {
  machine: Machine;
  kernel: Kernel;
  init: Init;
  /** cpio archives, unpacked one after another: the suite's user space, the runtimes. */
  base: readonly string[];
  /** The project's root: mod.ts, lib, tests, examples and so on go to /project. */
  project: string;
  commands: readonly GuestCommand[];
  /** Files for /guest, by name. */
  files?: Readonly<Record<string, Uint8Array>>;
}

/** What kind of host the guest is. */
export interface GuestOptions {
  /** "static": a tmpfs with the nodes of the first loop devices, as in many containers. */
  dev?: "devtmpfs" | "static";
  /** Whether systemd-udevd runs. */
  udev?: boolean;
  /** The loop module's parameter. */
  maxPart?: number;
  /** Whether its loop.ko sends no uevents of its own. */
  muted?: boolean;
}

/** What goes to /project, of folders all that lies below them but what npm put there. */
export const PROJECT: readonly string[] = [
  ...["mod.ts", "gpt.ts", "cli.ts", "cli", "lib"],
  ...["bench", "dev", "examples", "tests", "tools", "torture", "vm"],
  ...["deno.json", "package.json", "tsconfig.json"],
];

/** Writes the initramfs; uncompressed, as emulated decompression takes longer than copying. */
export function writeInitramfs(path: string, guest: Guest): void {
  const own = path + ".own";
  const cpio = new CpioWriter(own);
  const here = import.meta.dirname!;
  cpio.file("init", readFileSync(join(here, "guest/init.sh")), 0o755);
  cpio.file("guest/steps.sh", readFileSync(join(here, "guest/steps.sh")));
  const unit = readFileSync(join(here, "guest/guest.service"));
  cpio.file("etc/systemd/system/guest.service", unit);
  const module = readFileSync(guest.kernel.loopModule);
  cpio.file("guest/loop.ko", guest.muted ? muted(module) : module);
  for (const path of guest.kernel.ext4Modules ?? []) {
    cpio.file(`guest/ext4/${basename(path)}`, readFileSync(path));
  }
  const disk = guest.kernel.ext4Modules && makeDisk(`${path}.disk`);
  if (disk) cpio.file("guest/ext4.img", disk);
  const esp = guest.kernel.ext4Modules && makeVfat(`${path}.esp`);
  if (esp) cpio.file("guest/vfat.img", esp);
  for (const [i, path] of (guest.kernel.modules ?? []).entries()) {
    cpio.file(`guest/modules/${String(i).padStart(2, "0")}-${basename(path)}`, readFileSync(path));
  }
  for (const [name, bytes] of Object.entries(guest.files ?? {})) cpio.file(`guest/${name}`, bytes);
  // What runs in a tree that has no libraries.
  const busybox = "/usr/bin/busybox";
  if (existsSync(busybox)) cpio.file("guest/busybox", readFileSync(busybox), 0o755);
  cpio.file("guest/job.env", environment(guest));
  cpio.file("guest/job.steps", guest.commands.map(stepLine).join("\n") + "\n");
  cpio.file("guest/deno.json", denoConfig(guest.project));
  for (const name of PROJECT) {
    const source = join(guest.project, name);
    if (!existsSync(source)) continue;
    if (name.includes(".")) cpio.file(`project/${name}`, readFileSync(source));
    else cpio.tree(source, `project/${name}`, (path) => path === "node_modules");
  }
  const yardstick = guest.machine.name === "amd64" &&
    compileStatically(join(guest.project, "bench/cycle.c"), own);
  if (yardstick) cpio.file("project/bench/cycle", yardstick, 0o755);
  const std = join(guest.project, "dev/node_modules/deno-std");
  if (existsSync(std)) cpio.tree(std, "project/dev/node_modules/deno-std");
  cpio.close();
  const fd = openSync(path, "w");
  for (const part of [...guest.base, own]) {
    const bytes = readFileSync(part);
    for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
  }
  closeSync(fd);
}

const DISK = "label: gpt\nstart=1MiB, size=8MiB, name=first\nstart=9MiB, size=8MiB, name=second\n";

/** Of two partitions with a file system each: the guest has no mkfs. Undefined if the host has none. */
function makeDisk(path: string): Uint8Array | undefined {
  writeFileSync(path, "");
  truncateSync(path, 18 * 1024 * 1024);
  writeTable(path, DISK, 512);
  const starts = [1, 9].map((mib) => mib * 1024 * 1024);
  const isMade = starts.every((start) => makeExt4(path, { start, size: 8 * 1024 * 1024 }));
  const bytes = readFileSync(path);
  rmSync(path);
  return isMade ? bytes : undefined;
}

/** As an ESP's, of 4 MiB without a table. */
function makeVfat(path: string): Uint8Array | undefined {
  const { status } = spawnSync("mkfs.vfat", ["-C", path, "4096"]);
  if (status !== 0) return undefined;
  const bytes = readFileSync(path);
  rmSync(path);
  return bytes;
}

/** The guest has no compiler; undefined if the host has none either. */
function compileStatically(source: string, scratch: string): Uint8Array | undefined {
  const binary = `${scratch}.out`;
  const { status } = spawnSync("cc", ["-O2", "-static", "-o", binary, source]);
  if (status !== 0) return undefined;
  const bytes = readFileSync(binary);
  rmSync(binary);
  return bytes;
}

function environment({ machine, dev = "devtmpfs", udev = true, init, maxPart }: Guest): string {
  // With max_part the kernel reserves 2^n minors for each device: loop1 is not minor 1 then.
  const shift = maxPart ? Math.floor(Math.log2(maxPart)) + 1 : 0;
  return [
    `GUEST_PORT=${machine.port}`,
    `GUEST_DEV=${dev}`,
    `GUEST_INIT=${init}`,
    `GUEST_UDEV=${udev ? "yes" : "no"}`,
    `GUEST_LOOP_PARAMETERS=${maxPart === undefined ? "" : `max_part=${maxPart}`}`,
    `GUEST_MINOR_SHIFT=${shift}`,
  ].join("\n") + "\n";
}

function stepLine({ name, seconds, command }: GuestCommand): string {
  return ["step", name, String(seconds), ...command].map(quote).join(" ");
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** The project's import map, with npm's packages where the guest has them: it has no network. */
function denoConfig(project: string): string {
  const path = join(project, "deno.json");
  const { imports = {} } = existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : {};
  const local = Object.entries(imports as Record<string, string>).map(([name, target]) => [
    name,
    target.replace(/^npm:(deno-std)@[^/]+\//, "/project/dev/node_modules/$1/")
      .replace(/^\.\//, "/project/"),
  ]);
  return JSON.stringify({ imports: Object.fromEntries(local) });
}
