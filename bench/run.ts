/**
 * Attach + detach beside each other, in one run: a C program with the same system calls, loopdev on
 * Bun and on Deno, and losetup spawned twice. Contenders take turns, so that all meet the same weather.
 *
 *     deno task bench --rounds 20
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { parseArgs } from "@std/cli/parse-args";

const HELP = `Usage: run.ts [--rounds N] [--json FILE]

Measures attach + detach with each strategy; medians in µs, and ratios to the C program. Needs root,
cc, bun, deno, losetup and sfdisk; says so and goes on where one is missing.

  --rounds N   turns of each contender (20), 10 cycles each
  --json FILE  writes all times`;

const CYCLES = 10;
const STRATEGIES = ["none", "one-step", "two-step", "userspace"] as const;
type Strategy = typeof STRATEGIES[number];

const { rounds, json, help } = parseArgs(process.argv.slice(2), {
  string: ["rounds", "json"],
  boolean: ["help"],
  default: { rounds: "20" },
});
if (help) {
  console.log(HELP);
  process.exit(0);
}

const ROOT = new URL("..", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "loopdev-bench-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const image = join(folder, "plain.img");
const partitioned = join(folder, "partitioned.img");

function must(command: string, args: string[], input?: string): void {
  const { status, stderr, error } = spawnSync(command, args, { input, encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error ?? stderr}`);
}

/** Does so many cycles of a strategy and gives the time of each in ns. */
interface Contender {
  name: string;
  run(strategy: Strategy, cycles: number): Promise<number[]> | number[];
  stop(): void;
}

/** A program that answers "STRATEGY CYCLES" with a line of times. */
function program(name: string, command: string, args: string[]): Contender {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    name,
    async run(strategy, cycles) {
      child.stdin.write(`${strategy} ${cycles}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error(`${name} ended`);
      return value.trim().split(" ").map(Number);
    },
    stop: () => void child.kill(),
  };
}

/** What everybody does today: two processes a cycle. losetup has no two steps, and adds nothing itself. */
const losetup: Contender = {
  name: "losetup ×2",
  run(strategy, cycles) {
    if (strategy === "two-step" || strategy === "userspace") return [];
    const scan = strategy === "one-step" ? ["--partscan"] : [];
    return Array.from({ length: Math.ceil(cycles / 5) }, () => {
      const start = performance.now();
      const { stdout } = spawnSync("losetup", ["--find", "--show", ...scan, image], {
        encoding: "utf8",
      });
      must("losetup", ["--detach", stdout.trim()]);
      return (performance.now() - start) * 1e6;
    });
  },
  stop() {},
};

function contenders(): Contender[] {
  const script = join(ROOT, "bench/cycle.ts");
  const all: Contender[] = [];
  const attempt = (name: string, make: () => Contender) => {
    try {
      all.push(make());
    } catch (error) {
      console.error(`bench: without ${name}: ${(error as Error).message}`);
    }
  };
  attempt("C", () => {
    must("cc", ["-O2", "-o", join(folder, "cycle"), join(ROOT, "bench/cycle.c")]);
    return program("C", join(folder, "cycle"), [image, partitioned]);
  });
  attempt("Bun", () => {
    must("bun", ["--version"]);
    return program("loopdev, Bun", "bun", ["run", script, image, partitioned]);
  });
  attempt("Deno", () => {
    must("deno", ["--version"]);
    const args = ["run", "--quiet", "--allow-ffi", script, image, partitioned];
    return program("loopdev, Deno", "deno", args);
  });
  attempt("losetup", () => {
    must("losetup", ["--version"]);
    return losetup;
  });
  return all;
}

function median(times: number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)];
}

writeFileSync(image, new Uint8Array(8 * 1024 * 1024));
writeFileSync(partitioned, new Uint8Array(8 * 1024 * 1024));
must(
  "sfdisk",
  ["--quiet", partitioned],
  "label: dos\n" + [1, 2, 3, 4].map((n) => `${n}: start=${n * 2048}, size=2048\n`).join(""),
);

const all = contenders();
const times = new Map<string, number[]>();
const key = (strategy: Strategy, { name }: Contender) => `${strategy}\t${name}`;
try {
  for (let round = 0; round <= Number(rounds); round++) {
    for (const strategy of STRATEGIES) {
      for (const contender of all) {
        const measured = await contender.run(strategy, CYCLES);
        // The first round warms up.
        if (round > 0) {
          times.set(key(strategy, contender), [
            ...times.get(key(strategy, contender)) ?? [],
            ...measured,
          ]);
        }
      }
    }
    if (process.stderr.isTTY) process.stderr.write(`\rround ${round} of ${rounds}\x1b[K`);
  }
} finally {
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  for (const contender of all) contender.stop();
}

console.log(`Linux ${release()}, ${cpus()[0].model}, ${cpus().length} processors\n`);
console.log("strategy   contender          median µs   × C");
for (const strategy of STRATEGIES) {
  const yardstick = median(times.get(`${strategy}\tC`) ?? [NaN]);
  for (const contender of all) {
    const measured = times.get(key(strategy, contender)) ?? [];
    if (measured.length === 0) continue;
    const middle = median(measured);
    const columns = [
      strategy.padEnd(10),
      contender.name.padEnd(16),
      (middle / 1000).toFixed(0).padStart(11),
      Number.isNaN(yardstick) ? "" : (middle / yardstick).toFixed(2).padStart(5),
    ];
    console.log(columns.join(" "));
  }
}
if (json !== undefined) {
  const result = {
    date: new Date().toISOString(),
    kernel: release(),
    cpu: cpus()[0].model,
    cycles: CYCLES,
  };
  writeFileSync(
    json,
    JSON.stringify({ ...result, nanoseconds: Object.fromEntries(times) }, null, 2) + "\n",
  );
}
process.exit(0);
