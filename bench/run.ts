/**
 * What loopdev costs beside C, beside losetup, and what its waits cost others. Contenders take turns
 * in one run, so that all meet the same weather; what counts are the ratios.
 *
 *     deno task bench --rounds 20 --json bench.json
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { numberOf, readOptions } from "../dev/options.ts";
import { onSignal, signalCode } from "../examples/program.ts";
import { progress, table } from "../dev/terminal.ts";
import { removeMade } from "../tests/support/own_devices.ts";
import {
  attempt,
  command,
  type Contender,
  contenders,
  leftOut,
  must,
  type RuntimeName,
  RUNTIMES,
  versionOf,
} from "./contenders.ts";
import { type Cycles, makeImage, makeImages, measureCycles, median } from "./measure.ts";
import { type Figure, figures, type Measured, mediansOf, type Waits } from "./figures.ts";
import { measureGrow } from "./grow.ts";
import { makePlaces, measureMounts, printJobs, removePlaces } from "./mounts.ts";
import { measureStartup } from "./startup.ts";

const HELP = `Usage: bench/run.ts [options]

Measures attach + detach with each strategy beside C and losetup; attach, mount, ten files, unmount and
detach beside the processes that do the same; growing an image beside growpart; and the figures that
loopdev promises. Needs root, cc, bun, deno, losetup, sfdisk, mkfs.ext4, mount, systemd-dissect
(systemd-container), growpart (cloud-guest-utils), e2fsck, resize2fs and mkfs.xfs: what is missing is left
out, and named.
The start-up is that of the library of dist/: deno task build before.
Exits with 1 if a figure misses its target.

      --rounds N     turns of each contender (20)
      --json FILE    writes everything measured
      --c FILE       bench/cycle.c, compiled already
      --cycles-only  attach + detach alone
      --quick        few turns: whether it runs, and no figure to keep
  -h, --help         this text`;

const { values: options } = readOptions(HELP, {
  "rounds": { type: "string" },
  "json": { type: "string" },
  "c": { type: "string" },
  "cycles-only": { type: "boolean" },
  "quick": { type: "boolean" },
});
const quick = options.quick ?? false;
const rounds = numberOf("rounds", options.rounds, quick ? 2 : 20, 1);

const MANY = 1000;
const CONCURRENT = 64;
/** Turns of growing an image. */
const GROWS = 5;

const folder = mkdtempSync(join(tmpdir(), "loopdev-bench-"));
const existing = existingDevices();
const places = makePlaces();
/** Where images of file systems lie of which no disk is to be measured. */
const fast = places.memory ?? folder;
const running = new Set<Contender>();
let stoppedBy: NodeJS.Signals | undefined;
let cleaning: Promise<void> | undefined;

/** What a run leaves in no case, not even when it is interrupted. */
async function cleanUp(): Promise<void> {
  await Promise.all([...running].map((contender) => contender.stop()));
  removePlaces([folder, ...Object.values(places)]);
  await removeMade([...existingDevices()].filter((number) => !existing.has(number)));
}

onSignal((signal) => {
  stoppedBy ??= signal;
  cleaning ??= cleanUp().finally(() => process.exit(signalCode(signal)));
});

/** Runs a subject and gives the JSON that it prints. */
function ask<T>(runtime: RuntimeName, script: string, ...args: string[]): T {
  progress(`${runtime}: ${script} ${args[0].startsWith("/") ? "" : args[0]}`);
  const [file, ...rest] = command(runtime, script, ...args);
  const options = { encoding: "utf8", maxBuffer: 2 ** 24 } as const;
  return JSON.parse(execFileSync(file, rest, options));
}

const lower = (runtime: RuntimeName) => runtime.toLowerCase() as Lowercase<RuntimeName>;

