/** Results of several runs of the matrix, as one. */
import type { Library } from "./library_age.ts";
import { isExact } from "./results.ts";
import type { CellReport, Result } from "./run_cell.ts";
import { commitsOf } from "./tally.ts";

/** What vm/run.ts and vm/matrix.ts write with --json. */
export interface Run {
  date: string;
  qemu: string;
  /** "bun-1.4.5_deno-2.9.6" */
  runtimes: string;
  cycles: number;
  tables: number;
  seed: number;
  cells: CellReport[];
  unfetched: { id: string; udev: number; init: string; reason: string }[];
}

/** docs/kernel-matrix.json. */
export interface Data extends Run {
  /** What the page's marks were made from. */
  library?: Library;
}

const keyOf = ({ id, suite, init, kind = [] }: CellReport) => [id, suite, init, ...kind].join(" ");
const told = ({ commit, results }: CellReport) =>
  results.map((row) => ({ ...row, commit: row.commit ?? commit }));

function withRows(cell: CellReport, results: Result[]): CellReport {
  return { ...cell, commit: commitsOf(results).join(", "), results };
}

/** Two reports of one cell. */
function together(a: CellReport, b: CellReport): CellReport {
  const failure = [a, b].flatMap(({ failure = [] }) => failure).join("; ");
  return {
    ...a,
    ...withRows(b, [...told(a), ...told(b)]),
    milliseconds: a.milliseconds + b.milliseconds,
    took: { ...a.took, ...b.took },
    crashes: [...a.crashes, ...b.crashes],
    ...failure === "" ? {} : { failure },
  };
}

/** New cells, those of one name added up, beside earlier ones; of these the steps that did not run again. */
export function withEarlier(
  cells: readonly CellReport[],
  earlier: readonly CellReport[],
): CellReport[] {
  const merged = new Map<string, CellReport>();
  for (const cell of cells) {
    const other = merged.get(keyOf(cell));
    merged.set(keyOf(cell), other ? together(other, cell) : withRows(cell, told(cell)));
  }
  for (const before of earlier) {
    const cell = merged.get(keyOf(before));
    const again = new Set(cell?.results.map(({ step }) => step));
    const kept = told(before).filter(({ step }) => !again.has(step));
    merged.set(keyOf(before), withRows(cell ?? before, [...kept, ...cell?.results ?? []]));
  }
  return [...merged.values()];
}

/** The cells with the rows whose commit says what ran; those that have none left are gone. */
export function withExactRows(cells: readonly CellReport[]): CellReport[] {
  return cells.map((cell) => withRows(cell, told(cell).filter(({ commit }) => isExact(commit))))
    .filter(({ results }) => results.length > 0);
}

/** Cells with a row of a tree that was changed since its commit. */
export function inexactCells(cells: readonly CellReport[]): CellReport[] {
  return cells.filter((cell) => told(cell).some(({ commit }) => !isExact(commit)));
}
