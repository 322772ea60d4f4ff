/**
 * A thousand devices attached at once and detached again: ms of each, and the resident memory of the
 * process. Prints JSON. The first round makes the devices, the second is the measurement.
 */
import { readFileSync } from "node:fs";
import { readOptions } from "../dev/options.ts";
import { attach, type LoopDevice } from "../mod.ts";

const HELP = `Usage: bench/many.ts IMAGE...

What bench/run.ts starts: attaches all images at the same time and detaches them, twice; prints JSON.

  -h, --help  this text`;
const { operands: files } = readOptions(HELP, {}, { least: 1, most: Infinity });

function residentKiB(): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))![1]);
}

async function timed<T>(all: readonly T[], work: (each: T) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (const each of all) {
    const start = performance.now();
    await work(each);
    times.push(performance.now() - start);
  }
  return times;
}

async function round() {
  const loops: LoopDevice[] = [];
  const before = residentKiB();
  const attached = await timed(files, async (file) => loops.push(await attach(file)));
  const grown = residentKiB() - before;
  const detached = await timed(loops, (loop) => loop.detach());
  return { attached, detached, grown, numbers: loops.map(({ number }) => number) };
}

const first = await round();
console.log(JSON.stringify({ first, second: await round() }));
