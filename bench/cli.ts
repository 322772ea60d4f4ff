/**
 * The compiled cli.ts beside the machine's losetup: whole processes, in turns, medians. Prints what
 * the aims are about as ratios of this run, and fails if one is missed.
 *
 * Starting a process costs the one who starts it, too, and that would stand on both sides and flatter
 * the slower one. So the figures are the CPU time of the program alone, as the kernel counts it, and
 * beside it the time until it has ended, whose first row is a program that does nothing at all.
 *
 *     deno task bench:cli [--rounds 21] [--devices 200] [--unbound 640]
 */
import { parseArgs } from "@std/cli/parse-args";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { table } from "../dev/terminal.ts";
import { COMPILE } from "../dev/compile.ts";
import { O_RDWR, open } from "../lib/kernel/file.ts";
import { loopCtlAdd } from "../lib/kernel/loop.ts";
import { type OwnDevices, ownDevices } from "../tests/support/own_devices.ts";
import { must } from "./contenders.ts";
import { makeImage, makeImages, median } from "./measure.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const { rounds, devices, unbound } = parseArgs(process.argv.slice(2), {
  string: ["rounds", "devices", "unbound"],
  default: { rounds: "21", devices: "200", unbound: "640" },
});
/** Runs of a turn: one alone would be too short to be told from the shell's own work. */
const RUNS = 5;

const folder = mkdtempSync(join(tmpdir(), "loopdev-bench-"));
const [ours, empty] = [join(folder, "losetup"), join(folder, "empty")];
const image = makeImage(folder, "many.img", 1);
const other = makeImage(folder, "other.img", 1);

/** ms of one run: of the program itself, and until it has ended. */
interface Cost {
  readonly cpu: number;
  readonly wall: number;
}

/** Bash runs the command once for each line of $LINES, with its words at the end; in $OUT what it says. */
const LOOP = `begin=$EPOCHREALTIME
while read -r -a words; do "$@" "\${words[@]}" >> "$OUT" || exit; done <<< "$LINES"
echo "$begin $EPOCHREALTIME"; times`;

function run(command: string[], lines: string[]): Cost & { said: string } {
  const OUT = join(folder, "said");
  writeFileSync(OUT, "");
  const { status, stdout, stderr } = spawnSync("bash", ["-c", LOOP, "bash", ...command], {
    encoding: "utf8",
    env: { ...process.env, LC_ALL: "C", LINES: lines.join("\n"), OUT },
  });
  if (status !== 0) throw new Error(`${command.join(" ")} failed: ${stderr}`);
  const [clock, , children] = stdout.split("\n");
  const [begin, end] = clock.split(" ").map(Number);
  // "0m0.012s 0m0.034s": in user mode, and in the kernel.
  const seconds = [...children.matchAll(/(\d+)m([\d.]+)s/g)]
    .reduce((sum, [, minutes, rest]) => sum + Number(minutes) * 60 + Number(rest), 0);
  return {
    cpu: seconds * 1000 / lines.length,
    wall: (end - begin) * 1000 / lines.length,
    said: readFileSync(OUT, "utf8"),
  };
}

type Measured = Map<string, Cost[]>;

function add(measured: Measured, name: string, cost: Cost): void {
  measured.set(name, [...measured.get(name) ?? [], cost]);
}

const BLANK: string[] = Array(RUNS).fill("");
const TOOLS = { losetup: "losetup", ours };

/** What only asks, with what it is called. */
function measureLists(measured: Measured, calls: Record<string, string[]>): void {
  for (let round = -1; round < Number(rounds); round++) {
    for (const [name, args] of Object.entries(calls)) {
      for (const [tool, program] of Object.entries(TOOLS)) {
        const cost = run([program, ...args], BLANK);
        // The first round fills the caches.
        if (round >= 0) add(measured, `${tool} ${name}`, cost);
      }
    }
  }
}

/** Attaching RUNS times, and detaching what was attached. */
function measureChanges(measured: Measured, partitioned: string): void {
  for (let round = -1; round < Number(rounds); round++) {
    for (const [tool, program] of Object.entries(TOOLS)) {
      for (const [name, file] of [["-f FILE", image], ["-fP FILE", partitioned]]) {
        const attached = run([program, name.split(" ")[0], "--show", file], BLANK);
        const detached = run([program, "-d"], attached.said.trim().split("\n"));
        if (round < 0) continue;
        add(measured, `${tool} ${name}`, attached);
        if (name === "-f FILE") add(measured, `${tool} -d`, detached);
      }
    }
  }
}

