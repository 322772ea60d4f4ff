/**
 * The compiled cli.ts beside the machine's losetup: whole processes, in turns, medians. Prints what
 * the aims are about as ratios of this run, and fails if one is missed.
 *
 * Starting a process costs the one who starts it, too, and that would stand on both sides and flatter
 * the slower one. So the figures are the CPU time of the program alone, as the kernel counts it, and
 * beside it the time until it has ended, whose first row is a program that does nothing at all.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { table } from "../dev/terminal.ts";
import { COMPILE } from "../dev/compile.ts";
import { numberOf, readOptions } from "../dev/options.ts";
import { onSignal, signalCode } from "../examples/program.ts";
import { O_RDWR, open } from "../lib/kernel/file.ts";
import { loopCtlAdd } from "../lib/kernel/loop.ts";
import { detachBelow, type OwnDevices, ownDevices } from "../tests/support/own_devices.ts";
import { must } from "./contenders.ts";
import { makeImage, makeImages, median } from "./measure.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const HELP = `Usage: bench/cli.ts [options]

Measures the compiled cli.ts beside losetup: what lists, attaching and detaching cost. Needs root, bun
and losetup. Touches no loop device but its own, and leaves none, not even when it is interrupted.
Exits with 1 if an aim is missed.

      --rounds N   turns of each call (21)
      --devices N  attached devices that are listed, at most 1023 (200)
      --unbound N  devices without a file that are listed, at most 1023 (640)
  -h, --help       this text`;

const { values } = readOptions(HELP, {
  rounds: { type: "string" },
  devices: { type: "string" },
  unbound: { type: "string" },
});
const rounds = numberOf("rounds", values.rounds, 21, 1);
const devices = numberOf("devices", values.devices, 200, 1);
const unbound = numberOf("unbound", values.unbound, 640, 1);

/** Aborted by the first signal: what runs is ended, and everything taken away. */
const stop = new AbortController();
onSignal((signal) => stop.abort(signal));

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

/** Its process group ends with us: a losetup that goes on would attach after everything is detached. */
async function bash(args: string[], env: Record<string, string>): Promise<string> {
  stop.signal.throwIfAborted();
  const child = spawn("bash", ["-c", LOOP, "bash", ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (data) => stdout += data);
  child.stderr.on("data", (data) => stderr += data);
  const end = () => child.pid !== undefined && process.kill(-child.pid, "SIGTERM");
  stop.signal.addEventListener("abort", end);
  const status = await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  stop.signal.removeEventListener("abort", end);
  stop.signal.throwIfAborted();
  if (status !== 0) throw new Error(`${args.join(" ")} failed: ${stderr}`);
  return stdout;
}

async function run(command: string[], lines: string[]): Promise<Cost & { said: string }> {
  const OUT = join(folder, "said");
  writeFileSync(OUT, "");
  const stdout = await bash(command, { LC_ALL: "C", LINES: lines.join("\n"), OUT });
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
async function measureLists(measured: Measured, calls: Record<string, string[]>): Promise<void> {
  for (let round = -1; round < rounds; round++) {
    for (const [name, args] of Object.entries(calls)) {
      for (const [tool, program] of Object.entries(TOOLS)) {
        const cost = await run([program, ...args], BLANK);
        // The first round fills the caches.
        if (round >= 0) add(measured, `${tool} ${name}`, cost);
      }
    }
  }
}

/** Attaching RUNS times, and detaching what was attached. */
async function measureChanges(measured: Measured, partitioned: string): Promise<void> {
  for (let round = -1; round < rounds; round++) {
    for (const [tool, program] of Object.entries(TOOLS)) {
      for (const [name, file] of [["-f FILE", image], ["-fP FILE", partitioned]]) {
        const attached = await run([program, name.split(" ")[0], "--show", file], BLANK);
        const detached = await run([program, "-d"], attached.said.trim().split("\n"));
        if (round < 0) continue;
        add(measured, `${tool} ${name}`, attached);
        if (name === "-f FILE") add(measured, `${tool} -d`, detached);
      }
    }
  }
}

async function measureEmpty(measured: Measured): Promise<void> {
  for (let round = -1; round < rounds; round++) {
    for (const [name, program] of [["true", "/bin/true"], ["empty", empty]]) {
      const cost = await run([program], BLANK);
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

/** Takes numbers that nobody else is offered. */
function take(count: number): OwnDevices {
  own.push(ownDevices(count));
  return own.at(-1)!;
}

async function measureAll(): Promise<void> {
  must("bun", ["build", ...COMPILE, join(ROOT, "cli.ts"), "--outfile", ours]);
  writeFileSync(join(folder, "empty.ts"), "");
  must("bun", ["build", ...COMPILE, join(folder, "empty.ts"), "--outfile", empty]);
  const measured: Measured = new Map();
  await measureEmpty(measured);
  await measureChanges(measured, makeImages(folder).partitioned);

  const free = take(unbound);
  {
    using control = open("/dev/loop-control", O_RDWR);
    for (const number of free.numbers) loopCtlAdd(control, number);
  }
  const beside = `-l beside ${unbound} unbound`;
  await measureLists(measured, { [beside]: ["-l"] });
  await own.pop()![Symbol.asyncDispose]();

  await run(["losetup"], take(devices).paths.map((device) => `${device} ${image}`));
  const calls = { "--version": ["--version"], "-f": ["-f"], "-l": ["-l"], "-a": ["-a"] };
  await measureLists(measured, { ...calls, "-j": ["-j", other] });

  print(measured, [...Object.keys(calls), "-j", beside, "-f FILE", "-fP FILE", "-d"]);
  for (const name of ["-l", "-a", "-j", beside]) {
    console.log(`${name} above start-up: ${aboveStart(measured, name).toFixed(1)} ×`);
  }
  judge(measured, beside);
}

function judge(measured: Measured, beside: string): void {
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
}

try {
  await measureAll();
} catch (error) {
  if (!stop.signal.aborted) throw error;
  process.exitCode = signalCode(stop.signal.reason);
} finally {
  detachBelow(folder);
  for (const devices of own) await devices[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
}
