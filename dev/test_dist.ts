/**
 * Runs the tests against dist/: in a copy of the tree whose mod.ts and cli.ts are the built files.
 *
 *     deno task test:dist [bun | deno | node] [FILE...]
 *
 * What looks into lib/ still finds the sources there.
 */
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { copyTree } from "./copy_tree.ts";
import { nodeTest } from "./node_test.mjs";
import { readOptions } from "./options.ts";
import { NODE, ROOT, type Runtime, RUNTIMES } from "./runtimes.ts";
import { runSuites } from "./side_by_side.mjs";

/**
 * About something else than what mod.ts gives, about parts of lib/ alone, or hundreds of lines that
 * cli.ts has run already.
 */
const OTHERS = [
  "cli_beside.test.ts",
  "consumers.test.ts",
  "docs.test.ts",
  "first_minute.test.ts",
  "headers.test.ts",
  "libc.test.ts",
  "modules.test.ts",
  "package.test.ts",
  "partition_table.test.ts",
  "release.test.ts",
  "sector_size.test.ts",
  "struct.test.ts",
  "summary.test.ts",
  "superblocks.test.ts",
];

/** Tests that need a part of lib/ that dist/loopdev.js has of its own: its settings, its LoopError. */
const OF_SOURCES: Record<string, string[]> = {
  "examples.test.ts": [
    "an example runs without `npm run setup`, and downloads nothing, on Bun",
  ],
  "grow.test.ts": [
    "grow() says that what its mount wrote is lost",
  ],
  "holders.test.ts": [
    "a mount is not refused since its device is looked at meanwhile",
  ],
  "hints.test.ts": [
    "trim() of what no driver trims says so",
    "what is missing below a /sys that is mounted is not sysfs",
  ],
  "syscalls.test.ts": [
    "attach() tries LOOP_SET_STATUS64 again after EAGAIN",
    "attach() undoes everything when LOOP_SET_STATUS64 fails for good",
  ],
  "mount_image.test.ts": [
    "checkFileSystem() names what it found, and asks no tool where there is none",
    "the end of a tree tells its first error, and what is still mounted for it",
  ],
  "refused.test.ts": [
    "run() rejects where it cannot wait for a program, and leaves no child",
  ],
  "run_command.test.ts": [
    "checkCommand() takes what the kernel executes, and names what it lacks",
  ],
  "second_errors.test.ts": [
    "the first error stays the error, and tells what cannot be undone",
    "what is refused with another code, or is no refusal, is no answer",
    "MountedImage.trim() leaves out a file system whose driver does not trim",
    "FrozenMount.thaw() leaves to its helper what it cannot thaw, and says it once",
    "LoopMount.freeze() leaves nothing frozen where the kernel or the keeper's records refuse it",
    "attach() and rescan() tell which partition was refused, whatever then fails",
    "detach() tells why the kernel keeps a device, and what is lost besides",
  ],
  "mount_device.test.ts": [
    "a path that leads to another device by then is refused",
  ],
  "partitions.test.ts": [
    "DevicePartitions.ready() says so when partitions vanish until its timeout",
  ],
};

const COMMANDS: Record<Runtime, (report: string) => string[]> = {
  bun: (
    report,
  ) => ["bun", "test", "--reporter=junit", `--reporter-outfile=${report}`],
  deno: (report) => ["deno", "test", "--allow-all", `--junit-path=${report}`],
  node: (report) => nodeTest(NODE, report),
};

function literally(text: string): string {
  return text.replaceAll(/[()|+*?.]/g, "\\$&");
}

/** Takes a test out of its file: runners that filter report the rest as skipped. */
function leaveOut(tree: string, file: string, name: string): void {
  const path = join(tree, file);
  const source = readFileSync(path, "utf8");
  // From the line that calls test(), by whatever name, to the end of that statement; or a row of a table.
  const whole = new RegExp(
    `^\\w+\\(\\s*"${literally(name)}",[^]*?\\n\\}?\\);\\n` +
      `|^  \\{\\n    name: "${literally(name)}",[^]*?\\n  \\},\\n`,
    "m",
  );
  if (!whole.test(source)) throw new Error(`${file} has no test "${name}"`);
  writeFileSync(path, source.replace(whole, ""));
}

const HELP = `Usage: dev/test_dist.ts [${RUNTIMES.join(" | ")}] [FILE...]

Runs the tests, or those of FILEs, against dist/, on every runtime or one. Ends with 1 if tests failed, with 2
if a runtime did not end as it should. Needs deno task build before. Reports are in reports/, or in the folder
that LOOPDEV_REPORTS names.

      --spread  each file on one runtime, in turn, instead of on each of them
  -h, --help    this text`;
const { values: { spread }, operands: [first, ...rest] } = readOptions(HELP, {
  spread: { type: "boolean" },
}, { most: Infinity });
const named = RUNTIMES.filter((runtime) => runtime === first);
const runtimes = named.length > 0 ? named : RUNTIMES;
const wanted = named.length > 0 || first === undefined ? rest : [first, ...rest];

/**
 * What users of each runtime import, as the package's exports have it: a test on one runtime starts programs on
 * the others. Deno reads what it is named here without a permission.
 */
async function libraryOfRuntime(): Promise<string> {
  const names = Object.keys(await import(join(ROOT, "dist/loopdev.js")));
  return `const library = "Deno" in globalThis
  ? await import("./loopdev.deno.js")
  : "Bun" in globalThis
  ? await import("./loopdev.bun.js")
  : await import("./loopdev.js");
export const { ${names.join(", ")} } = library;
`;
}

/** Copies the tree, with the built files instead of mod.ts and cli.ts; the folder. */
async function makeTree(): Promise<string> {
  const tree = mkdtempSync(join(tmpdir(), "loopdev-dist-"));
  // Tests run programs as nobody, too.
  chmodSync(tree, 0o755);
  copyTree(tree);
  cpSync(join(ROOT, "dist"), join(tree, "dist"), { recursive: true });
  writeFileSync(join(tree, "dist/of_runtime.js"), await libraryOfRuntime());
  const types = '// @ts-types="./dist/loopdev.d.ts"\n';
  writeFileSync(join(tree, "mod.ts"), `${types}export * from "./dist/of_runtime.js";\n`);
  const [firstLines] = /^#!.*\n(?:\/\/ .*\n)?/.exec(
    readFileSync(join(ROOT, "cli.ts"), "utf8"),
  )!;
  writeFileSync(
    join(tree, "cli.ts"),
    `${firstLines}import "./dist/losetup.js";\n`,
  );
  for (const [file, names] of Object.entries(OF_SOURCES)) {
    for (const name of names) leaveOut(tree, `tests/${file}`, name);
  }
  return tree;
}

const tree = await makeTree();
let exitCode = 2;
try {
  const all = readdirSync(join(tree, "tests"))
    .filter((name) => name.endsWith(".test.ts") && !OTHERS.includes(name));
  const files = wanted.length > 0 ? wanted : all.map((name) => `tests/${name}`);
  const reports = resolve(ROOT, process.env.LOOPDEV_REPORTS ?? "reports");
  mkdirSync(reports, { recursive: true });
  const suites = runtimes.map((name, turn) => {
    const chosen = files.filter((_, index) => !spread || index % runtimes.length === turn);
    const report = join(reports, `dist-${name}.xml`);
    return { name, report, command: [...COMMANDS[name](report), ...chosen], cwd: tree };
  });
  const ran = await runSuites(suites, {});
  for (const what of ran.broken) console.error(what);
  exitCode = ran.exitCode;
} finally {
  rmSync(tree, { recursive: true, force: true });
}
process.exit(exitCode);
