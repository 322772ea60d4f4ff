/**
 * Part "interleave": random programs over several handles and mounts, whose calls are not awaited, raced with
 * timers, aborted, and whose process is killed, while a stranger acts on the same files, devices and
 * directories. A state machine of what loopdev promises (model.ts) judges the answers and what the kernel
 * shows then. A program that fails is run again and again with fewer calls, and printed as a test.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { progress, say } from "../dev/terminal.ts";
import { scratch } from "../tests/support/support.ts";
import type { Part, Request, Row } from "./common.ts";
import { makePristine } from "./images.ts";
import {
  Interleaver,
  ofProcess,
  reduce,
  type Violation,
  type Where,
} from "./interleave_process.ts";
import { printProgram } from "./print_program.ts";
import { describe, type Program } from "./programs.ts";
import type { RuntimeName } from "./scenarios.ts";

const SEED = 1;
/** A process does not run for hours: what leaks in it would drown in the next one. */
const PER_PROCESS = 5000;
/** Failures that are made shorter and printed; of the others only what they violate is said. */
const MOST_SHOWN = 3;

/** Where failures are kept, for whoever looks at them later. */
export const KEPT: string = join(tmpdir(), "loopdev-interleave");

let pristine: string | undefined;

/** What the lanes' images are copies of, made once. */
export function pristineImages(): string {
  if (pristine === undefined) {
    pristine = scratch("interleave-pristine");
    makePristine(pristine);
  }
  return pristine;
}

/** Makes a failure shorter, keeps it, and says so. Gives the program. */
export async function present(where: Where, violation: Violation): Promise<Program> {
  const { index, kind } = violation.program;
  const name = `${where.runtime} program ${index} (${kind})`;
  const reduced = violation.program.steps.length === 0
    ? undefined
    : await reduce(where, violation, (text) => progress(`interleave: ${name}: ${text}`));
  const failure = reduced?.failure ?? violation;
  mkdirSync(KEPT, { recursive: true });
  const kept = join(KEPT, `${where.runtime}-${failure.program.seed}-${index}`);
  writeFileSync(`${kept}.json`, JSON.stringify(failure.program) + "\n");
  writeFileSync(`${kept}.test.ts`, printProgram(failure, where.runtime));
  const calls = failure.program.steps.map(describe);
  say(
    `VIOLATION interleave: ${name}: ${failure.violation}\n  ${calls.join("; ")}\n  ` +
      (reduced ? "" : "it did not fail again; ") +
      `again: deno task torture --part interleave --runtime ${where.runtime} ` +
      `--program ${kept}.json, or as a test: ${kept}.test.ts`,
  );
  return failure.program;
}

async function runAll(runtime: RuntimeName, count: number, request: Request): Promise<Row> {
  const violations: Violation[] = [];
  const tally = new Map<string, number>();
  const { only, seed = SEED } = request;
  for (let from = 0; from < count; from += PER_PROCESS) {
    const folder = scratch(`interleave-${runtime}-${from}`);
    const where = { runtime, folder, pristine: pristineImages() };
    const interleaver = new Interleaver(where);
    const part = { seed, from, count: Math.min(PER_PROCESS, count - from), only: only?.source };
    const outcome = await interleaver.request(part, (done) => {
      progress(`interleave: ${runtime}: ${from + done} of ${count} programs`);
    });
    for (const [kind, n] of Object.entries(outcome.tally)) {
      tally.set(kind, (tally.get(kind) ?? 0) + n);
    }
    violations.push(...outcome.violations);
    for (const link of outcome.open.filter((link) => /dev\/\.?loop|\.img/.test(link))) {
      violations.push(ofProcess(`${link} is open`));
    }
    for (const left of await interleaver.end()) violations.push(ofProcess(`${left} is left`));
    // Whatever is wrong, the same again in the next process would say no more.
    if (violations.length >= MOST_SHOWN) break;
  }
  for (const violation of violations.slice(0, MOST_SHOWN)) {
    const folder = scratch(`interleave-${runtime}-again`);
    await present({ runtime, folder, pristine: pristineImages() }, violation);
  }
  return verdict(runtime, violations, tally);
}

function verdict(name: string, violations: readonly Violation[], tally: Map<string, number>): Row {
  const done = [...tally.values()].reduce((sum, n) => sum + n, 0);
  const kinds = [...tally].sort().map(([kind, n]) => `${kind} ${n}`).join(", ");
  const detail = `${done} programs (${kinds}), ${violations.length} violations` +
    violations.slice(0, MOST_SHOWN).map(({ violation }) => ` | ${violation}`).join("");
  say(`interleave: ${name}: ${detail}`);
  const bad = violations.length > 0 || done === 0;
  return { part: "interleave", name, outcome: bad ? "fail" : "pass", detail };
}

/** One program, as often as a race needs. */
async function runProgram(runtime: RuntimeName, file: string, times: number): Promise<Row> {
  const program = JSON.parse(readFileSync(file, "utf8"));
  const folder = scratch(`interleave-${runtime}-program`);
  const interleaver = new Interleaver({ runtime, folder, pristine: pristineImages() });
  const { violations, tally } = await interleaver.request({ program, times });
  await interleaver.end();
  for (const { violation } of violations.slice(0, 1)) say(`VIOLATION interleave: ${violation}`);
  return verdict(runtime, violations, new Map(Object.entries(tally)));
}

/** So often `--program` runs it, times `--scale`. */
const TIMES = 100;

export const interleave: Part = async (request) => {
  const { full, scale, runtimes, program } = request;
  const count = Math.ceil((full ? 100_000 : 800) * scale);
  const rows: Row[] = [];
  for (const runtime of runtimes) {
    rows.push(
      program === undefined
        ? await runAll(runtime, count, request)
        : await runProgram(runtime, program, Math.ceil(TIMES * scale)),
    );
  }
  return rows;
};
