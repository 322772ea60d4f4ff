/** Runs cells one after another, or some at a time: what vm/run.ts and vm/matrix.ts have in common. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type Cell, cellName, type Init, kindOf } from "./cells.ts";
import type { Run } from "./earlier.ts";
import { type ReadyCell, Store } from "./fetch.ts";
import type { GuestOptions } from "./initramfs.ts";
import { Results } from "./results.ts";
import type { Runtime } from "../dev/runtimes.ts";
import { type CellReport, runCell } from "./run_cell.ts";
import type { Step } from "./steps.ts";
import { Progress, table } from "../dev/terminal.ts";

/** One boot: a cell, and what runs in it. */
export interface Job {
  cell: Cell;
  steps: readonly Step[];
  runtimes: readonly Runtime[];
  cycles: number;
  tables: number;
  seed: number;
  guest: GuestOptions;
  /** For the cell as a whole: `--init`. */
  init?: Init;
  /** What it may take, in seconds. */
  estimate: number;
}

/** How they run. */
export interface Manner {
  project: string;
  commit: string;
  thread: "multi" | "single";
  /** Machines at a time. */
  jobs: number;
  /** Takes what cells gave in earlier runs of this commit with these settings. */
  resume: boolean;
  /** Starts no cell that would not be done so many minutes from now. */
  minutes?: number;
  /** All results so far, written after each cell. */
  json?: string;
}

export interface Outcome {
  reports: CellReport[];
  unfetched: { cell: Cell; reason: string }[];
  /** Cells that would have taken too long. */
  late: Cell[];
}

/** Everything that cells boot from. */
export const CACHE: string = join(
  process.env.XDG_CACHE_HOME || join(process.env.HOME ?? "/root", ".cache"),
  "loopdev-vm",
);

/** Makes stores, one for all cells that need the same. */
export class Stores {
  readonly #made = new Map<string, Store>();

  readonly update: boolean;

  constructor(update: boolean) {
    this.update = update;
    mkdirSync(CACHE, { recursive: true });
  }

  of({ cell, steps, runtimes }: Pick<Job, "cell" | "steps" | "runtimes">): Store {
    const ext4 = steps.some(({ needs }) => needs === "ext4");
    const modules = [...new Set(steps.flatMap(({ modules = [] }) => modules))];
    const flavour = cell.flavour ?? "cloud";
    const key = JSON.stringify([runtimes, ext4, flavour, modules]);
    const say = (text: string) => console.error(text);
    const store = this.#made.get(key) ??
      new Store(CACHE, this.update, say, runtimes, ext4, flavour, modules);
    this.#made.set(key, store);
    return store;
  }

