/** The cycles of all contenders, interleaved. */
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Contender, must, STRATEGIES } from "./contenders.ts";

/** Cycles of a turn: enough of them that the caches are its own. */
const CYCLES = 40;
/** Those that wait for the kernel, or for processes to start. */
const SLOW_CYCLES = 5;
/** Before the first turn: a runtime compiles what it runs often, and better what it runs very often. */
const WARM_UP = 2000;
const SLOW_WARM_UP = 5;

/** ns of each cycle, by strategy and contender. */
export type Cycles = Record<string, Record<string, number[]>>;

/** A sparse file of so many MiB. */
export function makeImage(folder: string, name: string, mib: number): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  truncateSync(path, mib * 1024 * 1024);
  return path;
}

/** One image without a table, and one with four partitions. */
export function makeImages(folder: string): { image: string; partitioned: string } {
  const partitioned = makeImage(folder, "partitioned.img", 8);
  const table = [1, 2, 3, 4].map((n) => `${n}: start=${n * 2048}, size=2048\n`).join("");
  const quietly = ["--quiet", "--no-reread", "--no-tell-kernel"];
  must("sfdisk", [...quietly, partitioned], `label: dos\n${table}`);
  return { image: makeImage(folder, "plain.img", 8), partitioned };
}

/** Contenders take turns, so that all meet the same weather. */
export async function measureCycles(
  all: readonly Contender[],
  rounds: number,
  onProgress: (round: number) => void,
  warmUp = WARM_UP,
): Promise<Cycles> {
  const cycles: Cycles = {};
  const turns = STRATEGIES.flatMap((strategy) =>
    all.map((contender) => {
      const slow = contender.name.startsWith("losetup") || strategy.startsWith("two-step");
      return { strategy, contender, slow };
    })
  );
  for (const { strategy, contender, slow } of turns) {
    await contender.run(strategy, slow ? SLOW_WARM_UP : warmUp);
  }
  for (let round = 1; round <= rounds; round++) {
    for (const { strategy, contender, slow } of turns) {
      const measured = await contender.run(strategy, slow ? SLOW_CYCLES : CYCLES);
      if (measured.length === 0) continue;
      ((cycles[strategy] ??= {})[contender.name] ??= []).push(...measured);
    }
    onProgress(round);
  }
  return cycles;
}

export function median(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)];
}
