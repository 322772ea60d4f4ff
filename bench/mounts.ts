/**
 * The whole job: attach an image, mount it, write ten files, unmount it, detach it. loopdev on each
 * runtime beside the processes that do the same, and beside C with the same system calls, which nobody
 * can outrun; in memory, and on a disk, where the flushes are most of it. By itself:
 *
 *     deno task bench:mounts --quick
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { onSignal, signalCode } from "../examples/program.ts";
import { readOptions } from "../dev/options.ts";
import { progress, table } from "../dev/terminal.ts";
import { detachBelow } from "../tests/support/own_devices.ts";
import { ROOT } from "../tests/support/support.ts";
import {
  attempt,
  command,
  type Contender,
  leaveOut,
  must,
  program,
  RUNTIMES,
} from "./contenders.ts";
import { makeImage, median } from "./measure.ts";
import { peers, SLOWEST } from "./peers.ts";

/** What a cycle consists of; each contender but a shell gives the time of each. */
export const PARTS = ["attach", "mount", "ten files", "unmount", "detach"] as const;

export const C = "C, same calls";

/** Cycles of a turn, and before the first one; of processes, and of what takes a second, fewer. */
interface Turns {
  rounds: number;
  cycles: number;
  warmUp: number;
}
const USUAL: Turns = { rounds: 12, cycles: 10, warmUp: 150 };
const QUICK: Turns = { rounds: 6, cycles: 8, warmUp: 60 };
const SLOW_CYCLES = 2;

/** ms of each cycle, and of each of its parts where they are known. */
export interface JobTimes {
  total: number[];
  parts?: number[][];
}

/** By contender. */
export type Jobs = Record<string, JobTimes>;

/** By place: memory and disk. */
export type MountTimes = Record<string, Jobs>;

const TMPFS_MAGIC = 0x01021994;

/** A new folder in each place where images lie. */
export function makePlaces(): Record<string, string> {
  const found: Record<string, string> = {};
  const make = (parent: string) => mkdtempSync(join(parent, "loopdev-bench-"));
  if (existsSync("/dev/shm")) found.memory = make("/dev/shm");
  else leaveOut("the job in memory", "/dev/shm is missing");
  if (statfsSync(tmpdir()).type !== TMPFS_MAGIC) found.disk = make(tmpdir());
  else leaveOut("the job on a disk", `${tmpdir()} is in memory: set TMPDIR to a folder on a disk`);
  return found;
}

