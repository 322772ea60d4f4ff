/**
 * Says which branches of lib/ the tests and torture reach on the runtimes that tell: Deno and Node.
 *
 *     node dev/coverage.mjs deno node torture
 *
 * Every process counts that inherits the environment and ends by itself, with the library's Workers on
 * Node (coverage_node.mjs). One that is killed tells nothing, and one that runs a bundle or a copy of the
 * library tells of that. Bun counts lines of its own process alone: what only Bun runs is left out.
 */
import { spawn } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { createHash } from "node:crypto";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { branchesOf, reached } from "./branches.mjs";

const HELP = `Usage: node dev/coverage.mjs [deno] [node] [torture] [options] [-- COMMAND...]

Says which branches of lib/ the tests on Deno, those on Node and torture reach: runs what is named, adds
that to what earlier runs found in files that are the same still, and prints both. Without a name it
only prints. Needs root and npm run setup.

      --list      each branch that nothing reaches
      --write     the numbers into docs/guarantees.md
      --forget    what earlier runs found
  -h, --help      this text

COMMAND... is run, too, and counts as a test.`;

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const BIN = join(ROOT, "dev/node_modules/.bin");
const STATE = join(ROOT, "reports/coverage.json");
const GUARANTEES = join(ROOT, "docs/guarantees.md");
const NODE = join(BIN, "node");
const COVERAGE_NODE = join(ROOT, "dev/coverage_node.mjs");

/** A run that is interrupted keeps what it has found by then. */
const SAVE_MS = 20_000;

/**
 * Those that start losetup or cli.ts a thousand times come last. race_check.ts does not end on a Deno that
 * counts, and needs little of lib/.
 */
const TESTS = ["tests", "torture", "vm"]
  .flatMap((folder) => readdirSync(join(ROOT, folder)).map((name) => `${folder}/${name}`))
  .filter((path) => path.endsWith(".test.ts") && !path.endsWith("/race_check.test.ts"))
  .sort((a, b) => Number(a.includes("/cli")) - Number(b.includes("/cli")));

/** How each is run: "tests" or "torture", and the command. */
const RUNS = {
  deno: ["tests", [
    ...["deno", "test", "--allow-all", "--no-check", "--doc"],
    ...[...TESTS, "lib/", "mod.ts", "gpt.ts"],
  ]],
  node: ["tests", [
    ...[NODE, "--import", "./dev/resolve.mjs", "--disable-warning=ExperimentalWarning", "--test"],
    ...["--test-concurrency=1", ...TESTS],
  ]],
  torture: ["torture", [
    ...["deno", "run", "--allow-all", "torture/run.ts", "--size", "ci", "--scale", "0.25"],
    ...["--runtime", "deno", "--runtime", "node"],
  ]],
};

/** The sources whose branches are counted, from the root of the tree. */
const SOURCES = readdirSync(join(ROOT, "lib"), { recursive: true })
  .filter((name) => name.endsWith(".ts") && !/runtime\/bun\w*\.ts$/.test(name))
  .map((name) => `lib/${name}`).sort();

class Source {
  constructor(path) {
    this.path = path;
    this.text = readFileSync(join(ROOT, path), "utf8");
    this.hash = createHash("sha256").update(this.text).digest("hex");
    this.branches = branchesOf(path, this.text);
    /** By what reached it: a set of indices. */
    this.reached = { tests: new Set(), torture: new Set() };
    this.deno = undefined;
  }

  /** The same branches in what Deno prints of the source and runs. */
  get printed() {
    this.deno ??= branchesOf(
      "printed.js",
      readFileSync(printedPath(this.path), "utf8"),
    );
    const kinds = (branches) => branches.map(({ kind }) => kind).join();
    if (kinds(this.deno) !== kinds(this.branches)) {
      throw new Error(`${this.path} has other branches on Deno`);
    }
    return this.deno;
  }

  line(start) {
    return this.text.slice(0, start).split("\n").length;
  }
}

