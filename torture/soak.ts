/**
 * Part "soak": many cycles of attach() and detach() in one process. What the process and the kernel
 * have in use is the same after a warm-up and at the end, within a tolerance.
 */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { progress, say } from "../dev/terminal.ts";
import { makeImage, onRuntime, ROOT, THREE_PARTITIONS } from "../tests/support/support.ts";
import { devicesOf, openFiles, type Part, type Row, within } from "./common.ts";
import type { RuntimeName } from "./scenarios.ts";
import { Lines } from "./subject_process.ts";

/** What must not grow, by how much it may all the same, and why. */
const TOLERANCES = {
  "open files": 0,
  /** Of any kind: a runtime has pipes and event queues of its own. */
  descriptors: 16,
  /** A runtime's pool may still grow to its size. */
  threads: 8,
  /** Garbage that is not collected yet. */
  "RSS KiB": 48 * 1024,
  "bdev inodes": 256,
  "block devices": 64,
  "SUnreclaim KiB": 32 * 1024,
};
type Usage = Record<keyof typeof TOLERANCES, number>;

/**
 * What the whole machine has. Others use it, too; but only what this process loses grows in each of
 * so many rounds.
 */
const SHARED: readonly string[] = ["bdev inodes", "block devices", "SUnreclaim KiB"];
const ROUNDS = 3;

function field(file: string, pattern: RegExp): number {
  return Number(pattern.exec(readFileSync(file, "utf8"))?.[1] ?? NaN);
}

function usage(pid: number): Usage {
  return {
    "open files": openFiles(pid).length,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: readdirSync(`/proc/${pid}/task`).length,
    "RSS KiB": field(`/proc/${pid}/status`, /^VmRSS:\s+(\d+)/m),
    "bdev inodes": field("/proc/slabinfo", /^bdev_cache\s+(\d+)/m),
    "block devices": readdirSync("/sys/class/block").length,
    "SUnreclaim KiB": field("/proc/meminfo", /^SUnreclaim:\s+(\d+)/m),
  };
}

const STRATEGIES = ["none", "one-step", "two-step", "userspace"] as const;
const SETTLE_MS = 5000;
/** Of cycles asked for at once, so that progress shows. */
const BATCH = 100;

async function soak(
  runtime: RuntimeName,
  strategy: typeof STRATEGIES[number],
  warmUp: number,
  cycles: number,
): Promise<Row> {
  // The benchmark's program: "STRATEGY CYCLES" lines, answered with the times.
  const images = [
    makeImage("plain.img", 8),
    makeImage("partitioned.img", 8, THREE_PARTITIONS),
  ];
  const [command, ...args] = onRuntime(runtime, join(ROOT, "bench/cycle.ts"), ...images);
  // Else V8 grows its heap to many times what is in use before it collects.
  const env = { ...process.env, DENO_V8_FLAGS: "--max-old-space-size=32" };
  const child = spawn(command, args, { stdio: "pipe", env });
  const lines = new Lines(child);
  const times: number[] = [];
  const run = async (cycles: number) => {
    for (let done = 0; done < cycles; done += BATCH) {
      progress(`soak: ${runtime} ${strategy}, ${done} of ${cycles}`);
      child.stdin.write(`${strategy} ${Math.min(BATCH, cycles - done)}\n`);
      times.push(...(await lines.next(120_000)).split(" ").map(Number));
    }
  };
  const violations: string[] = [];
  const figures: string[] = [];
  try {
    await run(warmUp);
    const whats = Object.keys(TOLERANCES) as (keyof Usage)[];
    let [before, after] = [usage(child.pid!), usage(child.pid!)];
    const grown = () => whats.filter((what) => !(after[what] - before[what] <= TOLERANCES[what]));
    times.length = 0;
    for (let round = 0; round < ROUNDS; round++) {
      before = usage(child.pid!);
      await run(cycles);
      // The kernel frees inodes and slabs with a delay, and others may be at it just now.
      await within(SETTLE_MS, () => {
        after = usage(child.pid!);
        return grown().length === 0;
      });
      if (!grown().some((what) => SHARED.includes(what))) break;
    }
    for (const what of whats) {
      const most = TOLERANCES[what];
      figures.push(`${what} ${before[what]} → ${after[what]}`);
      if (!(after[what] - before[what] <= most)) {
        violations.push(
          `${what} grew from ${before[what]} to ${after[what]}, at most ${most} more`,
        );
      }
    }
  } catch (error) {
    violations.push((error as Error).message);
  }
  child.stdin.end();
  await lines.ended;
  if (images.flatMap(devicesOf).length > 0) violations.push("a device is left");
  const name = `${runtime} ${strategy}`;
  for (const problem of violations) {
    say(`VIOLATION soak ${name}: ${problem}\n  again: deno task torture --part soak`);
  }
  const median = times.sort((a, b) => a - b)[times.length >> 1] / 1000;
  const detail = `${cycles} cycles after ${warmUp}, median ${median.toFixed(0)} µs: ` +
    `${figures.join(", ")}; ${violations.length} violations` +
    violations.map((problem) => ` | ${problem}`).join("");
  say(`soak: ${name}: ${detail}`);
  return { part: "soak", name, outcome: violations.length === 0 ? "pass" : "fail", detail };
}

export const soaks: Part = async ({ full, scale, runtimes }) => {
  const [warmUp, cycles] = full ? [2000, 20_000] : [200, 400];
  const rows: Row[] = [];
  for (const strategy of STRATEGIES) {
    for (const runtime of runtimes) {
      rows.push(
        await soak(runtime, strategy, Math.ceil(warmUp * scale), Math.ceil(cycles * scale)),
      );
    }
  }
  return rows;
};
