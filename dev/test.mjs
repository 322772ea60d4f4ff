/**
 * Runs the tests on Bun, on Deno and on Node, side by side, and says at the end what was skipped, for want of what, and how to get it. Plain JavaScript: every Node that npm runs on
 * can run it. The tests' own Node is npm's, as Bun and Deno are.
 *
 * The reports are reports/bun.xml, deno.xml and node.xml, or in the folder that LOOPDEV_REPORTS names.
 */
import { existsSync, mkdirSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { nodeTest } from "./node_test.mjs";
import { readOperands } from "./operands.mjs";
import { runSuites } from "./side_by_side.mjs";
import { suiteTable } from "./suites.mjs";

const HELP = `Usage: node dev/test.mjs [bun] [deno] [node] [FILE.test.ts...]

Runs the tests, or those of FILEs, on every runtime, or on those named, side by side, and says what was
skipped for want of what. Ends with 1 if tests failed, with 2 if a runtime did not end as it should.
Needs npm run setup before. Reports are in reports/, or in the folder that LOOPDEV_REPORTS names.

  -h, --help  this text`;
const ALL = ["bun", "deno", "node"];
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const isFile = (name) => name.endsWith(".test.ts");
const operands = readOperands(HELP, (name) => {
  if (isFile(name)) return existsSync(join(ROOT, name)) ? undefined : `there is no file '${name}'`;
  return ALL.includes(name) ? undefined : `no runtime is called '${name}'; try --help`;
});
const files = operands.filter(isFile);
const named = operands.filter((name) => !isFile(name));
const runtimes = named.length > 0 ? named : ALL;

const BIN = join(ROOT, "dev/node_modules/.bin");
const REPORTS = resolve(ROOT, process.env.LOOPDEV_REPORTS ?? "reports");

/** Where tests are: of the library, and of the programs that try and measure it. */
const FOLDERS = ["tests", "torture", "vm"];

const ofFolders = (end) => files.length > 0 ? files : FOLDERS.map((folder) => folder + end);

const COMMANDS = {
  bun: (
    report,
  ) => [
    "bun",
    "test",
    "--reporter=junit",
    `--reporter-outfile=${report}`,
    ...ofFolders("/"),
  ],
  deno: (report) => [
    ...["deno", "test", "--allow-all", "--doc", `--junit-path=${report}`],
    ...ofFolders("/"),
    ...(files.length > 0 ? [] : ["lib/", "mod.ts", "gpt.ts"]),
  ],
  // The machine's own node may be an older one.
  node: (report) => [
    ...nodeTest(join(BIN, "node"), report),
    ...ofFolders("/*.test.ts"),
  ],
};

mkdirSync(REPORTS, { recursive: true });
const env = {
  ...process.env,
  PATH: [process.env.PATH, BIN].join(delimiter),
  // Node keeps what it makes of TypeScript there: each of its many starts is five times as fast.
  NODE_COMPILE_CACHE: join(ROOT, "dev/node_modules/.cache/node"),
};
const { reports, broken, exitCode } = await runSuites(
  runtimes.map((name, i) => {
    const report = join(REPORTS, `${name}.xml`);
    // Of long lists of cases each runtime takes its share (tests/support/support.ts), unless files are named.
    const share = files.length > 0 ? {} : { LOOPDEV_TEST_SHARE: `${i}/${runtimes.length}` };
    return { name, report, command: COMMANDS[name](report), env: share };
  }),
  { cwd: ROOT, env },
);
const skipped = reports.flatMap(({ cases }) => cases.filter((test) => test.skipped));

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
process.exitCode = exitCode;