function measureEmpty(measured: Measured): void {
  for (let round = -1; round < Number(rounds); round++) {
    for (const [name, program] of [["true", "/bin/true"], ["empty", empty]]) {
      const cost = run([program], BLANK);
      if (round >= 0) add(measured, name, cost);
    }
  }
}

/** The middle one of all that was measured under that name. */
function middle(measured: Measured, name: string, what: keyof Cost): number {
  return median(measured.get(name)!.map((cost) => cost[what]));
}

function print(measured: Measured, calls: readonly string[]): void {
  const ms = (name: string, what: keyof Cost) => middle(measured, name, what).toFixed(1);
  const both = (name: string, what: keyof Cost) => {
    const [theirs, mine] = ["losetup", "ours"].map((tool) =>
      middle(measured, `${tool} ${name}`, what)
    );
    return [theirs.toFixed(1), mine.toFixed(1), (mine / theirs).toFixed(1)];
  };
  console.log(table([
    ["call", "losetup, CPU ms", "ours", "×", "losetup, until the end", "ours", "×"],
    ["true(1)", ms("true", "cpu"), "", "", ms("true", "wall"), "", ""],
    ["an empty program, compiled", "", ms("empty", "cpu"), "", "", ms("empty", "wall"), ""],
    ...calls.map((name) => [name, ...both(name, "cpu"), ...both(name, "wall")]),
  ]));
}

/** What a list costs above starting the program. */
function aboveStart(measured: Measured, name: string): number {
  const [theirs, mine] = ["losetup", "ours"].map((tool) =>
    middle(measured, `${tool} ${name}`, "cpu") - middle(measured, `${tool} --version`, "cpu")
  );
  return mine / theirs;
}

const own: OwnDevices[] = [];
const bound: string[] = [];
try {
  must("bun", ["build", ...COMPILE, join(ROOT, "cli.ts"), "--outfile", ours]);
  writeFileSync(join(folder, "empty.ts"), "");
  must("bun", ["build", ...COMPILE, join(folder, "empty.ts"), "--outfile", empty]);
  const measured: Measured = new Map();
  measureEmpty(measured);
  measureChanges(measured, makeImages(folder).partitioned);

  const free = ownDevices(Number(unbound));
  own.push(free);
  {
    using control = open("/dev/loop-control", O_RDWR);
    for (const number of free.numbers) loopCtlAdd(control, number);
  }
  const beside = `-l beside ${unbound} unbound`;
  measureLists(measured, { [beside]: ["-l"] });
  await own.pop()![Symbol.asyncDispose]();

  own.push(ownDevices(Number(devices)));
  for (const device of own[0].paths) {
    must("losetup", [device, image]);
    bound.push(device);
  }
  const calls = { "--version": ["--version"], "-f": ["-f"], "-l": ["-l"], "-a": ["-a"] };
  measureLists(measured, { ...calls, "-j": ["-j", other] });

  print(measured, [...Object.keys(calls), "-j", beside, "-f FILE", "-fP FILE", "-d"]);
  for (const name of ["-l", "-a", "-j", beside]) {
    console.log(`${name} above start-up: ${aboveStart(measured, name).toFixed(1)} ×`);
  }
  const start = ["ours", "losetup"].map((tool) => middle(measured, `${tool} -f`, "wall"));
  const aims: [what: string, ratio: number, most: number][] = [
    ["-f until its end, beside losetup", start[0] / start[1], 10],
    [`-l with ${devices} devices, above start-up`, aboveStart(measured, "-l"), 2],
    [`${beside}, above start-up`, aboveStart(measured, beside), 2],
  ];
  for (const [what, ratio, most] of aims) {
    const verdict = ratio <= most ? "holds" : "missed";
    console.log(`${what}: ${ratio.toFixed(2)} × (at most ${most}: ${verdict})`);
    if (ratio > most) process.exitCode = 1;
  }
} finally {
  for (const device of bound) spawnSync("losetup", ["-d", device]);
  for (const devices of own) await devices[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
}