/** Where Deno keeps what it prints of a source. */
function printedPath(path) {
  const folder = process.env.DENO_DIR ??
    join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "deno");
  return join(folder, "gen/file", `${join(ROOT, path)}.js`);
}

const sources = new Map(SOURCES.map((path) => [path, new Source(path)]));
const LIB = pathToFileURL(join(ROOT, "lib")).href;
const rootUrl = pathToFileURL(ROOT).href;

/**
 * Takes over what a Worker says of its program, which is the text of some of the sources' functions: Node has
 * blanked their types, so that each offset stays as far behind the function's begin.
 */
function takeWorker({ program, functions }, part) {
  const texts = [...program.matchAll(/(?:async )?function (\w+)/g)];
  texts.forEach(({ index: first, 1: name }, i) => {
    const last = texts[i + 1]?.index ?? program.length;
    const declared = new RegExp(`(?<=^|^export )(async )?function ${name}\\b`, "m");
    const source = [...sources.values()].find(({ path, text }) =>
      path.startsWith("lib/runtime/") && declared.test(text)
    );
    const by = source.text.search(declared) - first;
    const moved = functions.map(({ ranges }) => ({
      ranges: ranges
        .filter(({ startOffset, endOffset }) => startOffset >= first && endOffset <= last)
        .map(({ startOffset, endOffset, count }) => ({
          startOffset: startOffset + by,
          endOffset: endOffset + by,
          count,
        })),
    }));
    take({ url: rootUrl + source.path, functions: moved }, false, part);
  });
}

/** Takes over what one script says, if it is one of the sources. */
function take(script, isDeno, part) {
  if (script.program !== undefined) return takeWorker(script, part);
  if (!script.url.startsWith(LIB)) return;
  const source = sources.get(script.url.slice(rootUrl.length));
  if (source === undefined) return;
  reached(isDeno ? source.printed : source.branches, script).forEach(
    (is, index) => {
      if (is) source.reached[part].add(index);
    },
  );
}

/** Takes over and removes the files that are whole: a process may be writing another one. */
function collect(folder, isDeno, part) {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    let data;
    try {
      data = JSON.parse(readFileSync(path, "utf8"));
    } catch {
      continue;
    }
    for (const script of isDeno ? [data] : data.result) {
      take(script, isDeno, part);
    }
    unlinkSync(path);
  }
}

