/**
 * The steps of a release, which .github/workflows/release.yml runs one by one.
 *
 *     deno task release STEP [--dry-run]
 *
 * Node can run it, too, so that a job with the right to publish installs nothing for it.
 */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { packageReadme } from "./npm_package.ts";
import { fail, readOptions } from "./options.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const DIST = join(ROOT, "dist");

const HELP = `Usage: dev/release.ts STEP [--dry-run]

  agree   the tag, deno.json, CHANGELOG.md, the manual page and package.json say the same
  npm     publishes dist/loopdev-VERSION.tgz
  jsr     publishes the sources to JSR
  files   makes the release's page, with the files of dist/ and what CHANGELOG.md says
  docs    what becomes the site is there: dist/doc

The tag and the repository are GITHUB_REF_NAME, and GITHUB_SERVER_URL/GITHUB_REPOSITORY.
--dry-run does all but the last: nothing leaves this machine.`;

/** What names a version or an address, and must name the same one. */
export interface Named {
  /** The tag that the release is made of: "v1.2.3". */
  tag: string;
  /** The address of the repository that the release is made in. */
  address: string;
  /** deno.json's version. */
  version: string;
  /** package.json's `repository`. */
  repository: string;
  changelog: string;
  manual: string;
}

/** What CHANGELOG.md says of a version; undefined if it has no section with a date for it. */
export function notesOf(changelog: string, version: string): string | undefined {
  const [, ...sections] = changelog.split(/^## /m);
  const own = sections.find((section) => section.startsWith(`[${version}] - `));
  const [, notes] = /^.* - \d{4}-\d{2}-\d{2}\n([^]*)$/.exec(own ?? "") ?? [];
  return notes?.trim() || undefined;
}

/** Why this must not be released; nothing if all say the same. */
export function disagreements(named: Named): string[] {
  const { tag, address, version, repository, changelog, manual } = named;
  const found = [];
  if (tag !== `v${version}`) found.push(`the tag is ${tag}, and deno.json has ${version}`);
  if (notesOf(changelog, version) === undefined) {
    found.push(`CHANGELOG.md has no text below "## [${version}] - YEAR-MONTH-DAY"`);
  }
  if (!manual.includes(`"loopdev ${version}"`)) {
    found.push(`docs/loopdev.8 is of another version: deno run -A dev/man_page.ts >docs/loopdev.8`);
  }
  if (repository === "") found.push("package.json names no repository");
  else if (repository !== address) {
    found.push(`package.json names ${repository}, and this is ${address}`);
  }
  return found;
}

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const { version, name: jsrName } = JSON.parse(read("deno.json"));
const { repository } = JSON.parse(read("package.json"));

/** Runs a command, and shows what it prints. */
function run([name, ...args]: string[], cwd = ROOT, input = ""): void {
  const path = [process.env.PATH, join(ROOT, "dev/node_modules/.bin")].join(delimiter);
  execFileSync(name, args, {
    cwd,
    env: { ...process.env, PATH: path },
    input,
    stdio: ["pipe", "inherit", "inherit"],
  });
}

function agree(): void {
  const { GITHUB_REF_NAME = "", GITHUB_SERVER_URL, GITHUB_REPOSITORY } = process.env;
  const found = disagreements({
    tag: GITHUB_REF_NAME,
    address: `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}`,
    ...{ version, repository, changelog: read("CHANGELOG.md"), manual: read("docs/loopdev.8") },
  });
  for (const what of found) console.error(what);
  if (found.length > 0) process.exitCode = 1;
}

/** A version with a "-" is for those who ask for it: npm's tag "next". */
const isPreview = version.includes("-");

function npm(dryRun: string[]): void {
  const options = ["--provenance", "--access", "public", "--tag", isPreview ? "next" : "latest"];
  run(["npm", "publish", join(DIST, `loopdev-${version}.tgz`), ...options, ...dryRun]);
}

/** From a copy, in which README.md is the package's. */
function jsr(dryRun: string[]): void {
  const folder = mkdtempSync(join(tmpdir(), "loopdev-jsr-"));
  try {
    const { include } = JSON.parse(read("deno.json")).publish;
    for (const name of [...include, "deno.json"]) {
      cpSync(join(ROOT, name), join(folder, name), { recursive: true });
    }
    const readme = packageReadme(read("README.md"), { name: jsrName, version, repository });
    writeFileSync(join(folder, "README.md"), readme);
    run(["deno", "publish", "--no-lock", ...dryRun], folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function files(dryRun: string[]): void {
  run(["sha256sum", "--check", "--strict", "SHA256SUMS"], DIST);
  const sums = readFileSync(join(DIST, "SHA256SUMS"), "utf8");
  const names = [...sums.matchAll(/^\w+ {2}(.*)$/gm)].map(([, name]) => name);
  const command = [
    ...["gh", "release", "create", `v${version}`, "--verify-tag", "--notes-file", "-"],
    ...isPreview ? ["--prerelease"] : [],
    ...[...names, "SHA256SUMS"].map((name) => join(DIST, name)),
  ];
  const notes = notesOf(read("CHANGELOG.md"), version) ?? "";
  if (dryRun.length > 0) console.log(`${command.join(" ")}\n\n${notes}`);
  else run(command, ROOT, notes);
}

function docs(): void {
  if (!existsSync(join(DIST, "doc/index.html"))) throw new Error("there is no dist/doc/index.html");
}

const STEPS: Record<string, (dryRun: string[]) => void> = { agree, npm, jsr, files, docs };

if (import.meta.main) {
  const { values, operands: [step] } = readOptions(HELP, { "dry-run": { type: "boolean" } }, {
    ...{ least: 1, most: 1 },
  });
  if (!Object.hasOwn(STEPS, step)) fail(`there is no step '${step}'; try --help`);
  STEPS[step](values["dry-run"] ? ["--dry-run"] : []);
}
