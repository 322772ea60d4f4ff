/**
 * dist/ as users get it: from a URL, from the npm package, as a program, and as types. Needs
 * `deno task build` before.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { spawn, type SpawnOptionsWithoutStdio } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import process from "node:process";
import {
  assertDetached,
  losetup,
  makeImage,
  NODE,
  output,
  ROOT,
  run,
  scratch,
  THREE_PARTITIONS,
  until,
} from "./support/support.ts";
import { DIST, dist, project, TARBALL, VERSION, withDist } from "./support/package.ts";

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

withDist("SHA256SUMS has every file of dist/, with its sum", ["dist"], () => {
  const sums = Object.fromEntries(
    dist("SHA256SUMS").trim().split("\n").map((line) => line.split("  ").toReversed()),
  );
  const files = readdirSync(DIST).filter((name) => !["npm", "doc", "SHA256SUMS"].includes(name))
    // The verbs have a link to the program.
    .filter((name) => !lstatSync(join(DIST, name)).isSymbolicLink());
  assertEquals(Object.keys(sums).toSorted(), files.toSorted());
  for (const name of files) {
    const sum = createHash("sha256").update(readFileSync(join(DIST, name))).digest("hex");
    assertEquals(sums[name], sum, name);
  }
});

withDist("loopdev.js imports the runtimes' FFI alone, loopdev.d.ts nothing", ["dist"], () => {
  const imported = [...dist("loopdev.js").matchAll(/\b(?:from|import) ?\(? ?"([^"]+)"/g)];
  assertEquals(new Set(imported.map(([, name]) => name)), new Set(["bun:ffi", "node:ffi"]));
  const declared = dist("loopdev.d.ts").replaceAll(/\/\*\*[^]*?\*\//g, "");
  assert(!/\bimport\b|\bfrom\s*["']/.test(declared));
  assertStringIncludes(declared, "declare function attach(");
});

async function listen(answer: (path: string, response: ServerResponse) => void) {
  const requests: string[] = [];
  const server = createServer(({ url }, response) => {
    requests.push(url!);
    answer(url!, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { host, requests, [Symbol.dispose]: () => void server.close() };
}

/** A server of dist/: what it has as a content type for a name's end, or for all others (""). */
function serve(types: Record<string, string | undefined>) {
  return listen((path, response) => {
    const [name, extension] = /^\/([\w.]+\.(\w+))$/.exec(path)!.slice(1);
    const type = types[extension] ?? types[""];
    if (type !== undefined) response.setHeader("content-type", type);
    response.end(dist(name));
  });
}

/** A registry that has the package alone. */
function registry() {
  const tarball = readFileSync(TARBALL);
  const integrity = `sha512-${createHash("sha512").update(tarball).digest("base64")}`;
  return listen((path, response) => {
    if (path.endsWith(".tgz")) return response.end(tarball);
    if (path !== "/loopdev") return response.writeHead(404).end("{}");
    const dist = { integrity, tarball: `http://${response.req.headers.host}/loopdev.tgz` };
    const version = { ...JSON.parse(readFileSync(join(DIST, "npm/package.json"), "utf8")), dist };
    const tags = { latest: VERSION };
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify({ name: "loopdev", "dist-tags": tags, versions: { [VERSION]: version } }),
    );
  });
}

/** Runs a command to its end; a server of ours answers it meanwhile. */
async function finish([name, ...args]: string[], options: SpawnOptionsWithoutStdio = {}) {
  const child = spawn(name, args, options);
  let stdout = "", stderr = "";
  child.stdout.on("data", (data) => stdout += data);
  child.stderr.on("data", (data) => stderr += data);
  const status = await new Promise((resolve) => child.on("close", resolve));
  return { status, stdout, stderr };
}
const ALONE = ["--no-lock", "--no-config", "--reload"];

withDist("loopdev.js from a URL on Deno: one request, --allow-import and --allow-ffi", [
  "dist",
  "root",
  "deno",
], async () => {
  const file = makeImage("url.img", 8, THREE_PARTITIONS);
  using server = await serve({ js: "text/javascript" });
  const script = program(`http://${server.host}/loopdev.js`, file);
  const options = ["--no-prompt", ...ALONE, "--allow-ffi", `--allow-import=${server.host}`];
  const { status, stdout, stderr } = await finish(["deno", "run", ...options, script]);
  assertEquals([status, stdout], [0, PRINTED], stderr);
  assertEquals(server.requests, ["/loopdev.js"]);
  assertDetached(file);
});

/**
 * What servers call .ts and .mts. Deno takes types of a content type that it does not know for `any`,
 * without a word.
 */
