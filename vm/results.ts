/**
 * The reports of cells that ran to their end, on disk, so that a long run goes on where it stopped.
 * They belong to one commit: a tree that was changed since has none.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PROJECT } from "./initramfs.ts";
import type { CellReport } from "./run_cell.ts";

/** The commit of a tree; "+" behind it if what guests get of it is something else by now. */
export function commitOf(project: string): string {
  const git = (...args: string[]) => {
    const { status, stdout } = spawnSync("git", ["-C", project, ...args], { encoding: "utf8" });
    return status === 0 ? stdout.trim() : undefined;
  };
  const commit = git("rev-parse", "--short=12", "HEAD");
  if (commit === undefined) return "unknown+";
  return git("status", "--porcelain", "--", ...PROJECT) === "" ? commit : `${commit}+`;
}

/** Whether a commit says what ran: not with a "+", of a tree that was changed since. */
export const isExact = (commit: string): boolean => !commit.endsWith("+");

export class Results {
  readonly #folder: string;

  readonly commit: string;

  /** `settings`: all that makes the same cell give something else. */
  constructor(directory: string, commit: string, settings: unknown) {
    this.commit = commit;
    const hash = createHash("sha256").update(JSON.stringify(settings)).digest("hex").slice(0, 12);
    this.#folder = join(directory, `${commit}-${hash}`);
  }

  /** Whether reports can be told from those of another tree. */
  get lasting(): boolean {
    return isExact(this.commit);
  }

  read(cell: string): CellReport | undefined {
    const path = this.#path(cell);
    return this.lasting && existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : undefined;
  }

  write(cell: string, report: CellReport): void {
    if (!this.lasting || report.failure !== undefined) return;
    mkdirSync(this.#folder, { recursive: true });
    const path = this.#path(cell);
    writeFileSync(`${path}.part`, JSON.stringify(report));
    renameSync(`${path}.part`, path);
  }

  #path(cell: string): string {
    return join(this.#folder, `${cell.replaceAll(/[^\w.]+/g, "-")}.json`);
  }
}