function measureWaits(runtime: RuntimeName): Waits {
  const images = (count: number) =>
    Array.from({ length: count }, (_, index) => makeImage(folder, `many-${index}.img`, 1));
  return {
    startup: attempt("start-up", () => measureStartup(lower(runtime), fast, quick ? 3 : undefined)),
    gap: ask(runtime, "waits.ts", "gap", makeImage(folder, "large.img", 256)),
    concurrency: ask(runtime, "waits.ts", "concurrency", ...images(CONCURRENT)),
    many: ask(runtime, "many.ts", ...images(MANY)),
  };
}

function existingDevices(): Set<number> {
  const names = must("ls", ["/sys/block"]).match(/(?<=\bloop)\d+\b/g) ?? [];
  return new Set(names.map(Number));
}

function printCycles(cycles: Cycles): void {
  const rows = Object.entries(cycles).flatMap(([strategy, byContender]) =>
    Object.entries(byContender).map(([name, times]) => {
      const middle = median(times);
      const ratio = (yardstick: string) => {
        const times = byContender[yardstick];
        return times ? (middle / median(times)).toFixed(2) : "";
      };
      const value = (middle / 1000).toFixed(0);
      return [strategy, name, value, ratio("C, bare"), ratio("C, same calls")];
    })
  );
  console.log(table([["strategy", "contender", "median µs", "× bare", "× same"], ...rows]));
}

function printFigures(all: Figure[]): void {
  const rows = all.map(({ what, runtime, value, unit, bound, target, holds, from }) => [
    ...[what, runtime, `${value.toFixed(2)} ${unit}`, `${bound} ${target}`],
    ...[holds ? "holds" : "MISSED", from],
  ]);
  console.log(`\n${table([["figure", "runtime", "value", "target", "", ""], ...rows])}`);
}

async function main(): Promise<number> {
  const c = options.c ?? join(folder, "cycle");
  const all = contenders({ c, ...makeImages(folder) });
  all.forEach((contender) => running.add(contender));
  const cycles = await measureCycles(
    all,
    rounds,
    (round) => progress(`cycles, round ${round} of ${rounds}`),
    quick ? 20 : undefined,
  );
  await Promise.all(all.map((contender) => contender.stop()));
  running.clear();
  const measured: Measured = { cycles, mounts: {}, grow: {}, waits: {}, leftOut };
  if (!options["cycles-only"]) {
    measured.mounts = await measureMounts(places, running, quick);
    measured.grow = await measureGrow(fast, quick ? 1 : GROWS);
    for (const runtime of RUNTIMES) {
      if (!all.some(({ name }) => name === `loopdev, ${runtime}`)) continue;
      measured.waits[runtime] = measureWaits(runtime);
    }
  }
  progress("");

  const machine: Record<string, string | number | undefined> = {
    kernel: release(),
    cpu: cpus()[0].model.trim(),
    processors: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    ...Object.fromEntries(
      RUNTIMES.map((name) => [name.toLowerCase(), attempt(name, () => versionOf(name))]),
    ),
  };
  console.log(
    `Linux ${machine.kernel}, ${machine.processors} × ${machine.cpu}, ${machine.memoryGiB} GiB, ` +
      `${RUNTIMES.map((name) => `${name} ${machine[name.toLowerCase()]}`).join(", ")}\n`,
  );
  printCycles(measured.cycles);
  console.log();
  for (const [place, jobs] of Object.entries(measured.mounts)) printJobs(place, jobs);
  const result = figures(mediansOf(measured));
  printFigures(result);
  if (options.json !== undefined) {
    const date = new Date().toISOString();
    const json = JSON.stringify({ date, machine, figures: result, ...measured });
    writeFileSync(options.json, `${json}\n`);
  }
  return result.every(({ holds }) => holds) ? 0 : 1;
}

let status = 1;
try {
  status = await main();
} catch (error) {
  if (stoppedBy === undefined) console.error(`bench/run.ts: ${(error as Error).message}`);
}
await (cleaning ??= cleanUp());
process.exit(stoppedBy === undefined ? status : signalCode(stoppedBy));
