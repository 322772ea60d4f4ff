/**
 * loopdev's side of the benchmark: the same protocol as bench/cycle.c. Reads lines "STRATEGY CYCLES"
 * and answers each with the nanoseconds of every attach + detach on one line.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { attach, type AttachOptions } from "../mod.ts";

const [image, partitioned] = process.argv.slice(2);

/** "one-step" and "two-step" on an image without a table: what the kernel's own parser finds is its affair. */
const OPTIONS: Record<string, [file: string, options: AttachOptions]> = {
  "none": [image, {}],
  "one-step": [image, { partscan: true, workaround: "never" }],
  "two-step": [image, { partscan: true, workaround: "always" }],
  "userspace": [partitioned, { partscan: "userspace", workaround: "never" }],
};

for await (const line of createInterface({ input: process.stdin })) {
  const [strategy, cycles] = line.split(" ");
  const times: number[] = [];
  for (let i = 0; i < Number(cycles); i++) {
    const start = performance.now();
    const loop = await attach(...OPTIONS[strategy]);
    await loop.detach();
    times.push(Math.round((performance.now() - start) * 1e6));
  }
  console.log(times.join(" "));
}
