/**
 * Runs the tests that failed beside other suites once more, each file alone. The suites share the kernel's loop
 * devices with each other and with other programs, so a test can fail by what a neighbour did. dev/summary.mjs names
 * each of them. Plain JavaScript, as dev/test.mjs is.
 *
 *     node dev/again.mjs REPORT...
 */
import { spawnSync } from "node:child_process";
import { basename, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { readReport } from "./junit.mjs";
import { readOperands } from "./operands.mjs";
import { folderOfAgain, MOST_AGAIN, passedAlone, suitesOf } from "./suites.mjs";

const HELP = `Usage: node dev/again.mjs REPORT...

Runs the tests that failed in reports/REPORT.xml once more, each file alone. Ends with 1 if one fails again, or if
more than ${MOST_AGAIN} failed: that is no neighbour's doing.

  -h, --help  this text`;
process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const reports = readOperands(HELP).map((name) => ({
  name,
  cases: readReport(join("reports", `${name}.xml`)),
}));

/** "dist-bun": of dist/, on Bun; "bare/bun": on Bun. */
function commandFor(report, file) {
  const [, dist, runtime] = /^(dist-)?(\w+)$/.exec(basename(report));
  return dist
    ? ["npm", "--prefix", "dev", "run", "test:dist", "--", runtime, file]
    : ["node", "dev/test.mjs", runtime, file];
}

const failed = reports.flatMap(({ name, cases }) =>
  cases.filter((test) => test.failed).map((test) => ({ ...test, report: name }))
);
if (failed.length === 0 || failed.length > MOST_AGAIN) {
  console.error(`${failed.length} tests failed: none is run again, up to ${MOST_AGAIN} would be`);
  process.exit(1);
}
// Bun's report says which file has a test.
const suites = suitesOf([{ name: "bun", cases: readReport("reports/bun.xml") }, ...reports]);
for (const { report, name, why } of failed) {
  const file = suites.get(name);
  console.log(
    `\nagain, alone: ${report}: ${name} (${file ?? "in no known file"}), which failed: ${why}`,
  );
  if (file === undefined) process.exit(1);
  const [program, ...args] = commandFor(report, file);
  const env = { ...process.env, LOOPDEV_REPORTS: join(folderOfAgain(report), basename(file)) };
  spawnSync(program, args, { stdio: "inherit", env });
  if (!passedAlone(report).has(name)) process.exit(1);
}
