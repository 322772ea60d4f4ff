/**
 * The longest gap in the event loop while attach() waits for the kernel, and what many waits at once
 * take beside as many in a row. Prints JSON; times in ms.
 */
import { spawnSync } from "node:child_process";
import { readOptions } from "../dev/options.ts";
import { attach, attachAll } from "../mod.ts";

const HELP = `Usage: bench/waits.ts gap IMAGE | concurrency IMAGE...

What bench/run.ts starts: measures the longest gap in the event loop, or many attaches at once beside
as many in a row; prints JSON. "gap" overwrites 256 MiB of IMAGE.

  -h, --help  this text`;
const { operands: [what, ...files] } = readOptions(HELP, {}, { least: 2, most: Infinity });
const TWO_STEPS = { partscan: true, workaround: "always" } as const;
const DIRTY_MIB = 256;

/** Runs `work`, and gives how long it took and the longest time between two turns of the event loop. */
async function watch(work: () => Promise<unknown>): Promise<{ took: number; gap: number }> {
  let gap = 0;
  let last = performance.now();
  const look = () => {
    const now = performance.now();
    gap = Math.max(gap, now - last);
    last = now;
  };
  const ticker = setInterval(look, 1);
  // What the timer itself needs at first is not attach()'s.
  await new Promise((resolve) => setTimeout(resolve, 30));
  gap = 0;
  const start = last = performance.now();
  await work();
  look();
  clearInterval(ticker);
  return { took: performance.now() - start, gap };
}

async function gaps(file: string) {
  const rounds = [];
  for (let round = 0; round < 5; round++) {
    // By another process, synchronously: nothing of it is left to do here.
    const fill = ["if=/dev/zero", `of=${file}`, "bs=1M", `count=${DIRTY_MIB}`, "conv=notrunc"];
    spawnSync("dd", [...fill, "status=none"]);
    const detached = async () => (await attach(file, { partscan: true })).detach();
    const dirty = await watch(detached);
    const twoStep = await watch(async () => (await attach(file, TWO_STEPS)).detach());
    rounds.push({ dirty, twoStep });
  }
  return rounds;
}

async function concurrency(files: string[]) {
  const rounds = [];
  for (let round = 0; round < 3; round++) {
    let start = performance.now();
    const row = [];
    for (const file of files) row.push(await attach(file, TWO_STEPS));
    const inARow = performance.now() - start;
    await Promise.all(row.map((loop) => loop.detach()));
    start = performance.now();
    const loops = await attachAll(files, { ...TWO_STEPS, concurrency: files.length });
    const atOnce = performance.now() - start;
    await loops[Symbol.asyncDispose]();
    rounds.push({ inARow, atOnce });
  }
  return rounds;
}

console.log(JSON.stringify(what === "gap" ? await gaps(files[0]) : await concurrency(files)));