/** Runs a command, and takes over what its processes tell. */
async function cover(part, [program, ...args]) {
  const folder = mkdtempSync(join(tmpdir(), "loopdev-coverage-"));
  chmodSync(folder, 0o755);
  const folders = ["deno", "node"].map((name) => join(folder, name));
  for (const one of folders) {
    mkdirSync(one);
    // Tests run processes as other users.
    chmodSync(one, 0o1777);
  }
  const env = {
    ...process.env,
    PATH: [BIN, process.env.PATH].join(delimiter),
    DENO_COVERAGE_DIR: folders[0],
    NODE_V8_COVERAGE: folders[1],
    NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ""} --import=${COVERAGE_NODE}`,
  };
  delete env.NODE_COMPILE_CACHE;
  const takeAll = () => folders.forEach((one, index) => collect(one, index === 0, part));
  const child = spawn(program, args, {
    cwd: ROOT,
    env,
    stdio: ["ignore", "inherit", "inherit"],
  });
  const timers = [setInterval(takeAll, 1000), setInterval(save, SAVE_MS)];
  try {
    const status = await new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => resolve(signal ?? code));
    });
    takeAll();
    if (status !== 0) {
      console.error(`${program} ended with ${status}: what it reached counts`);
    }
  } finally {
    timers.forEach(clearInterval);
    rmSync(folder, { recursive: true });
  }
}

/** What other runs found, of sources that are the same still. */
function remember() {
  let state;
  try {
    state = JSON.parse(readFileSync(STATE, "utf8"));
  } catch {
    return;
  }
  for (const source of sources.values()) {
    const known = state[source.path];
    if (known?.hash !== source.hash || known.branches !== source.branches.length) continue;
    for (const part of ["tests", "torture"]) {
      known[part].forEach((index) => source.reached[part].add(index));
    }
  }
}

function save() {
  // Of those that ran meanwhile.
  remember();
  mkdirSync(join(ROOT, "reports"), { recursive: true });
  const state = [...sources].map((
    [path, { hash, branches, reached: { tests, torture } }],
  ) => [
    path,
    { hash, branches: branches.length, tests: [...tests], torture: [...torture] },
  ]);
  writeFileSync(STATE, JSON.stringify(Object.fromEntries(state)));
}

const isReached = ({ reached: { tests, torture } }, index) =>
  tests.has(index) || torture.has(index);

/** How many branches some sources have, how many the tests reach, and how many with torture. */
function count(some) {
  const sum = (number) => some.reduce((all, source) => all + number(source), 0);
  return {
    all: sum(({ branches }) => branches.length),
    tests: sum(({ reached }) => reached.tests.size),
    both: sum((source) => source.branches.filter((_, index) => isReached(source, index)).length),
  };
}

const percent = (part, all) => `${(Math.floor((1000 * part) / all) / 10).toFixed(1)} %`;

function print() {
  const folderOf = (path) => path.slice(0, path.lastIndexOf("/"));
  const rows = [["folder", "branches", "tests", "", "and torture", ""]];
  const folders = [...new Set(SOURCES.map(folderOf))];
  for (const folder of [...folders, "all"]) {
    const some = [...sources.values()].filter(({ path }) =>
      folder === "all" || folderOf(path) === folder
    );
    const { all, tests, both } = count(some);
    rows.push(
      [folder, all, tests, percent(tests, all), both, percent(both, all)].map(
        String,
      ),
    );
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const pad = (cell, column) => cell[column === 0 ? "padEnd" : "padStart"](widths[column]);
  for (const row of rows) console.log(row.map(pad).join("  "));
}

/** "lib/attach.ts:12 no else: if (x) {" */
function list() {
  for (const source of sources.values()) {
    source.branches.forEach(({ kind, start }, index) => {
      if (isReached(source, index)) return;
      const number = source.line(start);
      console.log(
        `${source.path}:${number} ${kind}: ${source.text.split("\n")[number - 1].trim()}`,
      );
    });
  }
}

/** The row of docs/guarantees.md, which names this program. */
function write() {
  const { all, tests, both } = count([...sources.values()]);
  const text = readFileSync(GUARANTEES, "utf8");
  const row = /Of the branches of lib\/, .*? with torture/;
  if (!row.test(text)) {
    throw new Error(`${GUARANTEES} has no row of the branches`);
  }
  const said = `Of the branches of lib/, ${
    percent(tests, all)
  } (${tests} of ${all}) are reached by the tests, ${percent(both, all)} with torture`;
  writeFileSync(GUARANTEES, text.replace(row, said));
}

function parse() {
  const end = process.argv.indexOf("--");
  const [own, command] = end < 0
    ? [process.argv.slice(2), []]
    : [process.argv.slice(2, end), process.argv.slice(end + 1)];
  const options = {
    list: { type: "boolean" },
    write: { type: "boolean" },
    forget: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  };
  const { values, positionals } = parseArgs({
    args: own,
    options,
    allowPositionals: true,
  });
  const wrong = positionals.find((name) => !Object.hasOwn(RUNS, name));
  if (wrong !== undefined) {
    throw new Error(`nothing to run is called '${wrong}'; try --help`);
  }
  return { ...values, names: positionals, command };
}

async function main() {
  const { help, names, command, ...flags } = parse();
  if (help) return console.log(HELP);
  if (flags.forget) rmSync(STATE, { force: true });
  remember();
  for (const name of names) await cover(...RUNS[name]);
  if (command.length > 0) await cover("tests", command);
  save();
  if (flags.list) list();
  print();
  if (flags.write) write();
}

try {
  await main();
} catch (error) {
  console.error(`dev/coverage.mjs: ${error.message}`);
  process.exitCode = 2;
}
