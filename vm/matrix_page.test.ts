/** The page of the kernel matrix: results of several runs as one. */
import { assertEquals, assertMatch } from "@std/assert";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { onThisRuntime, ROOT, scratch, test } from "../tests/support/support.ts";
import { cellName, chooseCells, KERNELS } from "./cells.ts";
import { type Data, withEarlier, withExactRows } from "./earlier.ts";
import { ageOf, compareLibrary, WATCHED } from "./library_age.ts";
import { jobsOf, PLAN } from "./plan.ts";
import { commitOf } from "./results.ts";
import type { CellReport, Result } from "./run_cell.ts";
import { cellsFor, STEPS } from "./steps.ts";

const cell = (suite: string, commit: string, rows: Record<string, number>): CellReport => ({
  id: "7.2",
  affected: false,
  release: "7.2.13",
  machine: "amd64",
  commit,
  suite,
  init: "steps",
  milliseconds: 1,
  results: Object.entries(rows).map(([step, cycles]) =>
    ({ step, cycles, verdict: { outcome: "pass" } }) as unknown as Result
  ),
  crashes: [],
});
const shown = (cells: CellReport[]) =>
  cells.map(({ suite, commit, results }) => [
    suite,
    commit,
    results.map(({ step, cycles }) => `${step} ${cycles}`).join(", "),
  ]);

test(
  "a step that ran again replaces what it gave before; two runs at once are added up",
  [],
  () => {
    const earlier = [
      cell("forky", "aaa", { loopdev: 1, locks: 2 }),
      cell("trixie", "aaa", { cli: 3 }),
    ];
    const merged = withEarlier([cell("forky", "bbb", { locks: 4 })], earlier);
    assertEquals(shown(merged), [
      ["forky", "aaa, bbb", "loopdev 1, locks 4"],
      ["trixie", "aaa", "cli 3"],
    ]);
    assertEquals(shown(withEarlier([], merged)), shown(merged));
    const twice = [cell("forky", "ccc", { cli: 5 }), cell("forky", "ccc", { cli: 6 })];
    assertEquals(shown(withEarlier(twice, [])), [["forky", "ccc", "cli 5, cli 6"]]);
  },
);

test("cells of another kind stand apart, and what failed in one of two runs is told", [], () => {
  const generic = { ...cell("forky", "aaa", { loopdev: 1 }), kind: ["generic"] };
  const failed = { ...cell("forky", "aaa", { cli: 2 }), failure: "took too long" };
  const merged = withEarlier([cell("forky", "aaa", { loopdev: 3 }), generic, failed], []);
  assertEquals(shown(merged), [
    ["forky", "aaa", "loopdev 3, cli 2"],
    ["forky", "aaa", "loopdev 1"],
  ]);
  const again = withEarlier([failed, cell("forky", "aaa", { loopdev: 3 })], []);
  assertEquals(again[0].failure, "took too long");
});

test("rows of a tree that was changed since its commit are not kept, and not taken", [], () => {
  const kept = withExactRows([
    cell("trixie", "aaa+", { cli: 1 }),
    ...withEarlier([cell("forky", "bbb+", { locks: 4 })], [cell("forky", "aaa", { cli: 2 })]),
  ]);
  assertEquals(shown(kept), [["forky", "aaa", "cli 2"]]);
  const file = join(scratch("dirty"), "../results.json");
  writeFileSync(file, JSON.stringify({ cells: [cell("forky", "aaa+", { cli: 3 })] }));
  const [program, ...args] = onThisRuntime(join(ROOT, "vm/docs.ts"), file);
  const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
  assertEquals(status, 2);
  assertMatch(stderr, /aaa\+\): commit the change and run that again, or leave the file out/);
});

/** Runs git in a tree of its own, as nobody's configuration says. */
function gitIn(tree: string, ...args: string[]): string {
  const own = ["-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "commit.gpgsign=false"];
  const env = { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1" };
  const { status, stdout, stderr } = spawnSync("git", ["-C", tree, ...own, ...args], {
    encoding: "utf8",
    env,
  });
  assertEquals(status, 0, stderr);
  return stdout.trim();
}

/** Writes files, and commits them. */
function commitFiles(tree: string, files: Record<string, string>): string {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(tree, name, ".."), { recursive: true });
    writeFileSync(join(tree, name), text);
  }
  gitIn(tree, "add", "-A");
  gitIn(tree, "commit", "-q", "-m", Object.keys(files).join(", "));
  return gitIn(tree, "rev-parse", "--short=12", "HEAD");
}

