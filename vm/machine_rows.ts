/** What cells of other machines than this say for docs/machines.md. */
import type { Row } from "../compat/page.ts";
import { type Runtime, RUNTIME_NAMES } from "../dev/runtimes.ts";
import type { CellReport } from "./run_cell.ts";
import { commitsOf, sum, sure } from "./tally.ts";

/** One row a machine, with the kernels of its cells. */
export function machineRows(
  cells: readonly CellReport[],
  { runtime, version }: { runtime: Runtime; version: string },
): Row[] {
  const mine = cells.filter(({ machine }) => machine === "arm64");
  const rows = mine.flatMap(sure).filter((row) => row.runtime === runtime);
  if (rows.length === 0) return [];
  const distinct = (values: string[]) => [...new Set(values)].join(", ");
  const [cycles, spurious, missing] = ["cycles", "spurious", "missing"].map((name) =>
    sum(rows, name)
  );
  return [{
    machine: "aarch64",
    kernel: distinct(mine.map(({ release }) => release)),
    libc: `glibc of Debian ${distinct(mine.map(({ suite }) => suite))}`,
    runtime: `${RUNTIME_NAMES[runtime]} ${version}`,
    ran: "kernel matrix: cycles, probe, persist(), userspace",
    result: `${cycles} cycles, ${spurious} spurious events, ${missing} missing`,
    failed: spurious + missing > 0,
    commit: commitsOf(rows).join(", "),
  }];
}