/** After a signal that ended processes in the middle. */
export function removePlaces(folders: readonly string[]): void {
  const mounts = readFileSync("/proc/self/mountinfo", "utf8").split("\n")
    .map((line) => line.split(" ")[4] ?? "");
  for (const folder of folders) {
    for (const at of mounts.filter((path) => path.startsWith(`${folder}/`))) must("umount", [at]);
    detachBelow(folder);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** An image with an ext4. */
export function makeFileSystem(folder: string, name: string, mib: number): string {
  const image = makeImage(folder, name, mib);
  must("mkfs.ext4", ["-q", image]);
  return image;
}

/** `c`: bench/mount_cycle.c, compiled. */
function contenders(folder: string, c: string, slowest: boolean): Contender[] {
  let images = 0;
  const image = () => makeFileSystem(folder, `disk-${images++}.img`, 64);
  const found: Contender[] = [
    program({ name: C, command: [c, image()], strategies: { job: "loopdev" } }),
  ];
  for (const runtime of RUNTIMES) {
    const both = attempt(runtime, () => {
      const start = (name: string, what: string) => {
        const script = command(runtime, "mount_cycles.ts", image());
        return program({ name, command: script, strategies: { job: what } });
      };
      return [
        start(`loopdev, ${runtime}`, "loopdev"),
        start(`processes from ${runtime}`, "processes"),
      ];
    });
    found.push(...both ?? []);
  }
  return [...found, ...peers(folder, image, slowest).map(program)];
}

/** Cycles of a turn. */
function cyclesOf({ name }: Contender, round: number, cycles: number): number {
  if (name.startsWith("loopdev") || name === C) return cycles;
  if (name.startsWith(SLOWEST)) return round === 1 ? 1 : 0;
  return SLOW_CYCLES;
}

/** Splits the ns that a contender gave into cycles; a shell gives but one number a turn, the mean. */
function add(jobs: Jobs, name: string, times: readonly number[]): void {
  if (times.length === 0) return;
  const of = jobs[name] ??= { total: [] };
  if (times.length % PARTS.length !== 0) {
    of.total.push(...times.map((time) => time / 1e6));
    return;
  }
  of.parts ??= PARTS.map(() => []);
  for (let at = 0; at < times.length; at += PARTS.length) {
    const parts = times.slice(at, at + PARTS.length).map((time) => time / 1e6);
    parts.forEach((part, i) => of.parts![i].push(part));
    of.total.push(parts.reduce((sum, part) => sum + part));
  }
}

/** All of them take turns, in one place after the other. They stand in `running` until they ended. */
export async function measureMounts(
  folders: Record<string, string>,
  running: Set<Contender>,
  isQuick = false,
): Promise<MountTimes> {
  const { rounds, cycles, warmUp } = isQuick ? QUICK : USUAL;
  const measured: MountTimes = {};
  for (const [place, folder] of Object.entries(folders)) {
    const jobs: Jobs = measured[place] = {};
    const c = join(folder, "mount_cycle");
    must("cc", ["-O2", "-o", c, join(ROOT, "bench/mount_cycle.c")]);
    // A boot says nothing of the disk: once is enough.
    const all = contenders(folder, c, place === "memory" && !isQuick);
    all.forEach((one) => running.add(one));
    // A peer that loses a device to somebody else ends; the others go on without it.
    const turn = async (one: Contender, count: number) => {
      if (!running.has(one)) return [];
      return await one.run("job", count).catch((error: Error) => {
        if (one.name === C || one.name.startsWith("loopdev")) throw error;
        running.delete(one);
        delete jobs[one.name];
        leaveOut(`${one.name}, ${place}`, "it failed");
        return [];
      });
    };
    for (const one of all) await turn(one, Math.min(warmUp, cyclesOf(one, 0, warmUp)));
    for (let round = 1; round <= rounds; round++) {
      progress(`mounts, ${place}, round ${round} of ${rounds}`);
      for (const one of all) {
        const count = cyclesOf(one, round, cycles);
        if (count > 0) add(jobs, one.name, await turn(one, count));
      }
    }
    await Promise.all(all.map((one) => one.stop()));
    all.forEach((one) => running.delete(one));
  }
  progress("");
  return measured;
}

const HELP = `Usage: bench/mounts.ts [options]

Measures attach, mount, ten files, unmount, detach: loopdev on each runtime, processes, other programs,
and C with the same calls; in memory and on a disk. Needs root, cc, mkfs.ext4 and mount.

      --quick        fewer turns: less than 20 s
      --place PLACE  memory or disk: this one alone
  -h, --help         this text`;

/** A table, and how many times faster than processes. */
export function printJobs(place: string, jobs: Jobs): void {
  const floor = median(jobs[C].total);
  const rows = Object.entries(jobs).map(([name, { total, parts }]) => {
    const middle = median(total);
    return [
      ...[name, middle.toFixed(2), (middle / floor).toFixed(2)],
      ...parts?.map((times) => median(times).toFixed(2)) ?? PARTS.map(() => ""),
    ];
  });
  console.log(`${table([[place, "ms", "× C", ...PARTS], ...rows])}\n`);
  for (const runtime of RUNTIMES) {
    const ours = jobs[`loopdev, ${runtime}`], theirs = jobs[`processes from ${runtime}`];
    if (!ours || !theirs) continue;
    const times = (median(theirs.total) / median(ours.total)).toFixed(1);
    console.log(`${runtime}: ${times} times as fast as processes, ${place}`);
  }
}

if (import.meta.main) {
  const { values: { quick, place: only } } = readOptions(HELP, {
    quick: { type: "boolean" },
    place: { type: "string" },
  });
  const folders = makePlaces();
  const running = new Set<Contender>();
  const cleanUp = async () => {
    await Promise.all([...running].map((one) => one.stop()));
    removePlaces(Object.values(folders));
  };
  onSignal((signal) => void cleanUp().finally(() => process.exit(signalCode(signal))));
  try {
    const chosen = only === undefined ? folders : { [only]: folders[only] };
    const measured = await measureMounts(chosen, running, quick);
    for (const [place, jobs] of Object.entries(measured)) printJobs(place, jobs);
  } finally {
    await cleanUp();
  }
}
