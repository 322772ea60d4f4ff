/**
 * The compiled cli.ts beside the machine's losetup: whole processes, in turns, medians. Prints what
 * the targets are about as ratios of this run, and fails if one is missed.
 *
 *     deno task bench:cli [--rounds 21] [--devices 200]
 */
import { parseArgs } from "@std/cli/parse-args";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { table } from "../dev/terminal.ts";
import { must } from "./contenders.ts";
import { makeImage, median } from "./measure.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const { rounds, devices } = parseArgs(process.argv.slice(2), {
  string: ["rounds", "devices"],
  default: { rounds: "21", devices: "200" },
});

const folder = mkdtempSync(join(tmpdir(), "loopdev-bench-"));
const [ours, empty] = [join(folder, "losetup"), join(folder, "empty")];
const image = makeImage(folder, "many.img", 1);
const other = makeImage(folder, "other.img", 1);
const bound: string[] = [];
/** Far from the devices that others are given. */
const FIRST = 30_000;

/** As the README compiles it. */
function compile(source: string, program: string): void {
  const shut = ["--no-compile-autoload-bunfig", "--no-compile-autoload-dotenv"];
  must("bun", ["build", "--compile", ...shut, source, "--outfile", program]);
}

function run(command: string[]): number {
  const [name, ...args] = command;
  const start = performance.now();
  const { status, stderr } = spawnSync(name, args, { stdio: ["ignore", "ignore", "pipe"] });
  const took = performance.now() - start;
  if (status !== 0) throw new Error(`${command.join(" ")} failed: ${stderr}`);
  return took;
}

/** What is compared, and which options of losetup it is. */
const CALLS: Record<string, string[]> = {
  "--version": ["--version"],
  "-f": ["-f"],
  "-l": ["-l"],
  "-a": ["-a"],
  "-j": ["-j", other],
};

function measure(): (name: string) => number {
  const times = new Map<string, number[]>();
  const commands = Object.entries(CALLS).flatMap(([name, args]): [string, string[]][] => [
    [`losetup ${name}`, ["losetup", ...args]],
    [`ours ${name}`, [ours, ...args]],
  ]);
  commands.push(["empty", [empty]]);
  for (let round = -1; round < Number(rounds); round++) {
    for (const [name, command] of commands) {
      const took = run(command);
      // The first round fills the caches.
      if (round >= 0) times.set(name, [...times.get(name) ?? [], took]);
    }
  }
  return (name) => median(times.get(name)!);
}

try {
  compile(join(ROOT, "cli.ts"), ours);
  writeFileSync(join(folder, "empty.ts"), "");
  compile(join(folder, "empty.ts"), empty);
  for (let i = 0; i < Number(devices); i++) {
    const device = `/dev/loop${FIRST + i}`;
    must("losetup", [device, image]);
    bound.push(device);
  }
  const ms = measure();
  const added = (tool: string, name: string) => ms(`${tool} ${name}`) - ms(`${tool} --version`);
  const rows = Object.keys(CALLS).map((name) => {
    const [theirs, mine] = [ms(`losetup ${name}`), ms(`ours ${name}`)];
    return [name, theirs.toFixed(1), mine.toFixed(1), (mine / theirs).toFixed(1)];
  });
  console.log(table([["call", "losetup ms", "ours ms", "×"], ...rows]));
  const floor = ms("empty") / ms("losetup -f");
  for (const name of ["-l", "-a", "-j"]) {
    const ratio = added("ours", name) / added("losetup", name);
    console.log(`${name} above start-up: ${ratio.toFixed(1)} ×`);
  }
  console.log(`an empty compiled program: ${ms("empty").toFixed(1)} ms, ${floor.toFixed(1)} ×\n`);
  const targets: [what: string, ratio: number, most: number][] = [
    ["-f, beside losetup", ms("ours -f") / ms("losetup -f"), 10],
    [`-l with ${devices} devices, above start-up`, added("ours", "-l") / added("losetup", "-l"), 2],
  ];
  for (const [what, ratio, most] of targets) {
    const verdict = ratio <= most ? "holds" : "missed";
    console.log(`${what}: ${ratio.toFixed(2)} × (at most ${most}: ${verdict})`);
    if (ratio > most) process.exitCode = 1;
  }
} finally {
  for (const device of bound) spawnSync("losetup", ["-d", device]);
  if (bound.length > 0) spawnSync(ours, ["--remove", ...bound]);
  rmSync(folder, { recursive: true });
}