const SERVERS: Record<string, Record<string, string | undefined>> = {
  "Debian's table: python3 -m http.server": {
    ...{ js: "text/javascript", ts: "text/vnd.trolltech.linguist", mts: "model/vnd.mts" },
    "": "application/octet-stream",
  },
  "nginx": { js: "application/javascript", ts: "video/mp2t", "": "application/octet-stream" },
  "a server of Node: no type for the rest": {
    ...{ js: "text/javascript; charset=utf-8", ts: "video/mp2t", mts: "model/vnd.mts" },
  },
  "a forge's raw files": { "": "text/plain; charset=utf-8" },
  "a server that knows TypeScript": {
    ...{ js: "text/javascript", ts: "text/typescript", mts: "text/typescript" },
    cts: "text/typescript",
  },
};
for (const [name, types] of Object.entries(SERVERS)) {
  withDist(`loopdev.js and gpt.js have their types on Deno from a URL of ${name}`, [
    "dist",
    "deno",
  ], async () => {
    using server = await serve(types);
    const script = scratch("typed.ts");
    const from = (name: string) => `from "http://${server.host}/${name}.js";\n`;
    writeFileSync(
      script,
      `import { attach } ${from("loopdev")}import { encodeGpt } ${from("gpt")}` +
        "const loop = await attach(1);\nloop.size satisfies number;\nencodeGpt(2);\n",
    );
    const env = { ...process.env, NO_COLOR: "1" };
    const command = ["deno", "check", ...ALONE, "--allow-import", script];
    const { stderr } = await finish(command, { env });
    const wrong = [...stderr.matchAll(/^(TS\d+) \[ERROR\].*\n(.*)$/gm)];
    assertEquals(wrong.map(([, code, line]) => `${code} ${line}`), [
      "TS2345 const loop = await attach(1);",
      "TS2554 encodeGpt(2);",
    ], stderr);
  });
}

const ON_DENO = ["deno", "run", "--no-prompt", "--allow-ffi"];
const ON_NODE = [NODE, "--disable-warning=ExperimentalWarning"];
const USES: Record<string, ["npm" | "bun", command: string[]]> = {
  "Bun, after bun add": ["bun", ["bun"]],
  "Deno, after npm install": ["npm", ON_DENO],
  "Deno, nodeModulesDir manual": ["npm", [...ON_DENO, "--node-modules-dir=manual"]],
  "Node, after npm install": ["npm", ON_NODE],
};
for (const [name, [installer, command]] of Object.entries(USES)) {
  const runtime = command[0] === NODE ? "node" : command[0];
  withDist(`the package on ${name}`, ["dist", "root", installer, runtime], () => {
    const folder = project(installer);
    const file = makeImage("package.img", 8, THREE_PARTITIONS);
    const printed = output([...command, program("loopdev", file)], { cwd: folder });
    assertEquals(printed, PRINTED);
    assertDetached(file);
  });

  withDist(`an error of the package that nobody catches can be read on ${name}`, [
    ...["dist", installer, runtime],
  ], () => {
    const folder = project(installer);
    const { status, stderr } = run([...command, program("loopdev", "/no/such.img")], {
      cwd: folder,
      env: { ...process.env, NO_COLOR: "1" },
    });
    assertEquals(status, 1);
    assertMatch(stderr, /\bENOENT: no such file or directory, open '\/no\/such\.img'/);
    for (const line of stderr.split("\n")) assert(line.length < 200, line);
  });
}

/** Which files of the package a script has loaded, and what it prints of a bug gate. */
const LOADED = `import { isAffected } from "loopdev";
  const names = Object.keys(require.cache).map((path) => path.split("/").at(-1));
  console.log(isAffected("6.1.0"), names.filter((name) => /loopdev\\./.test(name)).sort().join());\n`;

withDist("the package on Bun is compiled in advance, for the Bun that built it alone", [
  "dist",
  "bun",
], () => {
  const folder = project("bun");
  writeFileSync(join(folder, "main.ts"), LOADED);
  const use = (...args: string[]) => output(["bun", ...args], { cwd: folder });
  // What mounts is not loaded yet.
  assertEquals(use("main.ts"), "true loopdev.bun.cjs,loopdev.bun.js\n");
  const entry = join(folder, "node_modules/loopdev/loopdev.bun.js");
  const code = readFileSync(entry, "utf8");
  rmSync(entry);
  writeFileSync(entry, code.replace(/Bun\.revision === "\w+"/, 'Bun.revision === "another"'));
  assertEquals(use("main.ts"), "true loopdev.bun.js,loopdev.js\n");
});