test(
  "a result is older when a file below attach() or mount() is another one since",
  ["git"],
  () => {
    const tree = scratch("tree");
    mkdirSync(tree);
    gitIn(tree, "init", "-q");
    const first = commitFiles(tree, { "lib/udev/a.ts": "1", "lib/mount/b.ts": "1", "docs/c": "1" });
    const second = commitFiles(tree, { "lib/udev/a.ts": "2", "lib/kernel/d.ts": "1" });
    const third = commitFiles(tree, { "docs/c": "2", "lib/table/e.ts": "1" });
    const known = compareLibrary(tree, [first, second, third, "0123456789ab"]);
    const ages = [first, second, third, "0123456789ab"].map((commit) => ageOf(known, commit));
    assertEquals(ages, ["older, 2 files", "", "", "age unknown"]);
    assertEquals("commit" in known && known.commit, second);
    // Not committed yet, but in the tree that the page is written from.
    writeFileSync(join(tree, "lib/udev/a.ts"), "3");
    assertEquals(ageOf(compareLibrary(tree, [third]), third), "older, 1 file");
    assertEquals(commitOf(tree), `${third}+`);
    // What guests get none of changes no result.
    gitIn(tree, "checkout", "-q", ".");
    writeFileSync(join(tree, "docs/c"), "3");
    assertEquals(commitOf(tree), third);
  },
);

test("no result is called old or new where git cannot say it", ["git"], () => {
  const tree = scratch("whole");
  mkdirSync(tree);
  gitIn(tree, "init", "-q");
  const first = commitFiles(tree, { "lib/udev/a.ts": "1" });
  commitFiles(tree, { "lib/udev/a.ts": "2" });
  const shallow = scratch("shallow");
  gitIn(tree, "clone", "-q", "--depth", "1", `file://${tree}`, shallow);
  const bare = scratch("no repository");
  cpSync(join(tree, "lib"), join(bare, "lib"), { recursive: true });
  const reasons = [
    [compareLibrary(shallow, [first]), /has no history/],
    [compareLibrary(bare, [first]), /git is missing, or this is none of its trees/],
    [compareLibrary(tree, [first], join(bare, "git")), /git is missing/],
  ] as const;
  for (const [library, reason] of reasons) {
    assertMatch("unknown" in library ? library.unknown : "known", reason);
    assertEquals(ageOf(library, first), "age unknown");
  }
  assertEquals(ageOf(undefined, first), "age unknown");
});

test("what the page shows as of the present library is of it", ["git"], () => {
  const { library }: Data = JSON.parse(
    readFileSync(join(ROOT, "docs/kernel-matrix.json"), "utf8"),
  );
  if (library === undefined || "unknown" in library) return;
  const fresh = Object.keys(library.changed).filter((commit) => ageOf(library, commit) === "");
  const now = compareLibrary(ROOT, fresh);
  if ("unknown" in now) return;
  const aged = fresh.filter((commit) => now.changed[commit] > 0);
  assertEquals(
    aged,
    [],
    `${
      WATCHED.join(", ")
    } have changed since: deno run -A vm/docs.ts marks the rows of these commits`,
  );
});

test("every cell of the matrix is planned, and mount() runs in each", [], () => {
  const all = KERNELS.flatMap(({ id, udev }) => udev.map((version) => `${id}/${version}`));
  const planned = (step: string) => {
    const jobs = jobsOf(PLAN).filter(({ steps }) => steps.some(({ name }) => name === step));
    return new Set(jobs.map(({ cell: { kernel, suite } }) => `${kernel.id}/${suite.udev}`));
  };
  for (const step of ["control", "mutants", "loopdev", "mounts"]) {
    assertEquals([...planned(step)].toSorted(), all.toSorted(), step);
  }
});

test("a step that needs another kernel gets a cell of its own, and runs in no other", [], () => {
  const [cell] = chooseCells(["7.2"], ["262"], "steps");
  const steps = STEPS.filter(({ name }) => ["loopdev", "restricted", "mounts"].includes(name));
  const told = cellsFor(steps, cell).map(({ cell, steps }) =>
    `${cellName("7.2.13", cell)}: ${steps.map(({ name }) => name).join(", ")}`
  );
  assertEquals(told, [
    "7.2.13 with udev 262: loopdev, mounts",
    "7.2.13 with udev 262, bdev_allow_write_mounted=0: restricted",
  ]);
});
