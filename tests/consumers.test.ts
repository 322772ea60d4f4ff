/**
 * dist/ as users get it: from a URL, from the npm package, as a program, and as types. Needs
 * `deno task build` before.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import process from "node:process";
import {
  losetup,
  makeImage,
  output,
  ROOT,
  run,
  scratch,
  testsOf,
  THREE_PARTITIONS,
  until,
} from "./support/support.ts";

/** It starts the same programs, whichever runtime does: on one of them is enough. */
const withDist: ReturnType<typeof testsOf> = "Bun" in globalThis
  ? testsOf("what users get, in dist/", ["dist"])
  : () => {};

const DIST = join(ROOT, "dist");
const { version } = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8"));
const TARBALL = join(DIST, `loopdev-${version}.tgz`);
const dist = (name: string) => readFileSync(join(DIST, name), "utf8");

/** A program of a user's, which prints the partitions' names. */
function program(from: string, image: string): string {
  const script = scratch("main.ts");
  writeFileSync(
    script,
    `import { attach } from ${JSON.stringify(from)};
     await using loop = await attach(${JSON.stringify(image)}, { partscan: true });
     console.log(loop.partitions.map(({ name }) => name).join());`,
  );
  return script;
}
const PRINTED = "one,zwei ü,three\n";

/** A user's project with the package installed; the folder. */
function project(installer: "npm" | "bun"): string {
  const folder = dirname(scratch("package.json"));
  writeFileSync(join(folder, "package.json"), '{ "name": "user", "type": "module" }');
  const quiet = ["--no-audit", "--no-fund", "--offline", "--silent"];
  if (installer === "bun") output(["bun", "add", TARBALL], { cwd: folder });
  else output(["npm", "install", ...quiet, TARBALL], { cwd: folder });
  return folder;
}

withDist("SHA256SUMS has every file of dist/, with its sum", ["dist"], () => {
  const sums = Object.fromEntries(
    dist("SHA256SUMS").trim().split("\n").map((line) => line.split("  ").toReversed()),
  );
  const files = readdirSync(DIST).filter((name) => !["npm", "doc", "SHA256SUMS"].includes(name));
  assertEquals(Object.keys(sums).toSorted(), files.toSorted());
  for (const name of files) {
    const sum = createHash("sha256").update(readFileSync(join(DIST, name))).digest("hex");
    assertEquals(sums[name], sum, name);
  }
});

withDist("the package has ten files, no dependency, and the version of deno.json", [
  "dist",
  "tar",
], () => {
  const listed = output(["tar", "-tf", TARBALL]).trim().split("\n").toSorted();
  const files =
    "CHANGELOG.md LICENSE README.md gpt.d.ts gpt.js loopdev.8 loopdev.d.ts loopdev.js losetup.js";
  assertEquals(
    listed,
    [...files.split(" "), "package.json"].map((name) => `package/${name}`).toSorted(),
  );
  const about = JSON.parse(dist("npm/package.json"));
  assertEquals([about.name, about.version, about.private], ["loopdev", version, undefined]);
  for (const key of Object.keys(about)) assert(!/dependencies/i.test(key), key);
});