withDist("Deno's cache has most functions that an attach of the package runs", [
  "dist",
  "deno",
  "root",
], () => {
  const file = makeImage("cached.img", 8, THREE_PARTITIONS);
  const log = scratch("v8.log");
  const flags = `--v8-flags=--log-function-events,--no-logfile-per-isolate,--logfile=${log}`;
  const env = { ...process.env, DENO_DIR: scratch("deno") };
  /** How many functions of a library V8 compiles when the cache has been filled. */
  const compiled = (library: string) => {
    const script = program(join(DIST, library), file);
    for (let runs = 0; runs < 3; runs++) {
      rmSync(log, { force: true });
      assertEquals(output(["deno", "run", "--allow-ffi", flags, script], { env }), PRINTED);
    }
    const lines = readFileSync(log, "utf8").split("\n");
    const scripts = lines.map((line) => /^script-details,(\d+),.*\/loopdev\./.exec(line)?.[1]);
    const of = (line: string) => /^function,interpreter,(\d+)/.exec(line)?.[1];
    return lines.filter((line) => of(line) !== undefined && scripts.includes(of(line))).length;
  };
  const [plain, forDeno] = [compiled("loopdev.js"), compiled("loopdev.deno.js")];
  assert(forDeno > 0 && forDeno < plain / 2, `${forDeno}, and ${plain} of loopdev.js`);
});

withDist("the package works in what bun build makes of it", ["dist", "bun", "root"], () => {
  const folder = project("bun");
  const file = makeImage("bundled.img", 8, THREE_PARTITIONS);
  const script = program("loopdev", file);
  copyFileSync(script, join(folder, "main.ts"));
  const bundle = join(dirname(scratch("elsewhere")), "main.js");
  output(["bun", "build", "main.ts", "--target=bun", `--outfile=${bundle}`], { cwd: folder });
  assertEquals(output(["bun", bundle]), PRINTED);
  assertDetached(file);
});

/** The command lines that run the package's program: where it is installed, and where it is not. */
const BINS: Record<string, string[]> = {
  "npx": ["npx", "--offline", "loopdev"],
  "npx, on Node alone": ["npx", "--offline", "loopdev"],
  "bunx": ["bunx", "loopdev"],
  "npx of the tarball": ["npx", "--offline", "--yes", `--package=${TARBALL}`, "loopdev"],
  "bunx of the tarball": ["bunx", `--package=${TARBALL}`, "loopdev"],
  "npx of a registry": ["npx", "--yes", "loopdev"],
  "bunx of a registry": ["bunx", "loopdev"],
  "Deno": ["deno", "run", "--no-prompt", "--quiet", "--allow-ffi", "npm:loopdev"],
  "Deno of a registry": ["deno", "run", "--no-prompt", "--quiet", "--allow-ffi", "npm:loopdev"],
};

/** A PATH with npm's programs, sh, and a Node that has an FFI: no other runtime. */
function nodeAlone(): string {
  const folder = scratch("node-alone");
  mkdirSync(folder);
  symlinkSync(NODE, join(folder, "node"));
  for (const name of ["npm", "npx", "sh"]) {
    symlinkSync(output(["sh", "-c", `command -v ${name}`]).trim(), join(folder, name));
  }
  return folder;
}

for (const [name, command] of Object.entries(BINS)) {
  const needs = ["dist", "root", "npm", "bun", "deno", ...command[0] === "npx" ? ["npx"] : []];
  withDist(`the package's program by ${name}`, needs, async () => {
    const cwd = name.includes(" of ") ? dirname(scratch("elsewhere")) : project("npm");
    using server = await registry();
    const cache = scratch("cache");
    const ofRegistry = {
      ...{ npm_config_registry: `http://${server.host}/`, npm_config_cache: cache },
      ...{ NPM_CONFIG_REGISTRY: `http://${server.host}/`, DENO_DIR: cache },
      ...{ BUN_INSTALL_CACHE_DIR: cache, TMPDIR: cwd },
    };
    const env: Record<string, string | undefined> = {
      ...process.env,
      ...name.includes("registry") ? ofRegistry : {},
    };
    if (name.endsWith("on Node alone")) env.PATH = nodeAlone();
    const file = makeImage("bin.img", 1);
    const use = async (...args: string[]) => {
      const { status, stdout, stderr } = await finish([...command, ...args], { cwd, env });
      assertEquals(status, 0, stderr);
      assert(!stderr.includes("ExperimentalWarning"), stderr);
      return stdout.trim();
    };
    const device = await use("--find", "--show", file);
    try {
      assertEquals(losetup(file).map(({ name }) => name), [device]);
    } finally {
      await use("--detach", device);
    }
    assertDetached(file);
    assertMatch(
      await use("--version"),
      new RegExp(`^loopdev from util-linux [\\d.]+ \\(loopdev ${VERSION}\\)$`, "m"),
    );
    assertEquals(server.requests.includes("/loopdev"), name.includes("registry"));
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
