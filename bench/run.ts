/**
 * What loopdev costs beside C, beside losetup, and what its waits cost others. Contenders take turns
 * in one run, so that all meet the same weather; what counts are the ratios.
 *
 *     deno task bench --rounds 20 --json bench.json
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { numberOf, readOptions } from "../dev/options.ts";
import { onSignal, signalCode } from "../examples/program.ts";
import { progress, table } from "../dev/terminal.ts";
import { detachBelow, removeMade } from "../tests/support/own_devices.ts";
import {
  attempt,
  command,
  type Contender,
  contenders,
  must,
  type RuntimeName,
  RUNTIMES,
  versionOf,
} from "./contenders.ts";
import { type Cycles, makeImage, makeImages, measureCycles, median } from "./measure.ts";
import { type Figure, figures, type Measured, mediansOf, type Waits } from "./figures.ts";
import { measureMounts } from "./mounts.ts";
import { measureStartup } from "./startup.ts";

const HELP = `Usage: bench/run.ts [options]

Measures attach + detach with each strategy beside C and losetup, and the figures that loopdev
promises. Needs root, cc, bun, deno, losetup, sfdisk and mkfs.ext4; says so and goes on where one is missing.
The start-up is that of dist/loopdev.js: deno task build before.
Exits with 1 if a figure misses its target.

      --rounds N     turns of each contender (20)
      --json FILE    writes everything measured
      --c FILE       bench/cycle.c, compiled already
      --cycles-only  the cycles, without event loop, memory and start-up
  -h, --help         this text`;

const { values: options } = readOptions(HELP, {
  "rounds": { type: "string" },
  "json": { type: "string" },
  "c": { type: "string" },
  "cycles-only": { type: "boolean" },
});
const rounds = numberOf("rounds", options.rounds, 20, 1);

const MANY = 1000;
const CONCURRENT = 64;

const folder = mkdtempSync(join(tmpdir(), "loopdev-bench-"));
const existing = existingDevices();
let all: Contender[] = [];
let stoppedBy: NodeJS.Signals | undefined;
let cleaning: Promise<void> | undefined;

/** What a run leaves in no case, not even when it is interrupted. */
async function cleanUp(): Promise<void> {
  await Promise.all(all.map((contender) => contender.stop()));
  detachBelow(folder);
  await removeMade([...existingDevices()].filter((number) => !existing.has(number)));
  rmSync(folder, { recursive: true, force: true });
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

function measureWaits(runtime: RuntimeName): Waits {
  const images = (count: number) =>
    Array.from({ length: count }, (_, index) => makeImage(folder, `many-${index}.img`, 1));
  return {
    mounts: attempt("mounts", () => measureMounts(runtime)),
    startup: measureStartup(runtime.toLowerCase() as Lowercase<RuntimeName>),
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
  all = contenders({ c, ...makeImages(folder) });
  const measured: Measured = { cycles: {}, waits: {} };
  try {
    measured.cycles = await measureCycles(
      all,
      rounds,
      (round) => progress(`cycles, round ${round} of ${rounds}`),
    );
  } finally {
    await Promise.all(all.map((contender) => contender.stop()));
  }
  if (!options["cycles-only"]) {
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
