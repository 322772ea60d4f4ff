/**
 * growImage() beside what scripts do: truncate, growpart, losetup, and the file system's own tool. How long
 * each takes, how many processes it is, and what it leaves if it is killed: after each command of the
 * script, at our calls, and at each write to the table. In memory, where no disk is waited for.
 *
 *     deno task bench:grow
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readOptions } from "../dev/options.ts";
import { progress } from "../dev/terminal.ts";
import { attach, readPartitions } from "../mod.ts";
import { writeTable } from "../tests/cases/disk_image.ts";
import { losetup, until } from "../tests/support/support.ts";
import { command, leaveOut, must, type RuntimeName, RUNTIMES } from "./contenders.ts";
import { median } from "./measure.ts";

const HELP = `Usage: bench/grow.ts

Measures growImage() on each runtime beside growpart and the file system's own tool, and kills each of
them. Needs root, growpart (cloud-guest-utils), sfdisk, losetup, mkfs.xfs, mkfs.ext4, resize2fs and strace.

  -h, --help  this text`;

/** What bench/grow_once.ts says where resize2fs did it. */
const HELPED = "resize2fs";

const MIB = 2 ** 20;
const ROUNDS = 7;
const SIZE = 1024 * MIB;
/** Where partition 2 begins. */
const OFFSET = 2 * MIB;

/** What a script does, in an image of two partitions: one command after the other. */
const SCRIPTS: Record<string, readonly string[]> = {
  xfs: [
    `truncate -s ${SIZE} "$1"`,
    'growpart "$1" 2',
    'mkdir -p "$1.at"',
    `loop=$(losetup --find --show --offset ${OFFSET} "$1")`,
    'mount "$loop" "$1.at"',
    'xfs_growfs "$1.at"',
    'umount "$1.at"',
    'losetup --detach "$loop"',
  ],
  ext4: [
    `truncate -s ${SIZE} "$1"`,
    'growpart "$1" 2',
    `loop=$(losetup --find --show --offset ${OFFSET} "$1")`,
    'e2fsck -fp "$loop"',
    'resize2fs "$loop"',
    'losetup --detach "$loop"',
  ],
};
const MKFS: Record<string, string[]> = { xfs: ["mkfs.xfs", "-q"], ext4: ["mkfs.ext4", "-q"] };

/** Where it is done; all in it. */
interface Here {
  readonly folder: string;
  readonly image: string;
}

async function makeMaster({ folder }: Here, type: string): Promise<string> {
  const master = join(folder, `${type}.img`);
  writeFileSync(master, "");
  truncateSync(master, 320 * MIB);
  writeTable(master, "label: gpt\nsize=1MiB\nname=last\n");
  await using loop = await attach(master, { partscan: true });
  const [mkfs, ...args] = MKFS[type];
  must(mkfs, [...args, loop.partitions[1].path]);
  return master;
}

/** How one of them is started. */
interface Way {
  readonly name: string;
  readonly command: readonly string[];
}

const script = ({ image }: Here, commands: readonly string[]): Way => ({
  name: "script",
  command: ["sh", "-c", commands.join(" && "), "sh", image],
});
const ours = ({ image }: Here, runtime: RuntimeName): Way => ({
  name: runtime,
  command: command(runtime, "grow_once.ts", image, String(SIZE)),
});

function run([name, ...args]: readonly string[]): { status: number | null; said: string } {
  const { status, stdout, stderr } = spawnSync(name, args, { encoding: "utf8" });
  return { status, said: `${stdout}${stderr}` };
}

const fresh = ({ image }: Here, master: string) => must("cp", ["--sparse=always", master, image]);

/** By file system. */
export type GrowTimes = Record<string, {
  /** ms of each round, by who does it: "script", and the runtimes. They take turns. */
  times: Record<string, number[]>;
  /** The kernel lets this root grow no mounted one: resize2fs did the last step for all of them. */
  isHelped: boolean;
}>;

/** `folder`: where the images lie. What this machine lacks for it is left out, by name. */
export async function measureGrow(folder: string, rounds = ROUNDS): Promise<GrowTimes> {
  const here = { folder, image: join(folder, "disk.img") };
  const measured: GrowTimes = {};
  for (const [type, commands] of Object.entries(SCRIPTS)) {
    try {
      const master = await makeMaster(here, type);
      const ways = [script(here, commands), ...RUNTIMES.map((runtime) => ours(here, runtime))];
      measured[type] = measure(here, master, ways, rounds);
    } catch (error) {
      leaveOut(`growing an ${type}`, (error as Error).message.trim());
    }
  }
  return measured;
}

