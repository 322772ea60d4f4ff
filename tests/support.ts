/** What the tests share: images, second opinions, child processes, and skips that name their reason. */
import { spawn, spawnSync, type SpawnSyncOptions } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { test as nodeTest } from "node:test";

export const ROOT: string = new URL("..", import.meta.url).pathname;
export const MOD: string = new URL("../mod.ts", import.meta.url).href;

const TOOLS: Record<string, string> = {
  "cc": "gcc",
  "inotifywait": "inotify-tools",
  "losetup": "mount",
  "mkfs.ext4": "e2fsprogs",
  "sfdisk": "fdisk",
  "strace": "strace",
  "script": "bsdutils",
  "setarch": "util-linux",
  "setpriv": "util-linux",
  "unshare": "util-linux",
  "xorriso": "xorriso",
  "bun": "npm install --prefix dev",
  "deno": "npm install --prefix dev",
};

/** Debian keeps sfdisk and losetup where only root's PATH leads. */
process.env.PATH = [process.env.PATH, "/usr/sbin", "/sbin", join(ROOT, "dev/node_modules/.bin")]
  .join(delimiter);

export type Need = keyof typeof TOOLS | "root";

function missing(need: Need): string | undefined {
  if (need === "root") return process.getuid?.() === 0 ? undefined : "needs root";
  const found = process.env.PATH!.split(delimiter).some((folder) => existsSync(join(folder, need)));
  return found ? undefined : `needs ${need} (${TOOLS[need]})`;
}

/** node:test's test() with a time limit, skipped with a reason where the machine lacks something. */
export function test(name: string, needs: Need[], body: () => void | Promise<void>): void {
  const skip = needs.map(missing).find((reason) => reason !== undefined);
  nodeTest(name, { timeout: 120_000, skip: skip ?? false }, async () => {
    try {
      await body();
    } finally {
      if (folder) rmSync(folder, { recursive: true, force: true });
      folder = undefined;
    }
  });
}

let folder: string | undefined;

/** A path for a scratch file, in a folder that goes at the end of the running test. */
export function scratch(name: string): string {
  folder ??= mkdtempSync(join(tmpdir(), "loopdev-test-"));
  return join(folder, name);
}

export interface Finished {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a command to its end; throws if it cannot be run at all. */
export function run(command: string[], options: SpawnSyncOptions = {}): Finished {
  const [name, ...args] = command;
  const { status, stdout, stderr, error } = spawnSync(name, args, {
    timeout: 60_000,
    ...options,
    encoding: "utf8",
  });
  if (error) throw error;
  return { status, stdout: String(stdout), stderr: String(stderr) };
}

/** Runs a command that must succeed, and gives what it prints. */
export function output(command: string[], options: SpawnSyncOptions = {}): string {
  const { status, stdout, stderr } = run(command, options);
  if (status !== 0) throw new Error(`${command.join(" ")} exited with ${status}: ${stderr}`);
  return stdout;
}

/** The command line that runs a script of ours on a runtime. */
export function onRuntime(runtime: "bun" | "deno", script: string, ...args: string[]): string[] {
  const deno = ["--no-prompt", "--quiet", "--no-lock", "--allow-all"];
  return [runtime, "run", ...runtime === "deno" ? deno : [], script, ...args];
}

/** The same on the runtime that runs the tests. */
export function onThisRuntime(script: string, ...args: string[]): string[] {
  const [, ...rest] = onRuntime("Deno" in globalThis ? "deno" : "bun", script, ...args);
  return [process.execPath, ...rest];
}

/** Makes an image of `mib` MiB and lets sfdisk write a table into it. */
export function makeImage(name: string, mib: number, table?: string, sectorSize = 512): string {
  const path = scratch(name);
  rmSync(path, { force: true });
  output(["truncate", "-s", `${mib}M`, path]);
  if (table !== undefined) {
    withSectorSize(path, sectorSize, (disk) => {
      // BLKRRPART would fail here and there for want of a parser, and is not what we want.
      output(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk], { input: table });
    });
  }
  return path;
}

/** sfdisk takes a file's sectors for 512 bytes; for others it gets a device, made by losetup. */
export function withSectorSize<T>(path: string, sectorSize: number, use: (disk: string) => T): T {
  if (sectorSize === 512) return use(path);
  const disk = output(["losetup", "--find", "--show", "--sector-size", `${sectorSize}`, path])
    .trim();
  try {
    return use(disk);
  } finally {
    output(["losetup", "--detach", disk]);
  }
}

/** Three GPT partitions with names, of 1, 2 and the rest of 8 MiB. */
export const THREE_PARTITIONS = `label: gpt
size=1MiB, name=one
size=2MiB, name="zwei ü"
name=three
`;

/**
 * A command line's beginning that runs the rest in a mount namespace where /dev is a static tmpfs,
 * as in a container: null and urandom, and what `setup` makes.
 */
export function withStaticDev(setup: string): string[] {
  const nodes = "mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9";
  const script = `mount -t tmpfs none /dev && ${nodes} && ${setup} && exec "$@"`;
  return ["unshare", "--mount", "sh", "-c", script, "sh"];
}

/** A row of `losetup --json`, with the columns the tests look at. */
export interface LosetupRow {
  name: string;
  "back-file": string;
  offset: number;
  sizelimit: number;
  autoclear: boolean;
  ro: boolean;
  dio: boolean;
  "log-sec": number;
}

/** losetup's own view of the devices that are bound to `file`, as a second opinion. */
export function losetup(file: string): LosetupRow[] {
  const columns = "NAME,BACK-FILE,OFFSET,SIZELIMIT,AUTOCLEAR,RO,DIO,LOG-SEC";
  const json = output(["losetup", "--json", "--output", columns, "--associated", file]);
  return json.trim() === "" ? [] : JSON.parse(json).loopdevices;
}

/** A sysfs attribute, read by the runtime and not by the code under test. */
export function sysfs(path: string): string {
  return readFileSync(`/sys/block/${path}`, "utf8").trim();
}

/** Waits for a condition; throws if it does not come true within `ms`. */
export async function until(condition: () => boolean, what: string, ms = 10_000): Promise<void> {
  for (const end = Date.now() + ms; !condition();) {
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A child that holds `path` open, until it is stopped. */
export async function holdOpen(path: string): Promise<AsyncDisposable> {
  const child = spawn("sh", ["-c", 'exec 3<"$0" && echo held && read _ <&0', path]);
  const closed = new Promise((resolve) => child.on("close", resolve));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return {
    async [Symbol.asyncDispose]() {
      child.stdin.end("\n");
      await closed;
    },
  };
}

/** Descriptors of images and loop devices that this process has open. */
export function openDescriptors(): string[] {
  // ls complains about descriptors that close while it looks.
  const { stdout } = run(["ls", "-l", `/proc/${process.pid}/fd`]);
  return stdout.split("\n").filter((line) => /\/dev\/loop|\/loopdev-test-/.test(line));
}
