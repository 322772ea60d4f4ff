/**
 * Runs the tests on Bun, on Deno and on Node, side by side, and says at the end what was skipped, for want of what, and how to get it. Plain JavaScript: every Node that npm runs on
 * can run it. The tests' own Node is npm's, as Bun and Deno are.
 *
 * The reports are reports/bun.xml, deno.xml and node.xml, or in the folder that LOOPDEV_REPORTS names.
 */
import { mkdirSync, rmSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { readReport } from "./junit.mjs";
import { nodeTest } from "./node_test.mjs";
import { readOperands } from "./operands.mjs";
import { runSideBySide } from "./side_by_side.mjs";
import { suiteTable } from "./suites.mjs";

const HELP = `Usage: node dev/test.mjs [bun] [deno] [node]

Runs the tests on every runtime, or on those named, side by side, and says what was skipped for want of what.
Needs npm run setup before. Reports are in reports/, or in the folder that LOOPDEV_REPORTS names.

  -h, --help  this text`;
const ALL = ["bun", "deno", "node"];
const named = readOperands(
  HELP,
  (name) => ALL.includes(name) ? undefined : `no runtime is called '${name}'; try --help`,
);
const runtimes = named.length > 0 ? named : ALL;

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const BIN = join(ROOT, "dev/node_modules/.bin");
const REPORTS = resolve(ROOT, process.env.LOOPDEV_REPORTS ?? "reports");

/** Where tests are: of the library, and of the programs that try and measure it. */
const FOLDERS = ["tests", "torture", "vm"];

const COMMANDS = {
  bun: (
    report,
  ) => [
    "bun",
    "test",
    "--reporter=junit",
    `--reporter-outfile=${report}`,
    ...FOLDERS.map((folder) => `${folder}/`),
  ],
  deno: (report) => [
    ...["deno", "test", "--allow-all", "--doc", `--junit-path=${report}`],
    ...FOLDERS.map((folder) => `${folder}/`),
    ...["lib/", "mod.ts", "gpt.ts"],
  ],
  // The machine's own node may be an older one.
  node: (report) => [
    ...nodeTest(join(BIN, "node"), report),
    ...FOLDERS.map((folder) => `${folder}/*.test.ts`),
  ],
};

mkdirSync(REPORTS, { recursive: true });
const env = {
  ...process.env,
  PATH: [process.env.PATH, BIN].join(delimiter),
  // Node keeps what it makes of TypeScript there: each of its many starts is five times as fast.
  NODE_COMPILE_CACHE: join(ROOT, "dev/node_modules/.cache/node"),
};
const broken = [];
const skipped = [];
const reports = [];
const reportOf = (runtime) => join(REPORTS, `${runtime}.xml`);
for (const runtime of runtimes) rmSync(reportOf(runtime), { force: true });
const ends = await runSideBySide(
  runtimes.map((name) => ({ name, command: COMMANDS[name](reportOf(name)) })),
  { cwd: ROOT, env },
);
for (const runtime of runtimes) {
  const cases = readReport(reportOf(runtime));
  const failed = cases.filter((test) => test.failed).length;
  skipped.push(...cases.filter((test) => test.skipped));
  reports.push({ name: runtime, cases });
  const wrong = ends.get(runtime);
  if (wrong !== undefined) broken.push(`${runtime} ended with ${wrong}`);
  else if (cases.length === 0) broken.push(`${runtime} ran no test`);
  else if (failed > 0) broken.push(`${runtime}: a test failed`);
}

/** A skipped test's name ends with what it needs: "[needs strace (strace)]". */
const lacking = new Map();
for (const { name } of skipped) {
  const [, need = "?", packages] = /\[needs ([^\s()\]]+)(?: \(([^)]*)\))?\]$/.exec(name) ?? [];
  const group = lacking.get(need) ?? { count: 0, packages };
  lacking.set(need, { ...group, count: group.count + 1 });
}

console.log(`\n${suiteTable(reports).join("\n")}`);
if (skipped.length > 0) {
  console.log(`\n${skipped.length} tests were skipped on this machine:`);
  const groups = [...lacking].sort(([, a], [, b]) => b.count - a.count);
  for (const [need, { count }] of groups) {
    const reason = need === "root" ? "they need root" : `there is no ${need}`;
    console.log(
      `${String(count).padStart(5)}  ${need === "?" ? "without a reason" : reason}`,
    );
  }
  const packages = new Set(
    groups.flatMap(([, { packages = "" }]) => packages.split(" ")),
  );
  packages.delete("");
  if (packages.size > 0) {
    const list = [...packages].sort().join(" ");
    console.log(
      `\nOn Debian this brings what they lack:\n  apt-get install --no-install-recommends ${list}`,
    );
  }
}
for (const what of broken) console.error(what);
process.exitCode = broken.length > 0 ? 1 : 0;
