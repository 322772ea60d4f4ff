/** The page of the kernel matrix: results of several runs as one. */
import { assertEquals } from "@std/assert";
import { test } from "../tests/support/support.ts";
import { withEarlier } from "./earlier.ts";
import type { CellReport, Result } from "./run_cell.ts";

const cell = (suite: string, commit: string, rows: Record<string, number>): CellReport => ({
  id: "7.2",
  affected: false,
  release: "7.2.13",
  machine: "amd64",
  commit,
  suite,
  init: "steps",
  milliseconds: 1,
  results: Object.entries(rows).map(([step, cycles]) => ({ step, cycles }) as unknown as Result),
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
