/**
 * Runs the matrix: every chosen kernel under every chosen systemd-udevd, in a virtual machine.
 *
 *     deno run -A vm/run.ts --kernel 6.12 --udev 257 --cycles 40
 */
import { resolve } from "node:path";
import process from "node:process";
import { fail, numberOf, oneOf, readOptions } from "../dev/options.ts";
import { type Cell, chooseCells, type Init, type Kind, kindOf } from "./cells.ts";
import type { GuestOptions } from "./initramfs.ts";
import { findKernel } from "./kernel.ts";
import { estimate } from "./plan.ts";
import { commitOf, isExact } from "./results.ts";
import { type Job, printOutcome, runJobs, Stores } from "./run_jobs.ts";
import { type Runtime, RUNTIMES } from "../dev/runtimes.ts";
import { cellsFor, STEPS } from "./steps.ts";
import { table } from "../dev/terminal.ts";

const UNASKED = STEPS.filter(({ unasked }) => unasked === false).map(({ name }) => name).join(", ");
const HELP = `Usage: vm/run.ts [options]

Boots Debian kernels with a real systemd-udevd and counts how often partitions flicker.

      --kernel PATTERN  a row ("6.12 fixed"), a series ("7.0") or a release ("7.0.9"); repeatable
      --udev VERSION    247, 252, 257, 262 or a suite's name; repeatable
      --cell K/U        kernel K with udev U, instead of both of the above; repeatable
      --runtime NAME    bun, deno or node; repeatable (all)
      --step NAME       ${STEPS.map(({ name }) => name).join(", ")};
                        repeatable (all but ${UNASKED})
      --cycles N        attach and detach cycles of each strategy, on each runtime (100)
      --tables N        partition tables that are compared with the kernel's view of them (500)
      --seed N          of these tables: another one gives others (1)
      --jobs N          machines at a time (1: more of them on few processors hide the race)
      --thread KIND     QEMU's emulation: multi shows the race, single is steady (multi)
      --flavour KIND    the kernels' flavour: cloud, or generic, which has all partition parsers (cloud)
      --dev KIND        the guest's /dev: devtmpfs, or static as in containers (devtmpfs)
      --init KIND       the guest's PID 1 in all cells: steps, or systemd where the suite has it
      --max-part N      the loop module's parameter
      --muted           the loop module sends no uevents of its own, as that of Linux 5.19 to 6.14
                        (amd64)
      --without-udevd   runs no udevd in the guest: what is left is the kernel's own
      --project DIR     the tree that goes to /project in the guest (.)
      --json FILE       writes all results
      --resume          takes what cells gave in earlier runs of this commit with these settings
      --require-all     fails unless every chosen cell was fetched and ran to its end
      --update          updates apt's lists first, even when they are fresh
      --list            shows the cells and the kernels that the archive offers, and exits
  -h, --help            this text`;

const { values: options } = readOptions(HELP, {
  "kernel": { type: "string", multiple: true },
  "udev": { type: "string", multiple: true },
  "cell": { type: "string", multiple: true },
  "runtime": { type: "string", multiple: true },
  "step": { type: "string", multiple: true },
  "cycles": { type: "string" },
  "tables": { type: "string" },
  "seed": { type: "string" },
  "jobs": { type: "string" },
  "thread": { type: "string" },
  "flavour": { type: "string" },
  "dev": { type: "string" },
  "init": { type: "string" },
  "max-part": { type: "string" },
  "muted": { type: "boolean" },
  "without-udevd": { type: "boolean" },
  "project": { type: "string" },
  "json": { type: "string" },
  "resume": { type: "boolean" },
  "require-all": { type: "boolean" },
  "update": { type: "boolean" },
  "list": { type: "boolean" },
});
const cycles = numberOf("cycles", options.cycles, 100, 1);
const tables = numberOf("tables", options.tables, 500);
const seed = numberOf("seed", options.seed, 1);
const jobs = numberOf("jobs", options.jobs, 1, 1);
const thread = oneOf("thread", options.thread, ["multi", "single"]);
const flavour = oneOf("flavour", options.flavour, ["cloud", "generic"]) === "generic"
  ? "generic" as const
  : undefined;
const runtimes: readonly Runtime[] =
  options.runtime?.map((name) => oneOf<Runtime>("runtime", name, RUNTIMES)) ?? RUNTIMES;

const unknown = options.step?.find((wanted) => STEPS.every(({ name }) => name !== wanted));
if (unknown !== undefined) fail(`no step is called '${unknown}'; try --help`);
const steps = STEPS.filter(({ name, unasked }) =>
  options.step?.includes(name) ?? unasked !== false
);
// Steps that run under systemd only need no --init beside them.
const init: Init | undefined = options.init !== undefined
  ? oneOf<Init>("init", options.init, ["steps", "systemd"])
  : steps.every(({ init }) => init === "systemd")
  ? "systemd"
  : undefined;
const chosen = options.cell === undefined
  ? cellsOf(options.kernel ?? [], options.udev ?? [])
  : options.cell.map((cell) => cell.split("/")).flatMap(([k, u]) => cellsOf([k], u ? [u] : []));
if (chosen.length === 0) fail("no cell is of these kernels and udevs; --list shows all");

function cellsOf(kernels: readonly string[], udevs: readonly string[]): Cell[] {
  try {
    return chooseCells(kernels, udevs, init);
  } catch (error) {
    if (error instanceof RangeError) fail(`${error.message}; --list shows all`);
    throw error;
  }
}

const guest: GuestOptions = {
  dev: oneOf("dev", options.dev, ["devtmpfs", "static"]),
  udev: !options["without-udevd"],
  maxPart: options["max-part"] === undefined
    ? undefined
    : numberOf("max-part", options["max-part"], 0),
};
const kind: Kind = { flavour, muted: options.muted };
const list = chosen.flatMap((cell) => cellsFor(steps, { ...cell, ...kind }, init)).map(
  (each): Job => {
    const common = { ...each, runtimes, cycles, tables, seed, guest, init };
    return { ...common, estimate: estimate(common) };
  },
);
const stores = new Stores(options.update ?? false);

if (options.list) {
  const rows = list.map((job) => {
    const { kernel, suite, init } = job.cell;
    return [
      kernel.id,
      kernel.affected ? "affected" : "",
      `udev ${suite.udev} (${suite.name})`,
      [...kindOf(job.cell), ...init === "systemd" ? ["systemd as PID 1"] : []].join(", "),
      findKernel(stores.of(job).offered(kernel), kernel)?.image.version ?? "not in the archive",
    ];
  });
  console.log(table([["kernel", "", "udev", "", "package"], ...rows]));
  const releases = new Set(list.flatMap((job) => stores.of(job).offered({})).map((k) => k.release));
  console.log("\nOn offer: " + [...releases].join(" "));
  process.exit(0);
}

const project = resolve(options.project ?? ".");
const commit = commitOf(project);
if (options.resume && !isExact(commit)) {
  console.error(`vm: --resume goes by the commit, and ${project} was changed since: commit first`);
  process.exit(1);
}
// QEMU's processes are killed by an "exit" handler, which a signal's default would not run.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));
const manner = {
  project,
  commit,
  thread,
  jobs,
  resume: options.resume ?? false,
  json: options.json,
};
const outcome = await runJobs(list, manner, stores);
const isGood = printOutcome(outcome, list.length);
const isComplete = outcome.unfetched.length === 0 &&
  outcome.reports.every(({ failure }) => failure === undefined);
process.exit(isGood && (isComplete || !options["require-all"]) ? 0 : 1);
