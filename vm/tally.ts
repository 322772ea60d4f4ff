/** What the rows of a cell add up to, and how the page shows it. */
import type { CellReport, Result } from "./run_cell.ts";

/** Rows of a cell by the beginning of their case, both runtimes together. */
export function rowsOf(cell: CellReport, step: string, name: string): Result[] {
  return cell.results.filter((row) => row.step === step && String(row.case).startsWith(name));
}

export function sum(rows: readonly Result[], field: string): number {
  return rows.reduce((n, row) => n + Number(row[field] ?? 0), 0);
}

/** Cycles that flickered, of a hundred. */
export function percent(rows: readonly Result[]): number {
  const cycles = sum(rows, "cycles");
  return cycles === 0 ? 0 : Math.round(100 * sum(rows, "flickered") / cycles);
}

/** "12 in 80": spurious events in so many cycles. */
export function count(rows: readonly Result[]): string {
  return rows.length === 0 ? "–" : `${sum(rows, "spurious")} in ${sum(rows, "cycles")}`;
}

/** The opener that does most harm: which one that is depends on the kernel. */
export function worst(cell: CellReport, step: string, name: string): Result[] {
  const kinds = ["react", "spin"].map((kind) => rowsOf(cell, step, `${name} + opener ${kind}`));
  return kinds.reduce((a, b) => percent(b) > percent(a) ? b : a);
}

/** A table in Markdown. */
export function table(header: string[], rows: string[][]): string {
  const line = (columns: string[]) => `| ${columns.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}

/** "6.12.90, arm64 ●" */
export function kernelOf({ release, machine, affected }: CellReport): string {
  return release + (machine === "amd64" ? "" : `, ${machine}`) + (affected ? " ●" : "");
}

/** The first two columns. */
export function named(cell: CellReport): string[] {
  return [kernelOf(cell), String(cell.udev)];
}

/** Of which trees the rows are. */
export function commitsOf(rows: readonly Result[]): string[] {
  return [...new Set(rows.map(({ commit }) => String(commit)))];
}

/** All that must not flicker. */
export function sure(cell: CellReport): Result[] {
  return cell.results.filter((row) => row.kind === "loopdev");
}