withDist("loopdev.js imports bun:ffi alone, loopdev.d.ts nothing", ["dist"], () => {
  const imported = [...dist("loopdev.js").matchAll(/\b(?:from|import) ?\(? ?"([^"]+)"/g)];
  assertEquals(new Set(imported.map(([, name]) => name)), new Set(["bun:ffi"]));
  const declared = dist("loopdev.d.ts").replaceAll(/\/\*\*[^]*?\*\//g, "");
  assert(!/\bimport\b|\bfrom\s*["']/.test(declared));
  assertStringIncludes(declared, "declare function attach(");
});

withDist("loopdev.js from a URL on Deno: one request, --allow-import and --allow-ffi", [
  "dist",
  "root",
  "deno",
], async () => {
  const file = makeImage("url.img", 8, THREE_PARTITIONS);
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(request.url!);
    response.setHeader("content-type", "text/javascript");
    response.end(dist("loopdev.js"));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const script = program(`http://${host}/loopdev.js`, file);
    const options = ["--no-prompt", "--no-lock", "--no-config", "--reload", "--allow-ffi"];
    const child = spawn("deno", ["run", ...options, `--allow-import=${host}`, script]);
    let stdout = "", stderr = "";
    child.stdout.on("data", (data) => stdout += data);
    child.stderr.on("data", (data) => stderr += data);
    const status = await new Promise((resolve) => child.on("close", resolve));
    assertEquals([status, stdout], [0, PRINTED], stderr);
  } finally {
    server.close();
  }
  assertEquals(requests, ["/loopdev.js"]);
  assertEquals(losetup(file), []);
});

const USES: Record<string, ["npm" | "bun", command: string[]]> = {
  "Bun, after bun add": ["bun", ["bun"]],
  "Deno, after npm install": ["npm", ["deno", "run", "--no-prompt", "--allow-ffi"]],
  "Deno, nodeModulesDir manual": [
    "npm",
    ["deno", "run", "--no-prompt", "--allow-ffi", "--node-modules-dir=manual"],
  ],
};
for (const [name, [installer, command]] of Object.entries(USES)) {
  const needs = ["dist", "root", installer, command[0]];
  withDist(`the package on ${name}`, needs, () => {
    const folder = project(installer);
    const file = makeImage("package.img", 8, THREE_PARTITIONS);
    const printed = output([...command, program("loopdev", file)], { cwd: folder });
    assertEquals(printed, PRINTED);
    assertEquals(losetup(file), []);
  });
}

withDist("the package on Node says what to run instead", ["dist", "npm", "node"], () => {
  const folder = project("npm");
  const script = join(folder, "main.js");
  writeFileSync(script, 'import { attach } from "loopdev";\nconsole.log(attach);\n');
  const { status, stdout, stderr } = run(["node", script]);
  assertEquals([status, stdout], [1, ""]);
  assertMatch(
    stderr,
    /^TypeError: loopdev calls libc .* with `bun` or with `deno run --allow-ffi`$/m,
  );
  assert(!stderr.includes("SyntaxError"), stderr);
});

/** The command lines that run the package's program: where it is installed, and where it is not. */
const BINS: Record<string, string[]> = {
  "npx": ["npx", "--offline", "loopdev"],
  "bunx": ["bunx", "loopdev"],
  "npx of the tarball": ["npx", "--offline", "--yes", `--package=${TARBALL}`, "loopdev"],
  "bunx of the tarball": ["bunx", `--package=${TARBALL}`, "loopdev"],
  "Deno": ["deno", "run", "--no-prompt", "--quiet", "--allow-ffi", "npm:loopdev"],
};
for (const [name, command] of Object.entries(BINS)) {
  const needs = ["dist", "root", "npm", "bun", "deno", ...command[0] === "npx" ? ["npx"] : []];
  withDist(`the package's program by ${name}`, needs, () => {
    const isInstalled = !name.includes("tarball");
    const folder = isInstalled ? project("npm") : dirname(scratch("elsewhere"));
    const file = makeImage("bin.img", 1);
    const use = (...args: string[]) => output([...command, ...args], { cwd: folder }).trim();
    const device = use("--find", "--show", file);
    try {
      assertEquals(losetup(file).map(({ name }) => name), [device]);
    } finally {
      use("--detach", device);
    }
    assertEquals(losetup(file), []);
    assertMatch(
      use("--version"),
      new RegExp(`^loopdev from util-linux [\\d.]+ \\(loopdev ${version}\\)$`, "m"),
    );
  });
}

withDist("the compiled losetup attaches and detaches, and obeys nothing of where it is run", [
  "dist",
  "root",
], async () => {
  const file = makeImage("compiled.img", 8, THREE_PARTITIONS);
  const cwd = dirname(file);
  writeFileSync(join(cwd, "evil.ts"), 'console.error("evil ran");\n');
  writeFileSync(join(cwd, "bunfig.toml"), 'preload = ["./evil.ts"]\n');
  writeFileSync(join(cwd, ".env"), "BUN_OPTIONS=--preload=./evil.ts\n");
  const losetupOfOurs = join(DIST, "losetup");
  const device = run([losetupOfOurs, "-fP", "--show", file], { cwd });
  assertEquals([device.status, device.stderr], [0, ""]);
  const path = device.stdout.trim();
  assertEquals(losetup(file).map(({ name }) => name), [path]);
  const partitions = readdirSync("/dev").map((name) => `/dev/${name}`)
    .filter((name) => name.startsWith(`${path}p`)).toSorted();
  assertEquals(partitions, [1, 2, 3].map((number) => `${path}p${number}`));
  const detached = run([losetupOfOurs, "--detach", path], { cwd });
  assertEquals(detached, { status: 0, stdout: "", stderr: "" });
  await until(() => losetup(file).length === 0, "the kernel to detach");
});

/** What users' tsconfig.json says of modules; `skipLibCheck` stays out, so that our file is checked. */
const TSCONFIGS: Record<string, object> = {
  "bundler": { module: "preserve", moduleResolution: "bundler", types: [] },
  "nodenext": { module: "nodenext", moduleResolution: "nodenext", types: [] },
  "an older target": { module: "nodenext", target: "es2022", types: [] },
};

/** Uses what is declared. */
const TYPED = `import { attach, attachAll, LoopError, type AttachOptions } from "loopdev";
const options: AttachOptions = { partscan: true, signal: new AbortController().signal };
const loop = await attach(new URL("file:///disk.img"), options);
const sizes: number[] = loop.partitions.map(({ size }) => size);
for (const { path } of await attachAll(["a", "b"])) path satisfies string;
const seq: number | undefined = loop.toJSON().diskseq;
await loop[Symbol.asyncDispose]().catch((error) => error instanceof LoopError && error.code);
export { seq, sizes };
`;

const FILES = ["main.ts", "mistakes.ts"];
const MISTAKES = `import { attach } from "loopdev";
const loop = await attach(1);
loop.partitions.push(loop.partitions[0]!);
`;

/** Writes the two, runs tsc, and gives the lines with errors: those of MISTAKES, and nothing else. */
function typecheck(folder: string): void {
  writeFileSync(join(folder, "main.ts"), TYPED);
  writeFileSync(join(folder, "mistakes.ts"), MISTAKES);
  const command = ["tsc", "--noEmit", "--pretty", "false", "--project", folder];
  const { stdout } = run(command, { timeout: 110_000 });
  // Bun's own declarations are Bun's to mend.
  const errors = stdout.match(/^.*\berror TS\d+/gm)?.filter((line) =>
    !/@types|bun-types/.test(line)
  )
    .map((line) => line.split("/").at(-1)!);
  assertEquals(
    errors?.map((line) => line.replace(/\(.*error/, "")),
    ["mistakes.ts TS2345", "mistakes.ts TS2339"],
    stdout,
  );
}

for (const [name, compilerOptions] of Object.entries(TSCONFIGS)) {
  withDist(`the package's types: strict, ${name}`, ["dist", "npm", "tsc"], () => {
    const folder = project("npm");
    const config = { compilerOptions: { strict: true, ...compilerOptions }, files: FILES };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
    typecheck(folder);
  });
}

withDist("the package's types: the tsconfig.json of bun init, every library checked", [
  "dist",
  "bun",
  "npm",
  "tsc",
], () => {
  const made = scratch("init");
  mkdirSync(made);
  // It goes on to install packages, which need not succeed.
  run(["bun", "init", "--yes"], { cwd: made });
  const folder = project("npm");
  symlinkSync(join(ROOT, "dev/node_modules/@types"), join(folder, "node_modules/@types"));
  symlinkSync(join(ROOT, "dev/node_modules/bun-types"), join(folder, "node_modules/bun-types"));
  const config = readFileSync(join(made, "tsconfig.json"), "utf8");
  assertStringIncludes(config, '"types": ["bun"]');
  writeFileSync(join(folder, "init.json"), config);
  const compilerOptions = { skipLibCheck: false };
  const own = { extends: "./init.json", compilerOptions, files: FILES };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(own));
  typecheck(folder);
});

withDist("the package's types on Deno", ["dist", "npm", "deno"], () => {
  const folder = project("npm");
  const check = (text: string) => {
    writeFileSync(join(folder, "main.ts"), text);
    const env = { ...process.env, NO_COLOR: "1" };
    return run(["deno", "check", "--quiet", "main.ts"], { cwd: folder, env });
  };
  assertEquals(check(TYPED).status, 0, check(TYPED).stderr);
  assertStringIncludes(check(`${TYPED}await attach(1);\n`).stderr, "TS2345");
});
