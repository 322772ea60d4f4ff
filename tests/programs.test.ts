/** Every program of the tree knows --help, and names an option that it does not know. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import {
  bound,
  onRuntime,
  onThisRuntime,
  ROOT,
  run,
  scratch,
  test,
  until,
} from "./support/support.ts";

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const code = (path: string) => read(path).replaceAll(/\/\*[^]*?\*\/|\/\/.*/g, "");

function filesBelow(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === "node_modules" ? [] : filesBelow(path);
    return /(?<!\.test|\.d)\.(ts|mjs)$/.test(entry.name) ? [path] : [];
  });
}

const FOLDERS = ["bench", "compat", "dev", "examples", "tests", "tools", "torture", "vm"];
/** What reads a command line for programs. */
const READERS = [
  "dev/operands.mjs",
  "dev/options.ts",
  "examples/program.ts",
  "torture/table_options.ts",
];
/** Tests and guests alone start what is here, with what it needs. */
const FIXTURES = /^(tests\/support|vm\/guest)\//;

const files = FOLDERS.flatMap(filesBelow).filter((path) => !READERS.includes(path));
const programs = files.filter((path) =>
  /\b(readOptions|parseTableOptions|runMain|parseArgs)\(|\bimport\.meta\.main\b/.test(code(path))
);

test("all that reads a command line is a program that is tried here", [], () => {
  const reading = files.filter((path) => /\bargv\b|\bDeno\.args\b/.test(code(path)));
  assertEquals(reading.filter((path) => !programs.includes(path) && !FIXTURES.test(path)), []);
  const tasks: (string | { command: string })[] = Object.values(
    JSON.parse(read("deno.json")).tasks,
  );
  const started = tasks.map((task) => typeof task === "string" ? task : task.command)
    .flatMap((command) => /^deno run .* ([\w/]+\.ts)$/.exec(command)?.[1] ?? []);
  assert(started.length > 8);
  assertEquals(started.filter((path) => !programs.includes(path)), []);
});

/** Without a runtime's options, and without the bare name that a user's PATH leads to. */
function commandOf(path: string): string[] {
  if (path === ".ci/run") return [join(ROOT, path)];
  if (path === "dev/bundle.mjs") return onRuntime("bun", join(ROOT, path));
  return path.endsWith(".mjs") ? ["node", join(ROOT, path)] : onThisRuntime(join(ROOT, path));
}

/** The tasks run programs on Deno; what users start runs on every runtime. */
const tried = programs.filter((path) => "Deno" in globalThis || /^(examples|tools)\//.test(path));
for (const path of ["cli.ts", ".ci/run", ...tried]) {
  const needs = path.endsWith(".mjs")
    ? ["node" as const]
    : path === ".ci/run"
    ? ["bash" as const]
    : [];
  test(`${path} knows --help and refuses an option that it does not know`, needs, () => {
    const cwd = scratch("nowhere");
    mkdirSync(cwd);
    const help = run([...commandOf(path), "--help"], { cwd });
    assertEquals([help.status, help.stderr], [0, ""], help.stderr);
    assertMatch(help.stdout, /^\s*Usage:/);
    const unknown = run([...commandOf(path), "--frobnicate"], { cwd });
    assert(unknown.status === 1 || unknown.status === 2, `${unknown.status}`);
    assertEquals(unknown.stdout, "");
    assertMatch(unknown.stderr.split("\n")[0], /--frobnicate/);
    assertEquals(readdirSync(cwd), []);
  });
}

/** A moment in which it has so many devices attached. */
const INTERRUPTED = {
  "bench/cli.ts": { options: ["--rounds", "1", "--devices", "40", "--unbound", "5"], devices: 10 },
  "bench/run.ts": { options: ["--cycles-only"], devices: 1 },
};
for (const [path, { options, devices }] of Object.entries(INTERRUPTED)) {
  test(
    `${path} leaves no device when it is interrupted`,
    ["quiet", "root", "bun", "losetup", "bash", "sfdisk"],
    async () => {
      const folder = scratch("tmp");
      mkdirSync(folder);
      const [name, ...args] = onThisRuntime(join(ROOT, path), ...options);
      const env = { ...process.env, TMPDIR: folder };
      const child = spawn(name, args, { env, stdio: "ignore" });
      const ended = new Promise((resolve) => child.on("exit", (code, by) => resolve(by ?? code)));
      const mine = () => bound((path) => path.startsWith(`${folder}/`));
      await until(() => mine().length >= devices, "devices to be attached", 60_000);
      process.kill(child.pid!, "SIGINT");
      assertEquals(await ended, 130);
      // A child that it has killed may end after it, and its device with it.
      await until(() => mine().length === 0, "the devices to go");
      assertEquals(readdirSync(folder), []);
    },
  );
}
