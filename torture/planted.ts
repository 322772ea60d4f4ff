/**
 * Plants bugs that loopdev once had into copies of the tree, and shows that part "interleave" finds each, and
 * how few calls of the program that found it are left when it has been made shorter.
 *
 *     deno task torture --part planted
 */
import { copyTree } from "../dev/copy_tree.ts";
import { numberOf, readOptions } from "../dev/options.ts";
import { progress, say, table } from "../dev/terminal.ts";
import { scratch } from "../tests/support/support.ts";
import { endWithVerdicts } from "./cleanup.ts";
import type { Row } from "./common.ts";
import { present, pristineImages } from "./interleave.ts";
import { Interleaver, type Where } from "./interleave_process.ts";
import { describe, type Program } from "./programs.ts";
import { PLANTED, type PlantedBug } from "./planted_bugs.ts";
import { replaceOnce } from "./replace.ts";

const HELP = `Usage: torture/planted.ts [options]

Plants bugs in copies of the tree, one after the other, and has part "interleave" find them and make the
programs that found them shorter. Exits with 1 if one is not found, needs more than six calls, or if the
program fails without the bug, too.

      --some N        only the N that are found fastest
      --only PATTERN  only those whose names match
      --seed N        of the random programs (1)
      --json FILE     writes the verdicts
  -h, --help          this text`;

const { values } = readOptions(HELP, {
  some: { type: "string" },
  only: { type: "string" },
  seed: { type: "string" },
  json: { type: "string" },
});

/** More calls than that say little. */
const MOST_CALLS = 6;
/** Programs until a bug counts as not found. */
const MOST_PROGRAMS = 5000;
/** So often the shortest program runs without the bug. */
const TIMES = 48;

interface Found {
  readonly bug: string;
  readonly programs: number;
  readonly before: number;
  readonly calls: readonly string[];
  readonly seconds: number;
  /** What the same program violates without the bug. */
  readonly otherwise: string | undefined;
}

/** Runs programs until one fails, and makes that shorter. */
async function find(
  { name, kinds, replacements }: PlantedBug,
  seed: number,
): Promise<Found | undefined> {
  const begun = performance.now();
  const tree = scratch(`planted-${name.replaceAll(/\W+/g, "-")}`);
  copyTree(tree);
  for (const replacement of replacements) replaceOnce(tree, replacement);
  const where: Where = {
    runtime: "bun",
    folder: `${tree}/dev/tmp`,
    pristine: pristineImages(),
    tree,
  };
  const interleaver = new Interleaver(where);
  const request = { seed, from: 0, count: MOST_PROGRAMS, only: kinds, first: true };
  let done = 0;
  const { violations: [first] } = await interleaver.request(request, (at) => {
    progress(`planted: ${name}: ${done = at} programs`);
  });
  await interleaver.end();
  if (!first) return undefined;
  const program = await present(where, first);
  const seconds = Math.round((performance.now() - begun) / 1000);
  return {
    bug: name,
    programs: Math.max(done, first.program.index),
    before: first.program.steps.length,
    calls: program.steps.map(describe),
    seconds,
    otherwise: await withoutBug(where, program),
  };
}

async function withoutBug({ runtime, pristine }: Where, program: Program) {
  const folder = scratch("planted-without");
  const interleaver = new Interleaver({ runtime, folder, pristine });
  const { violations: [first] } = await interleaver.request({ program, times: TIMES });
  await interleaver.end();
  return first?.violation;
}

async function main(): Promise<Row[]> {
  const only = values.only === undefined ? undefined : new RegExp(values.only);
  const seed = numberOf("seed", values.seed, 1);
  const chosen = PLANTED.filter(({ name }) => !only || only.test(name))
    .slice(0, numberOf("some", values.some, PLANTED.length, 1));
  const rows: Row[] = [];
  const found: Found[] = [];
  for (const bug of chosen) {
    const one = await find(bug, seed);
    if (one) found.push(one);
    const detail = one
      ? `${one.calls.length} calls of ${one.before}, after ${one.programs} programs and ` +
        `${one.seconds} s: ${one.calls.join("; ")}` +
        (one.otherwise === undefined ? "" : ` | without the bug as well: ${one.otherwise}`)
      : `not found in ${MOST_PROGRAMS} programs`;
    const isGood = one !== undefined && one.otherwise === undefined && one.calls.length > 0 &&
      one.calls.length <= MOST_CALLS;
    const outcome = isGood ? "pass" : "fail";
    rows.push({ part: "planted", name: bug.name, outcome, detail });
    say(`planted: ${bug.name}: ${detail}`);
  }
  const lines = found.map(({ bug, programs, before, calls, seconds }) => [
    ...[bug, `${programs}`, `${before}`, `${calls.length}`, `${seconds}`],
    calls.join("; "),
  ]);
  const header = ["bug", "programs", "calls", "fewest", "s", "program"];
  if (lines.length > 0) console.log(table([header, ...lines]));
  return rows;
}

await endWithVerdicts("planted", main, values.json);
