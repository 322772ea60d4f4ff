/**
 * Runs what docs/kernel-matrix.md shows, the most important cells first.
 *
 *     deno task vm:matrix --resume
 */
import { join } from "node:path";
import process from "node:process";
import { fail, numberOf, readOptions } from "../dev/options.ts";
import { table } from "../dev/terminal.ts";
import { kindOf } from "./cells.ts";
import { estimate, jobsOf, PLAN } from "./plan.ts";
import { commitOf, isExact } from "./results.ts";
import { CACHE, type Job, prepareJobs, printOutcome, runJobs, Stores } from "./run_jobs.ts";

const HELP = `Usage: vm/matrix.ts [options]

Boots all that docs/kernel-matrix.md shows; vm/docs.ts makes the page of what it writes.

      --part NAME     ${[...new Set(PLAN.map(({ name }) => name))].join(", ")};
                      repeatable (all)
      --cell K/U      kernel K with udev U, as in "7.0 before/262"; repeatable (all of the parts)
      --resume        takes what cells gave in earlier runs of this commit
      --minutes N     starts no cell that would not be done so many minutes from now
      --jobs N        machines at a time (1: more of them on few processors hide the race)
      --project DIR   the tree that goes to /project in the guest (.): as it was committed
      --json FILE     where all results go, after each cell (matrix.json in the cache)
      --prepare       fetches what the cells boot from, and exits
      --update        updates apt's lists first, even when they are fresh
      --list          shows the cells, and exits
  -h, --help          this text`;

const { values: options } = readOptions(HELP, {
  "part": { type: "string", multiple: true },
  "cell": { type: "string", multiple: true },
  "resume": { type: "boolean" },
  "minutes": { type: "string" },
  "jobs": { type: "string" },
  "project": { type: "string" },
  "json": { type: "string" },
  "prepare": { type: "boolean" },
  "update": { type: "boolean" },
  "list": { type: "boolean" },
});
const unknown = options.part?.find((wanted) => PLAN.every(({ name }) => name !== wanted));
if (unknown !== undefined) fail(`no part is called '${unknown}'; try --help`);
const parts = PLAN.filter(({ name }) => options.part?.includes(name) ?? true);
const wanted = ({ cell: { kernel, suite } }: Job) =>
  options.cell?.includes(`${kernel.id}/${suite.udev}`) ?? true;
const jobs = jobsOf(parts).filter(wanted);
if (jobs.length === 0) fail("no cell of these parts is called so; try --list");
const atATime = numberOf("jobs", options.jobs, 1, 1);
const minutes = options.minutes === undefined ? undefined : numberOf("minutes", options.minutes, 0);
const project = options.project ?? process.cwd();
const stores = new Stores(options.update ?? false);

if (options.list) {
  const rows = jobs.map((job) => [
    ...[job.cell.kernel.id, String(job.cell.suite.udev), kindOf(job.cell).join(", ")],
    job.cell.init === "systemd" ? "systemd" : "",
    ...[job.steps.map(({ name }) => name).join(" "), job.runtimes.join(" "), String(job.cycles)],
    String(Math.ceil(estimate(job))),
  ]);
  const header = ["kernel", "udev", "kind", "PID 1", "steps", "runtimes", "cycles", "seconds"];
  console.log(table([header, ...rows]));
  const seconds = jobs.reduce((sum, job) => sum + estimate(job), 0);
  console.log(`\nAbout ${Math.ceil(seconds / 60)} minutes on two idle processors.`);
  process.exit(0);
}
if (options.prepare) {
  const { unfetched } = prepareJobs(jobs, stores);
  for (const { cell, reason } of unfetched) {
    console.error(`${cell.kernel.id} with udev ${cell.suite.udev}: ${reason}`);
  }
  process.exit(unfetched.length === 0 ? 0 : 1);
}

const commit = commitOf(project);
if (!isExact(commit)) {
  console.error(
    `vm/matrix.ts: ${project} is not as it was committed, and no commit would say what was ` +
      "measured: commit first, or give --project a clone",
  );
  process.exit(1);
}
// QEMU's processes are killed by an "exit" handler, which a signal's default would not run.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));
const json = options.json ?? join(CACHE, "matrix.json");
const outcome = await runJobs(jobs, {
  ...{ project, commit, json, minutes, jobs: atATime, thread: "multi" },
  resume: options.resume ?? false,
}, stores);
const isGood = printOutcome(outcome, jobs.length);
console.log(`Now: deno run -A vm/docs.ts ${json}`);
process.exit(isGood ? 0 : 1);
