/**
 * The end of .ci/run: what each suite gave on each runtime, what the other reports count, the names of
 * what failed, and one line with the sums.
 * Plain JavaScript, as dev/test.mjs is.
 *
 *     node dev/summary.mjs [STEP THAT FAILED]...
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { readReport } from "./junit.mjs";
import { readOperands } from "./operands.mjs";
import { MOST_AGAIN, passedAlone, suiteTable } from "./suites.mjs";

const REPORTS = "reports";
/** A bare machine has none of the tools that tests compare with. */
const MOST_SKIPPED_ON_BARE = 250;

const RUNNERS = {
  "": ["bun", "deno", "node", "dist-bun", "dist-deno", "dist-node"],
  "bare": ["bun"],
  "compat": ["oldest-bun", "oldest-deno", "oldest-node", "newest-bun-musl"],
};
const EXPERIMENTS = ["vm-bun", "vm-deno", "vm-node", "vm-images", "torture"];

const HELP = `Usage: node dev/summary.mjs [STEP THAT FAILED]...

Says what the reports of .ci/run count, what failed, and the sums. Exits with 1 if anything failed.

  -h, --help  this text`;

/** The steps that failed; whatever else fails is added. */
const broken = readOperands(HELP);
const wrong = [];
/** Tests that failed beside other suites, and passed alone. */
const again = [];
const sum = { passed: 0, failed: 0, skipped: 0 };
let skippedOnBare = 0;
const reports = [];

for (const [folder, runners] of Object.entries(RUNNERS)) {
  for (const runner of runners) {
    const name = join(folder, runner);
    const cases = readReport(join(REPORTS, `${name}.xml`));
    const alone = passedAlone(name);
    const failed = cases.filter((test) => test.failed && !alone.has(test.name));
    again.push(
      ...cases.filter((test) => test.failed && alone.has(test.name))
        .map((test) => `${name}: ${test.name}: ${test.why}`),
    );
    const skipped = cases.filter((test) => test.skipped);
    reports.push({ name, cases });
    if (cases.length === 0) broken.push(`${name} ran no test`);
    wrong.push(...failed.map((test) => `${name}: ${test.name}: ${test.why}`));
    if (folder === "bare") skippedOnBare += skipped.length;
    else broken.push(...skipped.map((test) => `${name} skipped "${test.name}"`));
    sum.passed += cases.length - failed.length - skipped.length;
    sum.failed += failed.length;
    sum.skipped += skipped.length;
  }
}
console.log(suiteTable(reports).join("\n"));
if (skippedOnBare > MOST_SKIPPED_ON_BARE) {
  broken.push(
    `${skippedOnBare} tests skipped on a bare machine, more than ${MOST_SKIPPED_ON_BARE}`,
  );
}

/** The objects of a report that have a verdict: rows of torture, results of the kernel matrix. */
function* rowsIn(value) {
  if (typeof value !== "object" || value === null) return;
  const outcome = value.outcome ?? value.verdict?.outcome;
  if (typeof outcome === "string") yield { outcome, row: value };
  else for (const one of Object.values(value)) yield* rowsIn(one);
}

/** The kernel matrix and the torture tests: a row is an experiment with a verdict. */
for (const experiment of EXPERIMENTS) {
  const report = join(REPORTS, `${experiment}.json`);
  const rows = existsSync(report) ? [...rowsIn(JSON.parse(readFileSync(report, "utf8")))] : [];
  const of = (wanted) => rows.filter(({ outcome }) => outcome === wanted);
  const [passed, failed] = [of("pass"), of("fail")];
  console.log(
    `${experiment}: ${passed.length} rows passed, ${failed.length} failed, ` +
      `${of("inconclusive").length} inconclusive (a control that did not flicker)`,
  );
  if (passed.length === 0) broken.push(`${experiment} gave no result`);
  wrong.push(
    ...failed.map(({ row }) => `${experiment}: ${JSON.stringify(row).slice(0, 900)}`),
  );
  sum.passed += passed.length;
  sum.failed += failed.length;
}

for (const what of again) console.log(`passed alone, failed beside others: ${what}`);
if (again.length > MOST_AGAIN) {
  broken.push(`${again.length} tests failed beside others, more than ${MOST_AGAIN}`);
}
for (const what of wrong) console.log(`failed: ${what}`);
for (const what of broken) console.log(`broken: ${what}`);
console.log(
  `${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`,
);
process.exitCode = broken.length + wrong.length > 0 ? 1 : 0;
