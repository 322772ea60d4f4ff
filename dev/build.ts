/**
 * Builds what users get into dist/: the library as one file and its types as another, losetup(8) as
 * a script and as a program, the manual page, the npm package, and the sums of them all; and the
 * documentation of every exported symbol, dist/doc/index.html. Built again
 * from the same sources it is the same, byte by byte.
 *
 *     deno task build
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import config from "../deno.json" with { type: "json" };
import about from "../package.json" with { type: "json" };
import { COMPILE } from "./compile.ts";
import { manifest, packageReadme, REQUIRE, SHARED } from "./npm_package.ts";
import { readOptions } from "./options.ts";

const HELP = `Usage: dev/build.ts

Builds what users get into dist/, which is removed first. Needs npm run setup before.

  -h, --help  this text`;
readOptions(HELP, {});

const ROOT = join(import.meta.dirname!, "..");
const DIST = join(ROOT, "dist");
const NPM = join(DIST, "npm");
/** What imports call it: on JSR, where names have a scope, and on npm. */
const [JSR_NAME, NPM_NAME] = [config.name, about.name];

const PATH = [join(ROOT, "dev/node_modules/.bin"), process.env.PATH].join(
  delimiter,
);

function run(command: string, ...args: string[]): void {
  const stdio = ["ignore", "ignore", "inherit"] as const;
  execFileSync(command, args, {
    cwd: ROOT,
    env: { ...process.env, PATH },
    stdio: [...stdio],
  });
}

/** Reads a file of dist/, and writes it again. */
function change(name: string, edit: (text: string) => string): void {
  const path = join(DIST, name);
  writeFileSync(path, edit(readFileSync(path, "utf8")));
}

/** One file of an entry and all that it imports. */
function bundle(entry: string, name: string, banner: string): void {
  run("bun", "dev/bundle.mjs", entry, join(DIST, name));
  change(name, (code) => banner + code.replace(/^(?:#!.*\n|\/\/ @bun\n)+/, ""));
}

/** The lines that start a script: the first, and a second one for sh that is a comment here. */
function firstLines(entry: string): string {
  return /^#!.*\n(?:\/\/ .*\n)?/.exec(
    readFileSync(join(ROOT, entry), "utf8"),
  )![0];
}

/** The module's description, which the roll-up drops; those of the files within, it leaves in. */
function declarations(entry: string, name: string): void {
  run(
    "rollup",
    entry,
    "--silent",
    "--plugin",
    "dts",
    "--file",
    join(DIST, name),
  );
  const description = /^\/\*\*[^]*?\*\/\n/.exec(readFileSync(join(ROOT, entry), "utf8"))![0];
  // AsyncDisposable is younger than what most users' tsconfig.json has.
  const references = '/// <reference lib="esnext.disposable" />\n';
  change(name, (text) => {
    const own = text.replaceAll(/\/\*\*(?:(?!\*\/)[^])*?@module\s*\*\/\n/g, "");
    return references + (description + own)
      .replaceAll(`"${JSR_NAME}`, `"${NPM_NAME}`).replaceAll(
        "```ts ignore",
        "```ts",
      );
  });
}

rmSync(DIST, { recursive: true, force: true });
mkdirSync(NPM, { recursive: true });

const title = `loopdev ${config.version}, ${config.license} licensed`;
bundle(
  "mod.ts",
  "loopdev.js",
  `// ${title}\n// @ts-self-types="./loopdev.d.cts"\n`,
);
// The same for Bun, compiled in advance.
run("bun", "dev/bun_bundle.mjs", DIST);
change(
  "loopdev.bun.js",
  (code) => `// ${title}: for Bun\n// @ts-self-types="./loopdev.d.cts"\n${code}`,
);
// For Deno, in the form of which it caches the most.
run("bun", "dev/deno_bundle.mjs", DIST);
change(
  "loopdev.deno.js",
  (code) => `// ${title}: for Deno\n// @ts-self-types="./loopdev.d.cts"\n${code}`,
);
bundle(
  "gpt.ts",
  "gpt.js",
  `// ${title}: GUID partition tables\n// @ts-self-types="./gpt.d.cts"\n`,
);
bundle(
  "cli.ts",
  "losetup.js",
  `${firstLines("cli.ts")}// losetup(8) of ${title}\n`,
);
declarations("mod.ts", "loopdev.d.ts");
declarations("gpt.ts", "gpt.d.ts");
// Deno goes by a server's content type, and takes what it does not know for `any` without a word:
// tables of types call .ts a film or a translation, and .mts a model. None has .cts.
for (const name of ["loopdev", "gpt"]) {
  copyFileSync(join(DIST, `${name}.d.ts`), join(DIST, `${name}.d.cts`));
}
// For people; what is published says the same in its types.
const docs = ["--html", "--name=loopdev", `--output=${join(DIST, "doc")}`];
run("deno", "doc", ...docs, "mod.ts", "gpt.ts");
run("bun", "build", ...COMPILE, "cli.ts", "--outfile", join(DIST, "losetup"));
// Under this name it has verbs.
symlinkSync("losetup", join(DIST, "loopdev"));
copyFileSync(join(ROOT, "docs/loopdev.8"), join(DIST, "loopdev.8"));

for (const name of SHARED) copyFileSync(join(DIST, name), join(NPM, name));
for (const name of ["loopdev.js", "loopdev.bun.js", "loopdev.deno.js", "gpt.js"]) {
  change(`npm/${name}`, (code) => code.replace('.d.cts"', '.d.ts"'));
}
for (const name of ["CHANGELOG.md", "LICENSE"]) {
  copyFileSync(join(ROOT, name), join(NPM, name));
}
const { name, repository } = about;
const readme = packageReadme(readFileSync(join(ROOT, "README.md"), "utf8"), {
  ...{ name, version: config.version, repository },
});
writeFileSync(join(NPM, "README.md"), readme);
for (const [name, text] of Object.entries(REQUIRE)) {
  writeFileSync(join(NPM, name), text);
}
writeFileSync(join(NPM, "package.json"), manifest());
run("npm", "pack", "--silent", NPM, "--pack-destination", DIST);

const files = readdirSync(DIST, { withFileTypes: true }).filter((entry) => entry.isFile());
const sums = files.map(({ name }) => name).toSorted().map((name) => {
  const content = readFileSync(join(DIST, name));
  console.log(`${String(content.length).padStart(10)}  dist/${name}`);
  return `${createHash("sha256").update(content).digest("hex")}  ${name}\n`;
});
writeFileSync(join(DIST, "SHA256SUMS"), sums.join(""));
