/** What each suite gave on each runtime, as a table. Plain JavaScript, as dev/test.mjs is. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { readReport } from "./junit.mjs";

/** How many tests of a whole run may fail beside others, and pass alone. */
export const MOST_AGAIN = 2;

/** Where the reports of tests are that ran once more, alone: a folder for each file. */
export const folderOfAgain = (report) => join("reports/again", report);

/**
 * The tests of a report that passed when they ran once more, alone.
 *
 * @param {string} report "bun", "dist-deno"
 * @returns {Set<string>} their names
 */
export function passedAlone(report) {
  const folder = folderOfAgain(report);
  const files = existsSync(folder)
    ? readdirSync(folder, { recursive: true }).filter((file) => file.endsWith(".xml"))
    : [];
  const cases = files.flatMap((file) => readReport(join(folder, file)));
  return new Set(cases.filter((test) => !test.failed && !test.skipped).map(({ name }) => name));
}

/** Deno runs the examples of the documentation, too. */
const EXAMPLES = "examples in comments";
/** Without a report of Bun's: all. */
const OTHERS = "others";

/**
 * Which file has a test only Bun's report says: tests are registered by one function of
 * tests/support/support.ts, which the others name. So the file is looked up by the test's name.
 *
 * @param {{ name: string, cases: { name: string, file?: string }[] }[]} reports
 * @returns {Map<string, string>} by the name of a test; empty without a report of Bun's
 */
export function suitesOf(reports) {
  const tests = reports.flatMap(({ cases }) => cases).filter(({ file }) =>
    file?.endsWith(".test.ts")
  );
  return new Map(
    tests.map((
      { name, file },
    ) => [name, file.replace(/^.*?((?:tests|torture|vm)\/)/, "$1")]),
  );
}

/** "12", "11, 1 failed", "11, 2 skipped"; nothing where no test of the suite ran. */
function count(cases) {
  if (cases.length === 0) return "";
  const failed = cases.filter((test) => test.failed).length;
  const skipped = cases.filter((test) => test.skipped).length;
  return [
    String(cases.length - failed - skipped),
    ...failed > 0 ? [`${failed} failed`] : [],
    ...skipped > 0 ? [`${skipped} skipped`] : [],
  ].join(", ");
}

/**
 * Lines: one for each suite, with a column for each report.
 *
 * @param {{ name: string, cases: { name: string, file?: string, skipped: boolean, failed: boolean }[] }[]} reports
 * @returns {string[]}
 */
export function suiteTable(reports) {
  const suites = suitesOf(reports);
  const suiteOf = ({ name }) => suites.get(name) ?? (/[$#]\d+-\d+/.test(name) ? EXAMPLES : OTHERS);
  const names = [...new Set([...suites.values()].sort()), EXAMPLES, OTHERS];
  const rows = names.map((name) => [
    name,
    ...reports.map(({ cases }) => count(cases.filter((test) => suiteOf(test) === name))),
  ]).filter(([, ...cells]) => cells.some((cell) => cell !== ""));
  const sums = ["all, passed", ...reports.map(({ cases }) => count(cases))];
  const table = [["suite", ...reports.map(({ name }) => name)], ...rows, sums];
  const widths = table[0].map((_, i) => Math.max(...table.map((row) => row[i].length)));
  return table.map((row) => row.map((cell, i) => cell.padEnd(widths[i])).join("  ").trimEnd());
}
