/** What the rows of a cell add up to, and how the page shows it. */
import { ageOf, type Library } from "./library_age.ts";
import type { CellReport, Result } from "./run_cell.ts";

/** Rows of a cell by the beginning of their case, both runtimes together. */
export function rowsOf(cell: CellReport, step: string, name: string): Result[] {
  return cell.results.filter((row) => row.step === step && String(row.case).startsWith(name));
}

export function sum(rows: readonly Result[], field: string): number {
  return rows.reduce((n, row) => n + Number(row[field] ?? 0), 0);
}

/** Cycles that flickered, of a hundred; undefined: there was none. */
export function percent(rows: readonly Result[]): number | undefined {
  const cycles = sum(rows, "cycles");
  return cycles === 0 ? undefined : Math.round(100 * sum(rows, "flickered") / cycles);
}

/** "12 in 80": spurious events in so many cycles. */
export function count(rows: readonly Result[]): string {
  return rows.length === 0 ? "–" : `${sum(rows, "spurious")} in ${sum(rows, "cycles")}`;
}

/** The opener that does most harm: which one that is depends on the kernel. */
export function worst(cell: CellReport, step: string, name: string): Result[] {
  const kinds = ["react", "spin"].map((kind) => rowsOf(cell, step, `${name} + opener ${kind}`));
  return kinds.reduce((a, b) => (percent(b) ?? -1) > (percent(a) ?? -1) ? b : a);
}

/** A table in Markdown. */
export function table(header: string[], rows: string[][]): string {
  const line = (columns: string[]) => `| ${columns.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}

/** "6.12.90, arm64 ●", "7.2.13, generic" */
export function kernelOf({ release, machine, affected, kind = [] }: CellReport): string {
  const more = [...machine === "amd64" ? [] : [machine], ...kind];
  return [release, ...more].join(", ") + (affected ? " ●" : "");
}

/** Whether a cell is as Debian starts its cloud kernels, with our own PID 1: the others have tables of their own. */
export const isPlain = ({ init, kind = [] }: CellReport): boolean =>
  init !== "systemd" && kind.length === 0;

/** The first two columns. */
export function named(cell: CellReport): string[] {
  return [kernelOf(cell), String(cell.udev)];
}

/** Of which trees the rows are. */
export function commitsOf(rows: readonly Result[]): string[] {
  return [...new Set(rows.map(({ commit }) => String(commit)))];
}

/** The day on which a row was measured: "2026-11-29". */
const dayOf = ({ date }: Result) => date?.slice(0, 10) ?? "no date";

/** How old rows are: "`e3413fa101fc`, 2026-11-28 (older, 94 files)", with the steps where these differ. */
export function measured(rows: readonly Result[], library: Library | undefined): string {
  const groups = new Map<string, Set<string>>();
  for (const row of rows) {
    const age = ageOf(library, row.commit);
    const text = `\`${row.commit}\`, ${dayOf(row)}${age && ` (${age})`}`;
    groups.set(text, (groups.get(text) ?? new Set()).add(row.step));
  }
  const isOne = groups.size === 1;
  return [...groups].map(([text, steps]) => (isOne ? "" : `${[...steps].join(", ")}: `) + text)
    .join("; ");
}

/** All that must not flicker. */
export function sure(cell: CellReport): Result[] {
  return cell.results.filter((row) => row.kind === "loopdev");
}
