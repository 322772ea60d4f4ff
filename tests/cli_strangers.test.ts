/**
 * cli.ts in a directory where a stranger left everything that a runtime looks for: root runs it
 * there, and none of it may run. On every way that the README names.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { COMPILE } from "../dev/compile.ts";
import { makeExt4 } from "./support/mount_image.ts";
import { makeImage, missing, NODE, output, ROOT, run, scratch, test } from "./support/support.ts";

const CLI = join(ROOT, "cli.ts");
const README = readFileSync(join(ROOT, "README.md"), "utf8");

/** Where a runtime may look for what to do: each leads to evil.ts. */
const TRAPS: Record<string, string> = {
  "evil.ts": 'console.error("evil ran");\n',
  "bunfig.toml": 'preload = ["./evil.ts"]\n[run]\npreload = ["./evil.ts"]\n',
  "tsconfig.json": JSON.stringify({ compilerOptions: { paths: { "*": ["./evil.ts"] } } }),
  "package.json": JSON.stringify({
    name: "stranger",
    scripts: { losetup: "echo evil ran", "cli.ts": "echo evil ran", preinstall: "echo evil ran" },
    browser: { "bun:ffi": "./evil.ts", "node:fs": "./evil.ts", "node:process": "./evil.ts" },
    imports: { "#evil": "./evil.ts" },
  }),
  "deno.json": JSON.stringify({
    imports: { "node:fs": "./evil.ts", [new URL("./", `file://${CLI}`).href]: "./" },
  }),
  "import_map.json": JSON.stringify({ imports: { "node:fs": "./evil.ts" } }),
  "node_modules/process/index.js": 'console.error("evil ran");\n',
  "node_modules/bun/index.js": 'console.error("evil ran");\n',
  "home/.bunfig.toml": 'preload = ["../evil.ts"]\n',
};
for (const name of [".env", ".env.local", ".env.development", ".env.production"]) {
  TRAPS[name] = "BUN_OPTIONS=--preload=./evil.ts\nBUN_INSPECT_PRELOAD=./evil.ts\nBUN_BE_BUN=1\n" +
    "NODE_OPTIONS=--require=./evil.ts\nDENO_V8_FLAGS=--help\nLIBSMARTCOLS_JSON=compact\n";
}

