/** The npm package: its manifest, its README, and what checkers of packages say of it. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import about from "../package.json" with { type: "json" };
import { packageReadme } from "../dev/npm_package.ts";
import { DIST, dist, project, TARBALL, VERSION, withDist } from "./support/package.ts";
import { onRuntime, output, ROOT, run, RUNTIMES, scratch, test } from "./support/support.ts";

const FILES =
  "CHANGELOG.md LICENSE README.md gpt.d.ts gpt.js loopdev.8 loopdev.bun.cjs loopdev.bun.cjs.jsc " +
  "loopdev.bun.js loopdev.d.ts loopdev.deno.js loopdev.deno.late.js loopdev.deno.shared.js " +
  "loopdev.js loopdev.late.cjs loopdev.late.cjs.jsc losetup.js package.json require.cjs " +
  "require.d.cts";

withDist("the package has twenty files, no dependency, and the version of deno.json", [
  "dist",
  "tar",
], () => {
  const listed = output(["tar", "-tf", TARBALL]).trim().split("\n").toSorted();
  assertEquals(listed, FILES.split(" ").map((name) => `package/${name}`).toSorted());
  const about = JSON.parse(dist("npm/package.json"));
  assertEquals([about.name, about.version, about.private], ["loopdev", VERSION, undefined]);
  for (const key of Object.keys(about)) assert(!/dependencies/i.test(key), key);
});

withDist("publint --strict has nothing to say of the package", ["dist", "publint"], () => {
  const env = { ...process.env, NO_COLOR: "1" };
  const { status, stdout, stderr } = run(["publint", "run", "--strict", TARBALL], { env });
  assertEquals(status, 0, stdout + stderr);
  assertMatch(stdout, /^All good!$/m);
});

withDist("attw finds the package's types where every import does", ["dist", "attw"], () => {
  const options = ["--profile", "esm-only", "--no-emoji", "--no-color", "--format", "ascii"];
  const { status, stdout, stderr } = run(["attw", ...options, TARBALL]);
  assertEquals(status, 0, stdout + stderr);
  assertEquals(stdout.match(/^(node16 \(from ESM\)|bundler): OK/gm)?.length, 6, stdout);
});

/** GitHub's names of headings. */
const anchor = (heading: string) =>
  `#${heading.toLowerCase().replaceAll(/[^\w -]/g, "").replaceAll(" ", "-")}`;
const LINK = /\]\(([^)]*)\)/g;

