/** Who is measured: each answers "STRATEGY CYCLES" with the nanoseconds of each cycle. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { NODE, onRuntime, ROOT } from "../tests/support/support.ts";

/** Does so many cycles of a strategy and gives the time of each in ns; none if it has no such strategy. */
export interface Contender {
  name: string;
  run(strategy: string, cycles: number): Promise<number[]>;
  /** Ends its process, after the cycles that it was asked for: one in the middle would leave a device. */
  stop(): Promise<void>;
}

export const RUNTIMES = ["Bun", "Deno", "Node"] as const;
export type RuntimeName = typeof RUNTIMES[number];

/** The command line that runs a script of ours. */
export function command(runtime: RuntimeName, script: string, ...args: string[]): string[] {
  const name = runtime.toLowerCase() as Lowercase<RuntimeName>;
  return onRuntime(name, join(ROOT, "bench", script), ...args);
}

/** Throws where it is not installed. */
export function versionOf(runtime: RuntimeName): string {
  const name = runtime.toLowerCase() as Lowercase<RuntimeName>;
  return /\d+\.\d+\.\d+/.exec(must(name === "node" ? NODE : name, ["--version"]))![0];
}

export function must(command: string, args: string[], input?: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { input, encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error ?? stderr}`);
  return stdout;
}

/** What a run does without, and what the machine lacks for it. */
export interface LeftOut {
  name: string;
  why: string;
}

/** All that this run left out. */
export const leftOut: LeftOut[] = [];

/** The page names it, once; here it is said on stderr. */
export function leaveOut(name: string, why: string): void {
  if (leftOut.some((each) => each.name === name)) return;
  leftOut.push({ name, why });
  console.error(`bench: without ${name}: ${why}`);
}

/** What this machine lacks for it is left out, by name. */
export function attempt<T>(name: string, make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    leaveOut(name, (error as Error).message.trim());
  }
}

export interface Program {
  name: string;
  command: string[];
  /** The strategies that it knows, by the names that it knows them by. */
  strategies: Record<string, string>;
}

export function program({ name, command: [file, ...args], strategies }: Program): Contender {
  const child: ChildProcess = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  return {
    name,
    async run(strategy, cycles) {
      const own = strategies[strategy];
      if (own === undefined) return [];
      const start = performance.now();
      child.stdin!.write(`${own} ${cycles}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error(`${name} ended`);
      // A shell has no clock: the mean, then.
      const mean = (performance.now() - start) * 1e6 / cycles;
      if (value === "done") return [mean];
      const times: number[] = value.trim().split(" ").map(Number);
      // What it had written when it died.
      if (times.length % cycles !== 0) throw new Error(`${name} ended in the middle`);
      return times;
    },
    stop() {
      child.stdin!.end();
      return closed;
    },
  };
}

const LOSETUP_LOOP = `while read -r scan cycles; do
  while [ "$cycles" -gt 0 ]; do
    device=$(losetup --find --show $scan "$0") && losetup --detach "$device" || exit
    cycles=$((cycles - 1))
  done
  echo done
done`;

export const STRATEGIES = [
  "none",
  "one-step",
  "two-step",
  "two-step, 4 partitions",
  "userspace",
] as const;

function all(strategies: readonly string[]): Record<string, string> {
  return Object.fromEntries(strategies.map((name) => [name, name]));
}

/**
 * What this machine has of them; what it lacks is said on stderr. `c`: the program of bench/cycle.c,
 * compiled if it is not there.
 */
export function contenders(
  { image, partitioned, c }: Record<"image" | "partitioned" | "c", string>,
): Contender[] {
  const found: Contender[] = [];
  const add = (name: string, make: () => Program[]) =>
    found.push(...attempt(name, () => make().map(program)) ?? []);
  add("C", () => {
    if (!existsSync(c)) must("cc", ["-O2", "-o", c, join(ROOT, "bench/cycle.c")]);
    const strategies = all(STRATEGIES.filter((name) => !name.includes("4 partitions")));
    return [
      { name: "C, bare", command: [c, "bare", image, partitioned], strategies },
      { name: "C, same calls", command: [c, "same", image, partitioned], strategies },
    ];
  });
  for (const runtime of RUNTIMES) {
    add(runtime, () => {
      versionOf(runtime);
      const script = command(runtime, "cycle.ts", image, partitioned);
      return [
        { name: `loopdev, ${runtime}`, command: script, strategies: all(STRATEGIES) },
        {
          name: `losetup ×2 from ${runtime}`,
          command: script,
          strategies: { "one-step": "losetup" },
        },
      ];
    });
  }
  add("losetup", () => {
    must("losetup", ["--version"]);
    return [{
      name: "losetup ×2 from sh",
      command: ["sh", "-c", LOSETUP_LOOP, image],
      strategies: { "none": "--nooverlap", "one-step": "--partscan" },
    }];
  });
  return found;
}
