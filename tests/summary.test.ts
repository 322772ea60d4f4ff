/** The end of .ci/run: what it counts, and what it lets pass. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { onThisRuntime, ROOT, run, scratch, test } from "./support/support.ts";

const SUITES = [
  ...["bun", "deno", "node", "dist-bun", "dist-deno", "dist-node", "bare/bun"],
  ...["oldest-bun", "oldest-deno", "oldest-node", "newest-bun-musl"].map((name) =>
    `compat/${name}`
  ),
];
const EXPERIMENTS = ["vm-bun", "vm-deno", "vm-node", "vm-images", "torture"];

const PASSED = '<testcase name="one"/>';
const failed = (name: string) => `<testcase name="${name}"><failure message="wrong"/></testcase>`;
const passed = (name: string) => `<testcase name="${name}"/>`;

let folders = 0;

/** What the summary says of a run in which all passed, but for these reports; a report that is undefined is missing. */
function summary(reports: Record<string, string | undefined>, ...steps: string[]) {
  const folder = scratch(`summary-${folders++}`);
  const all: Record<string, string | undefined> = {
    ...Object.fromEntries(SUITES.map((name) => [`${name}.xml`, PASSED])),
    ...Object.fromEntries(EXPERIMENTS.map((name) => [`${name}.json`, '[{"outcome":"pass"}]'])),
    ...reports,
  };
  for (const [name, text] of Object.entries(all)) {
    if (text === undefined) continue;
    const path = join(folder, "reports", name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  const command = onThisRuntime(join(ROOT, "dev/summary.mjs"));
  const { status, stdout } = run([...command, ...steps], { cwd: folder });
  rmSync(folder, { recursive: true });
  const lines = stdout.trimEnd().split("\n");
  return { status, stdout, last: lines.at(-1) };
}

test("the summary counts what the reports say, and a whole run passes", [], () => {
  const { status, last } = summary({});
  assertEquals([status, last], [0, "16 passed, 0 failed, 0 skipped"]);
});

test(
  "the summary fails for a failed test, a skipped one, a missing report and a failed step",
  [],
  () => {
    const node = summary({ "node.xml": PASSED + failed("two") });
    assertEquals([node.status, node.last], [1, "16 passed, 1 failed, 0 skipped"]);
    assertStringIncludes(node.stdout, "failed: node: two: wrong");
    const skipped = '<testcase name="two"><skipped/></testcase>';
    assertEquals(summary({ "deno.xml": PASSED + skipped }).status, 1);
    assertEquals(summary({ "bare/bun.xml": PASSED + skipped }).status, 0);
    assertEquals(summary({ "dist-bun.xml": undefined }).status, 1);
    assertEquals(summary({ "torture.json": '[{"outcome":"pass"},{"outcome":"fail"}]' }).status, 1);
    assertEquals(summary({ "vm-bun.json": undefined }).status, 1);
    assertEquals(summary({}, "static checks").status, 1);
  },
);

test("the summary names what passed alone, and lets two of all pass", [], () => {
  const names = ["two", "three", "four"];
  const again = (count: number) =>
    summary({
      "node.xml": PASSED + names.slice(0, count).map(failed).join(""),
      "again/node/x.test.ts/node.xml": names.map(passed).join(""),
    });
  const two = again(2);
  assertEquals([two.status, two.last], [0, "18 passed, 0 failed, 0 skipped"]);
  assertStringIncludes(two.stdout, "passed alone, failed beside others: node: three: wrong");
  const three = again(3);
  assertEquals(three.status, 1);
  assertStringIncludes(three.stdout, "broken: 3 tests failed beside others, more than 2");
  const twice = summary({
    "node.xml": PASSED + failed("two"),
    "again/node/x.test.ts/node.xml": failed("two"),
    "again/bun/x.test.ts/bun.xml": passed("two"),
  });
  assertEquals([twice.status, twice.last], [1, "16 passed, 1 failed, 0 skipped"]);
});