function measure(
  here: Here,
  master: string,
  ways: readonly Way[],
  rounds: number,
): GrowTimes[string] {
  const times: Record<string, number[]> = {};
  let isHelped = false;
  for (let round = 0; round < rounds; round++) {
    progress(`grow, round ${round + 1} of ${rounds}`);
    for (const way of ways) {
      fresh(here, master);
      const begin = performance.now();
      const { status, said } = run(way.command);
      (times[way.name] ??= []).push(performance.now() - begin);
      if (status !== 0) throw new Error(`${way.name}: ${said}`);
      isHelped ||= said.includes(HELPED);
    }
  }
  return { times, isHelped };
}

/** So many programs it starts, itself included. */
function processesOf(here: Here, master: string, { command }: Way): number {
  fresh(here, master);
  const log = join(here.folder, "trace");
  run(["strace", "-f", "-qq", "-e", "trace=execve", "-o", log, ...command]);
  return readFileSync(log, "utf8").match(/execve\(.* = 0$/gm)?.length ?? 0;
}

/** What it has left of so many kills. */
interface Left {
  kills: number;
  devices: number;
  mounts: number;
  /** The kernel, which reads no backup, would find no partition. */
  tables: number;
}

/** Kills whoever makes the call, the first time at its first one, and so on until nobody does. */
async function kill(
  here: Here,
  master: string,
  { command }: Way,
  ...inject: string[]
): Promise<Left> {
  const left: Left = { kills: 0, devices: 0, mounts: 0, tables: 0 };
  for (let when = 1; when < 500; when++) {
    fresh(here, master);
    const log = join(here.folder, "trace");
    const [calls, ...rest] = inject;
    const at = `inject=${calls}:signal=KILL:when=${when}`;
    run(["strace", "-f", "-qq", "-o", log, "-e", `trace=${calls}`, "-e", at, ...rest, ...command]);
    if (!/killed by SIGKILL/.test(readFileSync(log, "utf8"))) return left;
    await count(here, left);
  }
  return left;
}

/** Kills a script after each of its commands. */
async function killBetween(
  here: Here,
  master: string,
  commands: readonly string[],
): Promise<Left> {
  const left: Left = { kills: 0, devices: 0, mounts: 0, tables: 0 };
  for (let done = 1; done < commands.length; done++) {
    fresh(here, master);
    run(script(here, [...commands.slice(0, done), "kill -KILL $$"]).command);
    await count(here, left);
  }
  return left;
}

/** Adds what is left, and takes it away. */
async function count({ image }: Here, left: Left): Promise<void> {
  left.kills++;
  // The kernel detaches ours in a moment.
  await until(() => losetup(image).every(({ autoclear }) => !autoclear), "the detach", 2000)
    .catch(() => {});
  if (run(["umount", `${image}.at`]).status === 0) left.mounts++;
  for (const { name } of losetup(image)) {
    left.devices++;
    must("losetup", ["--detach", name]);
  }
  const { header } = await readPartitions(image).catch(() => ({ header: undefined }));
  if (header !== "primary") left.tables++;
}

const show = ({ kills, devices, mounts, tables }: Left) =>
  `${kills} kills leave ${devices} devices, ${mounts} mounts, and ${tables} tables in which the ` +
  "kernel finds no partition";

async function main(here: Here): Promise<void> {
  const measured = await measureGrow(here.folder);
  for (const [type, { times }] of Object.entries(measured)) {
    const master = await makeMaster(here, type);
    const [theirs, bun] = [script(here, SCRIPTS[type]), ours(here, RUNTIMES[0])];
    for (const way of [theirs, ...RUNTIMES.map((runtime) => ours(here, runtime))]) {
      const [took, shell] = [times[way.name], times[theirs.name]].map(median);
      console.log(
        `${type}, ${way.name.padEnd(6)} ${took.toFixed(0)} ms, ` +
          `${(shell / took).toFixed(1)} times as fast; ` +
          `${processesOf(here, master, way)} processes`,
      );
    }
    const between = await killBetween(here, master, SCRIPTS[type]);
    console.log(`${type}, script, killed after each command: ${show(between)}`);
    // growpart's sfdisk writes the table; strace looks at the image alone.
    const writes = await kill(here, master, theirs, "write", "-P", here.image);
    console.log(`${type}, script, killed at each write:   ${show(writes)}`);
    for (const calls of ["ioctl", "pwrite64,fsync"]) {
      const left = await kill(here, master, bun, calls);
      console.log(`${type}, ${bun.name}, killed at each ${calls}: ${show(left)}`);
    }
  }
}

if (import.meta.main) {
  readOptions(HELP, {});
  const folder = mkdtempSync(
    join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "loopdev-bench-"),
  );
  try {
    await main({ folder, image: join(folder, "disk.img") });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
