/**
 * Part "interleave": random programs over several handles, whose calls are not awaited, raced with
 * timers, aborted, and whose blocks end in their midst, while a stranger acts on the same files and
 * devices. Afterwards every device that the program did not bind is as it was, and each of its own is
 * in a state that the answers explain.
 */
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { progress, say } from "../dev/terminal.ts";
import { onRuntime, ROOT, scratch } from "../tests/support/support.ts";
import { devicesOf, openFiles, type Part, type Row, within } from "./common.ts";
import { detachBelow } from "../tests/support/own_devices.ts";
import type { RuntimeName } from "./scenarios.ts";

const SEED = 1;
/** Programs that run at the same time in one process. */
const LANES = 12;
/** A process does not run for hours: what leaks in it would drown in the next one. */
const PER_PROCESS = 5000;
/** Devices of strangers have numbers that nobody else uses, a range for each runtime. */
const FIRST_NUMBER: Record<RuntimeName, number> = {
  bun: 61_000,
  deno: 62_000,
  node: 63_000,
};
/** Violations of a kind. */
const MOST_SHOWN = 3;
/** Programs that say nothing, since somebody took their device: few. */
const MOST_UNABLE = 0.1;

interface Violation {
  readonly index: number;
  readonly name: string;
  readonly violation: string;
  readonly log: readonly string[];
}

interface Outcome {
  readonly violations: readonly Violation[];
  readonly tally: Record<string, number>;
  readonly unable: number;
  readonly descriptors: readonly string[];
}

async function runProcess(runtime: RuntimeName, from: number, count: number): Promise<Outcome> {
  const folder = scratch(`interleave-${runtime}-${from}`);
  mkdirSync(folder);
  const args = [SEED, from, count, LANES, FIRST_NUMBER[runtime]].map(String);
  const script = join(ROOT, "torture/interleaver.ts");
  const [command, ...rest] = onRuntime(runtime, script, ...args, folder);
  const child = spawn(command, rest, { stdio: "pipe" });
  let said = "";
  let warned = "";
  let descriptors: string[] = [];
  child.stdout.on("data", (data) => {
    said += data;
    // The last line: all programs have ended, the process is about to.
    if (String(data).includes('"tally"')) descriptors = openFiles(child.pid!);
  });
  child.stderr.on("data", (data) => warned = (warned + data).slice(-2000));
  const code = await new Promise((resolve) => child.on("close", resolve));
  const lines = said.trim().split("\n").filter((line) => line.startsWith("{"));
  const answers = lines.map((line) => JSON.parse(line));
  const end = answers.find(({ tally }) => tally);
  const violations: Violation[] = answers.filter(({ violation }) => violation);
  if (!end) {
    const violation = `the process ended with ${code}: ${warned.trim().split("\n").at(-1)}`;
    violations.push({ index: from, name: "process", violation, log: [] });
  }
  await within(2000, () => devicesBelow(folder) === 0);
  const left = devicesBelow(folder);
  if (left > 0 && violations.length === 0) {
    const violation = `${left} devices are left`;
    violations.push({ index: from, name: "process", violation, log: [] });
  }
  detachBelow(folder);
  const { tally = {}, unable = 0 } = end ?? {};
  return { violations, tally, unable, descriptors };
}

function devicesBelow(folder: string): number {
  return ["own", "foreign"].flatMap((kind) =>
    Array.from({ length: LANES }, (_, lane) => [0, 1, 2].map((i) => `${kind}-${lane}-${i}.img`))
      .flat()
  ).flatMap((name) => devicesOf(join(folder, name))).length;
}

async function runAll(runtime: RuntimeName, count: number): Promise<Row> {
  const violations: Violation[] = [];
  const tally = new Map<string, number>();
  let unable = 0;
  for (let from = 0; from < count; from += PER_PROCESS) {
    progress(`interleave: ${runtime} ${from}/${count}`);
    const outcome = await runProcess(runtime, from, Math.min(PER_PROCESS, count - from));
    violations.push(...outcome.violations);
    unable += outcome.unable;
    for (const [name, n] of Object.entries(outcome.tally)) {
      tally.set(name, (tally.get(name) ?? 0) + n);
    }
    for (const link of outcome.descriptors.filter((link) => /loop|\.img/.test(link))) {
      violations.push({ index: from, name: "process", violation: `${link} is open`, log: [] });
    }
  }
  const byKind = new Map<string, number>();
  for (const { index, name, violation, log } of violations) {
    const nth = (byKind.get(name) ?? 0) + 1;
    byKind.set(name, nth);
    if (nth > MOST_SHOWN) continue;
    say(
      `VIOLATION interleave: ${runtime} program ${index} (${name}): ${violation}\n  ` +
        `${
          log.slice(-12).join("; ")
        }\n  again: deno task torture --part interleave --runtime ${runtime}`,
    );
  }
  const done = [...tally.values()].reduce((sum, n) => sum + n, 0);
  const bad = violations.length > 0 || unable > MOST_UNABLE * count || done === 0;
  const kinds = [...tally].sort().map(([name, n]) => `${name} ${n}`).join(", ");
  const detail = `${done} programs (${kinds}), ${unable} without a device, ` +
    `${violations.length} violations` +
    [...byKind].map(([name, n]) => `, ${n} in ${name}`).join("");
  say(`interleave: ${runtime}: ${detail}`);
  return { part: "interleave", name: runtime, outcome: bad ? "fail" : "pass", detail };
}

export const interleave: Part = async ({ full, scale, runtimes }) => {
  const count = Math.ceil((full ? 100_000 : 2000) * scale);
  const rows: Row[] = [];
  for (const runtime of runtimes) rows.push(await runAll(runtime, count));
  return rows;
};
