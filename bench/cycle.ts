/**
 * loopdev's side of the benchmark, with the same protocol as bench/cycle.c: reads lines
 * "STRATEGY CYCLES" and answers each with the nanoseconds of every attach + detach on one line.
 */
import { spawnSync } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { readOptions } from "../dev/options.ts";
import { attach, type AttachOptions } from "../mod.ts";

const HELP = `Usage: bench/cycle.ts IMAGE PARTITIONED

What bench/run.ts starts: reads lines "STRATEGY CYCLES" and answers each with the nanoseconds of every
attach + detach. Strategies: none, one-step, two-step, "two-step, 4 partitions", userspace, losetup.

  -h, --help  this text`;
const { operands: [image, partitioned] } = readOptions(HELP, {}, { least: 2, most: 2 });

/** "one-step" and "two-step" on an image without a table: what the kernel's own parser finds is its affair. */
const OPTIONS: Record<string, [file: string, options: AttachOptions]> = {
  "none": [image, {}],
  "one-step": [image, { partscan: true, workaround: "never" }],
  "two-step": [image, { partscan: true, workaround: "always" }],
  "two-step, 4 partitions": [partitioned, { partscan: true, workaround: "always" }],
  "userspace": [partitioned, { partscan: "userspace", workaround: "always" }],
};

function losetup(...args: string[]): string {
  const { stdout, stderr, status } = spawnSync("losetup", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return stdout.trim();
}

async function cycle(strategy: string): Promise<void> {
  if (strategy === "losetup") {
    losetup("--detach", losetup("--find", "--show", "--partscan", image));
  } else {
    const loop = await attach(...OPTIONS[strategy]);
    await loop.detach();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const [, strategy, cycles] = /^(.*) (\d+)$/.exec(line)!;
  const times: number[] = [];
  for (let i = 0; i < Number(cycles); i++) {
    const start = performance.now();
    await cycle(strategy);
    times.push(Math.round((performance.now() - start) * 1e6));
  }
  console.log(times.join(" "));
}