  /** "bun-1.4.5_deno-2.9.6_node-26.10.0" */
  get versions(): string {
    const all = [...this.#made.values()].flatMap(({ versions }) => versions.split("_"));
    return [...new Set(all)].filter((version) => version !== "").toSorted().join("_");
  }
}

interface ReadyJob extends Job, ReadyCell {}

/** Fetches what the jobs boot from, and names those for which it cannot be had. */
export function prepareJobs(
  jobs: readonly Job[],
  stores: Stores,
): { ready: ReadyJob[]; unfetched: Outcome["unfetched"] } {
  const unfetched: Outcome["unfetched"] = [];
  const ready = jobs.flatMap((job) => {
    try {
      return [{ ...job, ...stores.of(job).prepare(job.cell) }];
    } catch (error) {
      unfetched.push({ cell: job.cell, reason: (error as Error).message });
      return [];
    }
  });
  return { ready, unfetched };
}

/** What makes the same cell give something else. */
function settingsOf({ steps, runtimes, guest, init, cycles, tables, seed, cell }: Job) {
  const names = steps.map(({ name }) => name);
  const { flavour = "cloud" } = cell;
  return { steps: names, runtimes, guest, init, cycles, tables, seed, flavour };
}

/** Fetches and runs them. */
export async function runJobs(jobs: readonly Job[], manner: Manner, stores: Stores) {
  const { ready, unfetched } = prepareJobs(jobs, stores);
  const outcome: Outcome = { reports: [], unfetched, late: [] };
  const progress = new Progress(ready.map(({ estimate }) => estimate), manner.jobs);
  const deadline = Date.now() + (manner.minutes ?? Infinity) * 60_000;
  const run = async (job: ReadyJob) => {
    const results = new Results(join(CACHE, "results"), manner.commit, settingsOf(job));
    const name = cellName(job.kernel.release, job.cell);
    const earlier = manner.resume ? results.read(name) : undefined;
    if (earlier !== undefined) {
      progress.log(`${name}: as in the run before`);
      progress.pass(job.estimate);
    } else if (Date.now() + progress.secondsOf(job.estimate) * 1000 > deadline) {
      progress.log(`${name}: not started, it would take too long`);
      outcome.late.push(job.cell);
      return progress.pass(job.estimate);
    }
    const report = earlier ?? await runOne(job, manner, progress);
    results.write(name, report);
    outcome.reports.push(report);
    save(outcome, ready, manner, stores);
    if (earlier === undefined) progress.finish(job.estimate);
  };
  const queue = ready.values();
  await Promise.all(Array.from({ length: manner.jobs }, async () => {
    for (const job of queue) await run(job);
  }));
  progress.close();
  return outcome;
}

function runOne(
  { cell, kernel, base, emulator, steps, runtimes, cycles, tables, seed, guest }: ReadyJob,
  { project, commit, thread }: Manner,
  progress: Progress,
): Promise<CellReport> {
  return runCell({
    ...{
      cell,
      kernel,
      base,
      emulator,
      project,
      commit,
      guest,
      steps,
      runtimes,
      cycles,
      tables,
      seed,
      thread,
    },
    directory: join(CACHE, "runs"),
    progress: (text) => progress.show(text),
    log: (text) => progress.log(text),
  });
}

/** After each cell, so that an aborted run leaves what it had. */
function save(outcome: Outcome, jobs: readonly ReadyJob[], { json }: Manner, stores: Stores): void {
  if (json === undefined) return;
  const [{ cycles, tables, seed, emulator }] = jobs;
  const run: Run = {
    date: new Date().toISOString(),
    qemu: emulator.version,
    runtimes: stores.versions,
    ...{ cycles, tables, seed },
    cells: outcome.reports,
    unfetched: outcome.unfetched.map(({ cell, reason }) => ({
      id: [cell.kernel.id, ...kindOf(cell)].join(", "),
      udev: cell.suite.udev,
      init: cell.init,
      reason,
    })),
  };
  writeFileSync(json, JSON.stringify(run, null, 2) + "\n");
}

/** Prints all rows, and what did not run; whether everything that did is as it should be. */
export function printOutcome({ reports, unfetched, late }: Outcome, cells: number): boolean {
  const header =
    "kernel,udev,losetup,step,case,cycles,adds,removes,spurious,flickered,missing,µs,verdict";
  const rows = reports.flatMap((report) => report.results.map((row) => resultRow(report, row)));
  console.log(table([header.split(","), ...rows]));
  const failures = reports.filter(({ failure }) => failure !== undefined);
  for (const { id, suite, init, failure, consoleLog } of failures) {
    console.log(`FAILED ${id} with ${suite}, PID 1 ${init}: ${failure}; console: ${consoleLog}`);
  }
  for (const { cell, reason } of unfetched) {
    console.log(`NOT FETCHED ${cellName(cell.kernel.id, cell)}: ${reason}`);
  }
  for (const cell of late) console.log(`NO TIME for ${cellName(cell.kernel.id, cell)}`);
  const verdicts = reports.flatMap(({ results }) => results.map(({ verdict }) => verdict.outcome));
  const count = (outcome: string) => verdicts.filter((verdict) => verdict === outcome).length;
  console.log(
    `${reports.length} of ${cells} cells ran, ${failures.length} of them not to the end; ` +
      `${count("pass")} passed, ${count("fail")} failed, ${count("inconclusive")} inconclusive`,
  );
  return reports.length > failures.length && count("fail") === 0;
}

function resultRow(report: CellReport, result: CellReport["results"][number]): string[] {
  const flickered = "flickered" in result
    ? `${Math.round(100 * Number(result.flickered) / Number(result.cycles))} %`
    : "";
  const { outcome, reason } = result.verdict;
  return [
    ...[report.release, report.udev, report.losetup, result.step, result.case, result.cycles],
    ...[result.adds, result.removes, result.spurious, flickered, result.missing],
    "nanoseconds" in result ? Math.round(Number(result.nanoseconds) / 1000) : "",
    outcome + (reason ? `: ${reason}` : ""),
  ].map((value) => String(value ?? ""));
}
