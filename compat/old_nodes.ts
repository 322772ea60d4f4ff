/**
 * The npm package on Nodes that have no FFI: whatever a user does with it ends with one line that says
 * what to do. Needs `deno task build` before.
 *
 *     deno task compat:nodes [VERSION...]
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import config from "../deno.json" with { type: "json" };
import { readOptions } from "../dev/options.ts";

const HELP = `Usage: compat/old_nodes.ts [VERSION...]

Uses the npm package of dist/ on Nodes that have no FFI, which npm brings: 18, 20, 22 and 24.`;

const ROOT = new URL("..", import.meta.url).pathname;
const TARBALL = join(ROOT, `dist/loopdev-${config.version}.tgz`);
/** As npm takes them: the last of each line that was supported for long. */
const VERSIONS = ["18", "20", "22", "24"];
const QUIET = ["--no-audit", "--no-fund", "--no-save", "--loglevel=error"];

/** Installs packages into a folder of their own. */
function npm(folder: string, ...packages: string[]): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), '{ "private": true }\n');
  execFileSync("npm", ["install", "--prefix", folder, ...QUIET, ...packages], {
    stdio: ["ignore", "ignore", "inherit"],
  });
}

/** A folder with that Node, and nothing else, under its own name. */
function install(version: string): string {
  const name = `node-linux-${process.arch === "arm64" ? "arm64" : "x64"}`;
  const home = join(ROOT, "dev/compat", `node-glibc-${version}`);
  const binary = join(home, "node_modules", name, "bin/node");
  if (!existsSync(binary)) npm(home, `${name}@${version}`);
  const folder = join(home, "bin");
  mkdirSync(folder, { recursive: true });
  rmSync(join(folder, "node"), { force: true });
  symlinkSync(binary, join(folder, "node"));
  return folder;
}

/** How a user meets the package, and the last line of what that prints. */
const USES: Record<string, {
  command: string[];
  since?: number;
  prints: (version: string) => RegExp;
}> = {
  "import": { command: ["node", "import.mjs"], prints: noFfi },
  "require()": {
    command: ["node", "require.cjs"],
    prints: () => /^Error: loopdev is an ES module: import it, or use await import\("loopdev"\)/,
  },
  "the program": { command: ["node_modules/.bin/loopdev", "--list"], prints: noFfi },
  // Node 18 has no toSorted().
  "loopdev/gpt, which needs no FFI": {
    since: 20,
    command: ["node", "gpt.mjs"],
    prints: () => /^pieces of the table: [1-9]$/,
  },
};
const SCRIPTS = {
  "import.mjs": 'import { attach } from "loopdev";\nconsole.log(attach);\n',
  "require.cjs": 'const { attach } = require("loopdev");\nconsole.log(attach);\n',
  "gpt.mjs": 'import { encodeGpt } from "loopdev/gpt";\n' +
    'console.log("pieces of the table:", encodeGpt(2 ** 20, []).length);\n',
};

function noFfi(version: string): RegExp {
  const name = `Node\\.js ${version.replaceAll(".", "\\.")}`;
  return new RegExp(
    `^TypeError: loopdev calls libc through an FFI, which ${name} does not have: run it with ` +
      "Node\\.js 26\\.10, with `bun` or with `deno run --allow-ffi`$",
  );
}

/** What is wrong with one use; nothing if it prints that one line, and no line is long. */
function judge(folder: string, node: string, version: string, name: string): string | undefined {
  const { command: [program, ...args], prints } = USES[name];
  // PATH has this Node and a shell, and no other runtime.
  const env = { PATH: [node, join(folder, "tools")].join(delimiter) };
  const { stdout, stderr, error } = spawnSync(program, args, {
    cwd: folder,
    env,
    encoding: "utf8",
    timeout: 60_000,
  });
  const text = `${error ?? ""}${stdout}${stderr}`;
  const lines = text.split("\n");
  const pattern = prints(version);
  if (lines.filter((line) => pattern.test(line)).length !== 1) return text.slice(0, 2000);
  const long = lines.find((line) => line.length > 250);
  return long === undefined ? undefined : `a line of ${long.length} characters`;
}

const { operands } = readOptions(HELP, {}, { most: Infinity });
const folder = mkdtempSync(join(tmpdir(), "loopdev-nodes-"));
try {
  npm(folder, TARBALL);
  mkdirSync(join(folder, "tools"));
  symlinkSync("/bin/sh", join(folder, "tools/sh"));
  for (const [name, text] of Object.entries(SCRIPTS)) writeFileSync(join(folder, name), text);
  for (const major of operands.length > 0 ? operands : VERSIONS) {
    const node = install(major);
    const version = execFileSync(join(node, "node"), ["--version"], { encoding: "utf8" })
      .trim().slice(1);
    for (const [name, { since = 0 }] of Object.entries(USES)) {
      if (parseInt(version) < since) continue;
      const wrong = judge(folder, node, version, name);
      console.log(`Node.js ${version.padEnd(9)} ${name.padEnd(32)} ${wrong ?? "passed"}`);
      if (wrong !== undefined) process.exitCode = 1;
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