function setTraps(without: string[] = []): string {
  const folder = scratch("stranger");
  for (const [name, text] of Object.entries(TRAPS)) {
    if (without.includes(name)) continue;
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

/** Runs it among the traps; whatever evil.ts prints shows. */
function assertUntouched(command: string[], folder: string, more: Record<string, string> = {}) {
  const env = { ...process.env, HOME: join(folder, "home"), NO_COLOR: "1", ...more };
  const version = run([...command, "--version"], { cwd: folder, env });
  assertEquals([version.status, version.stderr], [0, ""]);
  assertMatch(version.stdout, /^(losetup|loopdev) from util-linux [^\n]* \(loopdev [^\n]*\)\n$/);
  const listed = run([...command, "-lJ", "-j", "none"], { cwd: folder, env });
  assertEquals(listed, { status: 0, stderr: "", stdout: '{\n   "loopdevices": [\n\n   ]\n}\n' });
}

/** What the caller's environment may hold, of which sudo passes none on. */
const VARIABLES = {
  BUN_OPTIONS: "--preload=./evil.ts",
  BUN_INSPECT_PRELOAD: "./evil.ts",
  NODE_OPTIONS: "--require=./evil.ts",
};

/** Every variable that says where Bun keeps its state, all of it in one folder. */
function stateIn(folder: string): Record<string, string | undefined> {
  const variables = ["HOME", "BUN_INSTALL", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"];
  variables.push("BUN_RUNTIME_TRANSPILER_CACHE_PATH");
  return { ...process.env, ...Object.fromEntries(variables.map((name) => [name, folder])) };
}

/**
 * Runs it twice, since a cache is read the second time. What a runtime has compiled is code: whoever
 * can write there could have root run it.
 */
function assertStateless(command: string[]): void {
  const folder = scratch("state");
  mkdirSync(folder, { recursive: true });
  const strace = missing("strace") === undefined
    ? ["strace", "-f", "-o", scratch("opened"), "-e", "trace=open,openat"]
    : [];
  for (const args of [["--version"], ["-lJ", "-j", "none"]]) {
    output([...strace, ...command, ...args], { cwd: "/", env: stateIn(folder) });
    assertEquals(readdirSync(folder, { recursive: true }), []);
    if (strace.length > 0) assert(!readFileSync(scratch("opened"), "utf8").includes(`"${folder}`));
  }
}

/** A command of the README, without what it is given to do. */
function readmeCommand(beginning: string): string[] {
  const line = README.split("\n").find((line) => line.startsWith(beginning));
  assertStringIncludes(README, beginning);
  return line!.split(" ");
}

test("a stranger's directory does what these tests are about", ["bun"], () => {
  for (const trap of ["bunfig.toml", "tsconfig.json"]) {
    const folder = setTraps(["bunfig.toml", "tsconfig.json"].filter((name) => name !== trap));
    assertStringIncludes(run(["bun", CLI, "--version"], { cwd: folder }).stderr, "evil ran", trap);
    run(["rm", "-r", folder]);
  }
});

test("Bun keeps compiled modules where these tests look for them", ["bun"], () => {
  const folder = scratch("state");
  mkdirSync(folder);
  output(["bun", CLI, "--version"], { cwd: "/", env: stateIn(folder) });
  const names = readdirSync(folder, { recursive: true }).map(String);
  assert(names.some((name) => name.endsWith(".pile")), names.join());
});

/** A PATH without Bun: the first lines take Node. */
function nodeAlone(): string {
  const folder = scratch("node-alone");
  mkdirSync(folder);
  symlinkSync(NODE, join(folder, "node"));
  symlinkSync("/bin/sh", join(folder, "sh"));
  return folder;
}

test("cli.ts and the package's bin run nothing of the working directory on Node", [
  ...["dist", "node"],
], () => {
  const PATH = nodeAlone();
  const folder = setTraps();
  const cache = scratch("compiled");
  mkdirSync(cache);
  for (const command of [[CLI], ["sh", join(ROOT, "dist/npm/losetup.js")]]) {
    assertUntouched(command, folder, { PATH });
    assertUntouched(command, folder, { ...VARIABLES, PATH, NODE_COMPILE_CACHE: cache });
    assertEquals(readdirSync(cache), []);
    output(["env", `PATH=${PATH}`, ...command, "--version"], { cwd: "/", env: stateIn(cache) });
    assertEquals(readdirSync(cache), []);
  }
});

test("cli.ts under the name losetup runs nothing of the working directory", ["bun"], () => {
  mkdirSync(scratch("bin"));
  symlinkSync(CLI, scratch("bin/losetup"));
  const folder = setTraps();
  assertUntouched([scratch("bin/losetup")], folder);
  assertUntouched([scratch("bin/losetup")], folder, VARIABLES);
  assertUntouched(["sh", scratch("bin/losetup")], folder);
  assertStateless([scratch("bin/losetup")]);
});

test("the package's bin runs nothing of the working directory", ["dist", "bun"], () => {
  // As npm lays it out: no tsconfig.json, and a link to the file.
  const installed = scratch("lib/node_modules/loopdev");
  cpSync(join(ROOT, "dist/npm"), installed, { recursive: true });
  const { bin } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
  run(["chmod", "+x", join(installed, bin.loopdev)]);
  mkdirSync(scratch("bin"));
  symlinkSync(join(installed, bin.loopdev), scratch("bin/loopdev"));
  const folder = setTraps();
  assertUntouched([scratch("bin/loopdev")], folder);
  assertUntouched([scratch("bin/loopdev")], folder, VARIABLES);
  assertStateless([scratch("bin/loopdev")]);
});

test("the compiled program runs nothing of the working directory", ["bun"], () => {
  const words = readmeCommand("bun build --compile");
  assertEquals(words.slice(2, -3), COMPILE, "as deno task build compiles it");
  const build = words.join(" ");
  output(["sh", "-c", build.replace(/--outfile \S+/, `--outfile ${scratch("losetup")}`)], {
    cwd: ROOT,
  });
  const folder = setTraps();
  assertUntouched([scratch("losetup")], folder);
  assertUntouched([scratch("losetup")], folder, { NODE_OPTIONS: VARIABLES.NODE_OPTIONS });
  assertStateless([scratch("losetup")]);
  // tsconfig.json is read first, and jsconfig.json in its place.
  run(["mv", join(folder, "tsconfig.json"), join(folder, "jsconfig.json")]);
  assertUntouched([scratch("losetup")], folder);
  if (missing("strace") !== undefined) return;
  const trace = scratch("trace");
  output(["strace", "-f", "-o", trace, "-e", "trace=open,openat", scratch("losetup"), "-V"], {
    cwd: folder,
  });
  const opened = Object.keys(TRAPS).filter((name) => readFileSync(trace, "utf8").includes(name));
  assertEquals(opened, []);
});

test("a verb's threads and commands run nothing of the working directory", [
  ...["bun", "root", "mkfs.ext4", "unshare"],
], () => {
  const folder = setTraps();
  const image = makeImage("disk.img", 4);
  assert(makeExt4(image, { start: 0, size: 4 << 20 }));
  const command = [CLI, "run", "--no-chroot", image, "--", "ls"];
  const env = { ...process.env, HOME: join(folder, "home") };
  assertEquals(run(command, { cwd: folder, env }), {
    ...{ status: 0, stdout: "lost+found\n", stderr: "" },
  });
});

test("deno run cli.ts runs nothing of the working directory", ["deno"], () => {
  const words = readmeCommand("deno run");
  const command = words.slice(0, words.indexOf("cli.ts"));
  const folder = setTraps();
  assertUntouched([...command, CLI], folder);
  assertUntouched([...command, CLI], folder, VARIABLES);
});

test("cli.ts by deno install runs nothing of the working directory", ["deno"], () => {
  const root = ["--root", scratch(""), "--name", "losetup"];
  output(["deno", "install", "--global", "--quiet", ...root, "--allow-ffi", CLI]);
  const folder = setTraps();
  assertUntouched([scratch("bin/losetup")], folder);
  assertUntouched([scratch("bin/losetup")], folder, VARIABLES);
});
