/**
 * Runs random programs, several at a time, and says which promise was broken:
 *     interleaver.ts SEED FROM COUNT LANES FIRST_NUMBER FOLDER
 * Writes a line of JSON for each violation, and one at the end.
 */
import { spawn } from "node:child_process";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { readOptions } from "../dev/options.ts";
import { onThisRuntime, ROOT } from "../tests/support/support.ts";
import { type Lane, PROGRAMS, Unable } from "./programs.ts";
import { putEntries } from "../tests/cases/mbr.ts";
import { Random } from "../tests/cases/random.ts";

const HELP = `Usage: torture/interleaver.ts SEED FROM COUNT LANES FIRST_NUMBER FOLDER

What part "interleave" starts: runs COUNT random programs of SEED, LANES at a time, on devices from
FIRST_NUMBER on.

  -h, --help  this text`;
const { operands } = readOptions(HELP, {}, { least: 6, most: 6 });
const [seed, from, count, lanes, firstNumber] = operands.map(Number);
const folder = operands[5];
const IMAGES = 3;
const DEVICES = 2;

/** Longer than any program takes that does not hang. */
const HANG_MS = 30_000;

const [command, ...args] = onThisRuntime(join(ROOT, "torture/stranger.ts"));
const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
const waiting = new Map<string, (answer: { answer?: object; error?: string }) => void>();
const lines = createInterface({ input: child.stdout });
const ready = new Promise((resolve) => lines.once("line", resolve));
lines.on("line", (line) => {
  if (!line.startsWith("{")) return;
  const { id, ...answer } = JSON.parse(line);
  waiting.get(id)?.(answer);
  waiting.delete(id);
});

let requests = 0;
async function ask(request: string): Promise<object> {
  const id = String(requests++);
  const answered = new Promise<{ answer?: object; error?: string }>((resolve) =>
    waiting.set(id, resolve)
  );
  child.stdin.write(`${id} ${request}\n`);
  const { answer, error } = await answered;
  if (error !== undefined) throw new Unable(error);
  return answer!;
}

/** Small, and with partitions: 1 MiB with a boot record that has two entries. */
function makeImage(name: string): string {
  const path = join(folder, name);
  const sector = new Uint8Array(512);
  putEntries(sector, [256, 1024].map((start) => ({ type: 0x83, start, count: 512 })));
  writeFileSync(path, sector);
  truncateSync(path, 2 ** 20);
  return path;
}

const drawn = Object.entries(PROGRAMS).flatMap(([name, { weight }]) => Array(weight).fill(name));
const tally: Record<string, number> = {};
let next = from;
let unable = 0;

async function work(lane: number): Promise<void> {
  const images = (kind: string, n: number) =>
    Array.from({ length: n }, (_, i) => makeImage(`${kind}-${lane}-${i}.img`));
  const numbers = Array.from({ length: DEVICES }, (_, i) => firstNumber + DEVICES * lane + i);
  const files = images("own", IMAGES);
  const foreign = images("foreign", 2);
  while (next < from + count) {
    const index = next++;
    const random = new Random(seed, index);
    const name = random.pick(drawn);
    const log: string[] = [];
    const its: Lane = {
      ...{ random, files, foreign, numbers, ask },
      log: (text) => void log.push(text),
    };
    let timer;
    try {
      const hang = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error("hangs")), HANG_MS);
      });
      await Promise.race([PROGRAMS[name].program(its), hang]);
      tally[name] = (tally[name] ?? 0) + 1;
    } catch (error) {
      if (error instanceof Unable) unable++;
      else console.log(JSON.stringify({ index, name, violation: String(error), log }));
    } finally {
      clearTimeout(timer);
    }
  }
  for (const number of numbers) await ask(`remove ${number}`).catch(() => {});
}

// Whoever started this has gone.
process.stdin.on("end", () => process.exit(1)).resume();

await ready;
await Promise.all(Array.from({ length: lanes }, (_, lane) => work(lane)));
child.stdin.end();
console.log(JSON.stringify({ tally, unable }));
process.exit(0);
