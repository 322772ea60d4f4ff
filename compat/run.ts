/**
 * Runs the demo and the core tests on the oldest and newest runtimes that the README names.
 *
 *     deno task compat --only oldest
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { machine, release } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fail, readOptions } from "../dev/options.ts";
import { readReport } from "../dev/junit.mjs";
import { nodeTest } from "../dev/node_test.mjs";
import { runSideBySide } from "../dev/side_by_side.mjs";
import { RUNTIME_NAMES } from "../tests/support/support.ts";
import { type Cell, CELLS, CORE } from "./cells.ts";
import { install } from "./install.ts";
import { type Row, writeRows } from "./page.ts";

const HELP = `Usage: compat/run.ts [options]

Runs the demo and the core tests on these runtimes, which npm brings:

${CELLS.map(({ name }) => `  ${name}`).join("\n")}

      --only TEXT  cells whose names have it; repeatable (all)
      --page       writes the results to docs/machines.md
  -h, --help       this text`;

const ROOT = new URL("..", import.meta.url).pathname;
const REPORTS = join(ROOT, "reports/compat");

/** Suites side by side: two processors have enough to do with these. */
const AT_A_TIME = 4;

const { values: options } = readOptions(HELP, {
  only: { type: "string", multiple: true },
  page: { type: "boolean" },
});

const DEMO = {
  bun: ["bun"],
  deno: ["deno", "run", "--no-prompt", "--no-lock", "--allow-ffi"],
  node: ["node"],
};

/** Whether the command ends with 0; what it prints is shown. */
function succeeds(command: string[], env: Record<string, string>): boolean {
  const [name, ...args] = command;
  const { status, error } = spawnSync(name, args, {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: "inherit",
  });
  if (error) console.error(error.message);
  return status === 0;
}

/** The core tests, or the one of them that is called so. */
function testCommand({ runtime }: Cell, report: string, only?: string): string[] {
  rmSync(report, { force: true });
  const pattern = only?.replaceAll(/[^\w ]/g, ".");
  const named = pattern === undefined ? [] : ["--test-name-pattern", `^${pattern}$`];
  const commands = {
    bun: ["bun", "test", "--reporter=junit", `--reporter-outfile=${report}`, ...named],
    deno: [
      ...["deno", "test", "--no-lock", "--allow-all", `--junit-path=${report}`],
      ...pattern === undefined ? [] : ["--filter", `/^${pattern}$/`],
    ],
    node: [...nodeTest("node", report), ...named],
  };
  return [...commands[runtime], ...CORE];
}

/** A cell that is installed, on whose runtime the demo has run. */
interface Installed {
  readonly cell: Cell;
  readonly version: string;
  /** What puts the runtime first. */
  readonly env: Record<string, string>;
  /** Of its reports, and before each line of its tests. */
  readonly name: string;
  readonly demoWorks: boolean;
}

function installed(cell: Cell): Installed {
  const { folder, version, env: own } = install(cell);
  console.log(`\n==> ${cell.name}: ${cell.runtime} ${version}, ${cell.libc}`);
  const env = { ...own, PATH: [folder, process.env.PATH].join(delimiter) };
  const name = cell.name.toLowerCase().replaceAll(/\W+/g, "-");
  const demoWorks = succeeds([...DEMO[cell.runtime], "examples/demo.ts"], env);
  return { cell, version, env, name, demoWorks };
}

const reportOf = (name: string) => join(REPORTS, `${name}.xml`);

/** The core tests side by side: each runs one test at a time. */
async function runCore(cells: readonly Installed[]): Promise<Row[]> {
  const commands = cells.map(({ cell, env, name }) => ({
    ...{ name, env },
    command: testCommand(cell, reportOf(name)),
  }));
  const ends = await runSideBySide(commands, { cwd: ROOT });
  return cells.map((one) => rowOf(one, ends.get(one.name) === undefined));
}

function rowOf({ cell, version, env, name, demoWorks }: Installed, coreWorks: boolean): Row {
  const cases = readReport(reportOf(name));
  const skipped = cases.filter((test) => test.skipped).length;
  const failed = cases.filter((test) => test.failed);
  // Where others attach too, a test can lose a device to them.
  const again = failed.filter((test, index) => {
    const report = join(REPORTS, "again", `${name}-${index}.xml`);
    const works = succeeds(testCommand(cell, report, test.name), env);
    return works && readReport(report).some((one) => one.name === test.name && !one.failed);
  });
  const broken = [
    ...demoWorks ? [] : ["the demo"],
    ...cases.length > 0 && (coreWorks || failed.length > 0) ? [] : ["the core tests"],
    ...failed.filter((test) => !again.includes(test)).map((test) => test.name),
  ];
  return {
    machine: machine(),
    kernel: release(),
    libc: libcName(cell),
    runtime: `${RUNTIME_NAMES[cell.runtime]} ${version}`,
    ran: "demo, core tests",
    result: broken.length > 0 ? `failed: ${broken.join("; ")}` : [
      `${cases.length - skipped} passed`,
      ...again.length > 0 ? [`${again.length} of them alone, afterwards`] : [],
      ...skipped > 0 ? [`${skipped} skipped`] : [],
    ].join(", "),
    failed: broken.length > 0,
    commit: commit(),
  };
}

function libcName({ libc }: Cell): string {
  // musl's loader says who it is on stderr, and that it wants a program.
  const command = libc === "musl" ? ["/lib/ld-musl-x86_64.so.1"] : ["getconf", "GNU_LIBC_VERSION"];
  const { stdout, stderr } = spawnSync(command[0], command.slice(1), { encoding: "utf8" });
  const version = /\d+(\.\d+)+/.exec(libc === "musl" ? String(stderr) : String(stdout))?.[0];
  return `${libc} ${version}`;
}

/** The commit, marked where files differ from it. */
function commit(): string {
  const git = (...args: string[]) =>
    execFileSync("git", args, { cwd: ROOT, encoding: "utf8" }).trim();
  const changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs") !== "";
  return git("rev-parse", "--short=12", "HEAD") + (changed ? ", changed" : "");
}

mkdirSync(join(REPORTS, "again"), { recursive: true });
const only = options.only ?? [];
const chosen = CELLS.filter(({ name }) =>
  only.length === 0 || only.some((text) => name.includes(text))
);
if (chosen.length === 0) {
  fail(`no such runtime: ${only.join(", ")}; try --help`);
}
const cells = chosen.map(installed);
const rows: Row[] = [];
for (let first = 0; first < cells.length; first += AT_A_TIME) {
  rows.push(...await runCore(cells.slice(first, first + AT_A_TIME)));
}
console.log();
for (const { runtime, libc, result } of rows) {
  console.log(`${runtime.padEnd(12)} ${libc.padEnd(12)} ${result}`);
}
if (options.page) writeRows(rows);
process.exitCode = rows.some(({ failed }) => failed) ? 1 : 0;
