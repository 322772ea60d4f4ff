/** Results of several runs of the matrix, as one. */
import type { CellReport, Result } from "./run_cell.ts";
import { commitsOf } from "./tally.ts";

/** What vm/run.ts writes with --json. */
export interface Run {
  date: string;
  qemu: string;
  /** "bun-1.4.5_deno-2.9.6" */
  runtimes: string;
  cells: CellReport[];
  unfetched: { id: string; udev: number; reason: string }[];
}

/** Which tree gave a row: a cell's steps may have run at different times. */
type Told = Result & { commit: string };

const keyOf = ({ id, suite, init }: CellReport) => `${id} ${suite} ${init}`;
const told = ({ commit, results }: CellReport) =>
  results.map((row) => ({ commit, ...row }) as Told);

function withRows(cell: CellReport, results: Told[]): CellReport {
  return { ...cell, commit: commitsOf(results).join(", "), results };
}

/** New cells, those of one name added up, beside earlier ones; of these the steps that did not run again. */
export function withEarlier(
  cells: readonly CellReport[],
  earlier: readonly CellReport[],
): CellReport[] {
  const merged = new Map<string, CellReport>();
  for (const cell of cells) {
    const other = merged.get(keyOf(cell));
    const rows = [...other ? told(other) : [], ...told(cell)];
    const crashes = [...other?.crashes ?? [], ...cell.crashes];
    merged.set(keyOf(cell), { ...withRows(cell, rows), crashes });
  }
  for (const before of earlier) {
    const cell = merged.get(keyOf(before));
    const again = new Set(cell?.results.map(({ step }) => step));
    const kept = told(before).filter(({ step }) => !again.has(step));
    merged.set(keyOf(before), withRows(cell ?? before, [...kept, ...cell ? told(cell) : []]));
  }
  return [...merged.values()];
}