test("packageReadme() leaves nothing that only the repository has, and links the rest", [
  "git",
], () => {
  const readme = packageReadme(readFileSync(join(ROOT, "README.md"), "utf8"), {
    ...{ name: "loopdev", version: "1.2.3", repository: "https://example.org/loopdev" },
  });
  for (const trace of ["mod.ts", "gpt.ts", "not published", "npm test", "deno task", "<!--"]) {
    assert(!readme.includes(trace), trace);
  }
  // Programs of the repository are linked, not run.
  for (const [, line] of readme.matchAll(/^(?:npx|bun|deno|\.\/)(.*)$/gm)) {
    assert(!/examples\/|cli\.ts|dist\//.test(line), line);
  }
  const headings = [...readme.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchor(heading));
  const links = [...readme.matchAll(LINK)].map(([, link]) => link);
  assert(links.length > 10);
  for (const link of links) {
    if (link.startsWith("#")) assert(headings.includes(link), link);
    else assertMatch(link, /^https:\/\//);
  }
  const own = links.filter((link) => link.startsWith("https://example.org/loopdev/"));
  for (const link of own) {
    const [, path] = /^https:\/\/example\.org\/loopdev\/(?:blob|raw)\/v1\.2\.3\/([^#]+)/.exec(
      link,
    )!;
    assert(output(["git", "ls-files", path], { cwd: ROOT }) !== "", link);
  }
});

test("packageReadme() without an address of the repository links nothing of it", [], () => {
  const text = "[a](docs/a.md), [b](https://example.org/b), [c](#c)\n\n![d](docs/d.svg)\n";
  const readme = packageReadme(text, { name: "loopdev", version: "1.2.3", repository: "" });
  assertEquals(readme, "a, [b](https://example.org/b), [c](#c)\n\n\n");
});

withDist("the examples of the package's README are checked by tsc in a project with the package", [
  "dist",
  "npm",
  "tsc",
], () => {
  const folder = project("npm");
  const blocks = [...dist("npm/README.md").matchAll(/^```ts\n([^]*?)^```$/gm)];
  assert(blocks.length > 4);
  const files = blocks.map(([, text], index) => {
    const name = `example${index}.ts`;
    writeFileSync(join(folder, name), text);
    return name;
  });
  const node = "export function writeFileSync(path: string, data: string): void;";
  writeFileSync(join(folder, "node.d.ts"), `declare module "node:fs" { ${node} }\n`);
  const compilerOptions = { strict: true, noEmit: true, types: [], target: "esnext" };
  const config = { compilerOptions, files: [...files, "node.d.ts"] };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config));
  const { status, stdout } = run(["tsc", "--pretty", "false", "--project", folder], {
    timeout: 110_000,
  });
  assertEquals([status, stdout], [0, ""]);
});

const USE_IMPORT =
  'loopdev is an ES module: import it, or use await import("loopdev") in a CommonJS file';

for (const command of [["node"], ["bun"], ["deno", "run", "--no-prompt"]]) {
  withDist(`require("loopdev") on ${command[0]} says to import it`, [
    "dist",
    "npm",
    command[0],
  ], () => {
    const folder = project("npm");
    const script = join(folder, "main.cjs");
    writeFileSync(script, 'const { attach } = require("loopdev");\n');
    const { status, stderr } = run([...command, script], { cwd: folder });
    assertEquals(status, 1);
    // Bun shows the line that throws, too.
    const errors = stderr.match(/^(?:.*\bUncaught .*)?Error: loopdev .*$/gmi);
    assertEquals(errors?.map((line) => line.replace(/^.*?rror: (Uncaught .*Error: )?/, "")), [
      USE_IMPORT,
    ], stderr);
  });
}

withDist('await import("loopdev") in a CommonJS file finds the library', [
  "dist",
  "npm",
  "bun",
], () => {
  const folder = project("npm");
  const script = join(folder, "main.cjs");
  const use = 'import("loopdev").then(({ attach }) => console.log(typeof attach));\n';
  writeFileSync(script, `${use}console.log(typeof require("loopdev/gpt").encodeGpt);\n`);
  assertEquals(output(["bun", script], { cwd: folder }), "function\nfunction\n");
});

withDist("each class of the package has the name that users import, on each runtime", [
  ...["dist", "npm", "bun", "deno", "node"] as const,
], () => {
  const folder = project("npm");
  const script = join(folder, "main.mjs");
  // Printing an error shows its class's name.
  writeFileSync(
    script,
    `import * as all from "loopdev";
    const isClass = (value) => Object.getOwnPropertyDescriptor(value, "prototype")?.writable === false;
    const classes = Object.entries(all).filter(([, value]) => isClass(value));
    console.log(classes.map(([name, value]) => name + " " + value.name).join());\n`,
  );
  const names = "LoopDevice LoopDevice,LoopError LoopError\n";
  for (const runtime of RUNTIMES) {
    assertEquals(output(onRuntime(runtime, script), { cwd: folder }), names, runtime);
  }
});

withDist("npm installs the package for the machines that it is for alone", ["dist", "npm"], () => {
  const folder = dirname(scratch("package.json"));
  // There is no such machine here: npm asks Node what it runs on, and gets a made-up answer.
  const fake = scratch("fake.cjs");
  for (const [key, value] of [["platform", "darwin"], ["arch", "ppc64"]]) {
    const property = `{ value: ${JSON.stringify(value)} }`;
    writeFileSync(fake, `Object.defineProperty(process, ${JSON.stringify(key)}, ${property});\n`);
    const { status, stderr } = run(["npm", "install", "--offline", "--no-audit", TARBALL], {
      cwd: folder,
      env: { ...process.env, NODE_OPTIONS: `--require=${fake}` },
    });
    assertEquals(status, 1);
    assertMatch(stderr, /^npm (error|ERR!) code EBADPLATFORM$/m);
    assertMatch(stderr, /Unsupported platform for loopdev@.*"linux".*"x64,arm64"/);
  }
});

withDist("the package names its repository once that has an address", ["dist"], () => {
  const { repository, homepage, bugs } = JSON.parse(dist("npm/package.json"));
  const at = about.repository;
  const links = [homepage, bugs, repository?.url];
  assertEquals(
    links,
    at === "" ? [undefined, undefined, undefined] : [
      ...[`${at}#readme`, `${at}/issues`, `git+${at}.git`],
    ],
  );
  assertEquals(readdirSync(join(DIST, "npm")).length, FILES.split(" ").length);
});

withDist("dev/deno_start.json names what Deno runs while it attaches, mounts and detaches", [
  ...["root", "bun", "deno", "mkfs.ext4", "sfdisk"] as const,
], () => {
  const file = "dev/deno_start.json";
  const named = new Set(JSON.parse(readFileSync(join(ROOT, file), "utf8")));
  const ran: string[] = JSON.parse(output(["bun", "dev/deno_start.mjs"], { cwd: ROOT }));
  const unnamed = ran.filter((name) => !named.has(name));
  // Kernels differ in what has to be done on them.
  const hint = `${unnamed.join(", ")}: bun dev/deno_start.mjs > ${file}`;
  assert(unnamed.length <= ran.length / 10, hint);
});
