/**
 * One of several processes that attach at the same time. Lines of stdin say what to do, each is
 * answered with a line of JSON:
 *   hold           attaches every image at once, reads each through its device, keeps them
 *   drop           detaches them
 *   cycle N        attaches and detaches the first image N times, and gives the times
 */
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { readOptions } from "../dev/options.ts";
import { attach, type LoopDevice } from "../mod.ts";

const HELP = `Usage: torture/contender.ts IMAGE...

What part "contention" starts. It reads what to do from stdin: hold, drop, or cycle N.

  -h, --help  this text`;
const { operands: images } = readOptions(HELP, {}, { least: 1, most: Infinity });
let held: LoopDevice[] = [];

/** Whether the device shows just this image, at its begin and at its end. */
function hasContents(device: string, image: string): boolean {
  const wanted = readFileSync(image);
  const fd = openSync(device, "r");
  try {
    return [0, wanted.length - 4096].every((at) => {
      const got = new Uint8Array(4096);
      readSync(fd, got, 0, got.length, at);
      return wanted.subarray(at, at + 4096).equals(got);
    });
  } finally {
    closeSync(fd);
  }
}

async function hold() {
  const start = performance.now();
  const settled = await Promise.allSettled(images.map((image) => attach(image)));
  const ms = performance.now() - start;
  held = settled.flatMap((one) => one.status === "fulfilled" ? [one.value] : []);
  const problems = settled.flatMap((one, i) =>
    one.status === "rejected"
      ? [`attach() failed: ${one.reason}`]
      : hasContents(one.value.path, images[i])
      ? []
      : [`${one.value.path} does not show ${images[i]}`]
  );
  return { ms, problems, numbers: held.map(({ number }) => number) };
}

async function drop() {
  const outcomes = await Promise.all(held.map(async (loop) => {
    const current = await loop.isCurrent();
    const outcome = await loop.detach();
    return current ? outcome : "lost";
  }));
  held = [];
  return { outcomes };
}

async function cycle(times: number) {
  const attempts: { ms: number; error?: string; code?: string }[] = [];
  for (let i = 0; i < times; i++) {
    const start = performance.now();
    try {
      const workaround = i % 2 === 0 ? "never" : "always";
      const loop = await attach(images[0], { partscan: true, workaround });
      attempts.push({ ms: performance.now() - start });
      await loop.detach();
    } catch (error) {
      const { message, code } = error as { message: string; code?: string };
      attempts.push({ ms: performance.now() - start, error: message, code });
    }
  }
  return { attempts };
}

console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [verb, count] = line.split(" ");
  const answer = verb === "hold"
    ? await hold()
    : verb === "drop"
    ? await drop()
    : await cycle(Number(count));
  console.log(JSON.stringify(answer));
}
