/**
 * Breaks loopdev on purpose, in a copy of the source tree, and shows which part of the torture tests,
 * or which test, notices. Each check must pass on an unbroken copy first.
 *
 *     deno run --allow-all torture/mutants.ts --json mutants.json
 */
import { join } from "node:path";
import process from "node:process";
import { numberOf, readOptions } from "../dev/options.ts";
import { output, run, scratch } from "../tests/support/support.ts";
import { say, table } from "../dev/terminal.ts";
import { endWithVerdicts } from "./cleanup.ts";
import type { Row } from "./common.ts";
import { detachBelow } from "../tests/support/own_devices.ts";
import { CHECKS, MUTATIONS } from "./mutations.ts";
import { copyTree } from "../dev/copy_tree.ts";
import { replaceOnce } from "./replace.ts";

const HELP = `Usage: torture/mutants.ts [options]

Breaks loopdev in copies of the tree, in one way after the other, and shows which check notices.
Needs what the checks need. Exits with 1 if one goes unnoticed.

      --some N     only so many, drawn for each run
      --json FILE  writes the verdicts
  -h, --help       this text`;

const { values: { json, some } } = readOptions(HELP, {
  json: { type: "string" },
  some: { type: "string" },
});
const chosen = shuffled(MUTATIONS).slice(0, numberOf("some", some, MUTATIONS.length, 1));

function shuffled<T>(all: readonly T[]): T[] {
  return all.map((one) => [Math.random(), one] as const).sort(([a], [b]) => a - b)
    .map(([, one]) => one);
}

/** Runs a check in a copy, with a temporary folder of its own; gives what it says, if it fails. */
function check(name: keyof typeof CHECKS, folder: string): string | undefined {
  const temporary = join(folder, "dev/tmp");
  output(["mkdir", "-p", temporary]);
  const env = { ...process.env, TMPDIR: temporary };
  const { status, stdout, stderr } = run(CHECKS[name], { cwd: folder, env, timeout: 120_000 });
  // Mutants leave devices.
  detachBelow(temporary);
  if (status === 0) return undefined;
  const text = `${stderr}\n${stdout}`;
  return /VIOLATION.*\n.*/.exec(text)?.[0].replace(/^VIOLATION /, "").replace(/\s+/g, " ") ??
    text.trim().split("\n").at(-1) ?? "";
}

function main(): Row[] {
  const rows: Row[] = [];
  const intact = scratch("intact");
  copyTree(intact);
  const broken = new Map(
    [...new Set(chosen.map(({ check }) => check))].map((name) => [name, check(name, intact)]),
  );
  for (const [i, mutation] of chosen.entries()) {
    const folder = scratch(`mutant-${i}`);
    copyTree(folder);
    for (const replacement of mutation.replacements) replaceOnce(folder, replacement);
    const before = broken.get(mutation.check);
    const said = before === undefined ? check(mutation.check, folder) : undefined;
    const detail = before !== undefined
      ? `${mutation.check} fails without the mutation: ${before}`
      : said === undefined
      ? `not caught by ${mutation.check}`
      : `caught by ${mutation.check}: ${said}`;
    const outcome = before === undefined && said !== undefined ? "pass" : "fail";
    rows.push({ part: "mutants", name: mutation.name, outcome, detail });
    say(`${mutation.name}: ${detail}`);
  }
  console.log(table([["mutant", "outcome"], ...rows.map(({ name, outcome }) => [name, outcome])]));
  return rows;
}

await endWithVerdicts("mutants", main, json);
