/**
 * Runs the matrix: every chosen kernel under every chosen systemd-udevd, in a virtual machine.
 *
 *     deno run -A vm/run.ts --kernel 6.12 --udev 257 --cycles 40
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import process from "node:process";
import { fail, numberOf, oneOf, readOptions } from "../dev/options.ts";
import { type Cell, cellName, chooseCells, type Init } from "./cells.ts";
import { Store } from "./fetch.ts";
import type { GuestOptions } from "./initramfs.ts";
import { findKernel, type Flavour } from "./kernel.ts";
import { commitOf, Results } from "./results.ts";
import { type Runtime, RUNTIMES } from "../dev/runtimes.ts";
import { type CellReport, runCell } from "./run_cell.ts";
import { STEPS, stepsIn } from "./steps.ts";
import { Progress, table } from "../dev/terminal.ts";

const HELP = `Usage: vm/run.ts [options]

Boots Debian kernels with a real systemd-udevd and counts how often partitions flicker.

      --kernel PATTERN  a row ("6.12 fixed"), a series ("7.0") or a release ("7.0.9"); repeatable
      --udev VERSION    247, 252, 257, 262 or a suite's name; repeatable
      --cell K/U        kernel K with udev U, instead of both of the above; repeatable
      --runtime NAME    bun, deno or node; repeatable (all)
      --step NAME       ${STEPS.map(({ name }) => name).join(", ")};
                        repeatable (all but grow, links, mounts, layouts, owners, run, restricted,
                        services, ways and bench)
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
const flavour: Flavour = oneOf("flavour", options.flavour, ["cloud", "generic"]);
const runtimes: readonly Runtime[] =
  options.runtime?.map((name) => oneOf<Runtime>("runtime", name, RUNTIMES)) ?? RUNTIMES;

const cache = join(
  process.env.XDG_CACHE_HOME || join(process.env.HOME ?? "/root", ".cache"),
  "loopdev-vm",
);
mkdirSync(cache, { recursive: true });
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
  ? chooseCells(options.kernel ?? [], options.udev ?? [], init)
  : options.cell.map((cell) => cell.split("/")).flatMap(([k, u]) => chooseCells([k], [u], init));
const cells = chosen.filter((cell) => stepsIn(steps, cell, init).length > 0);

const ext4 = steps.some(({ needs }) => needs === "ext4");
const store = new Store(
  cache,
  options.update ?? false,
  (text) => console.error(text),
  runtimes,
  ext4,
  flavour,
  [...new Set(steps.flatMap(({ modules = [] }) => modules))],
);

if (options.list) {
  const rows = cells.map(({ kernel, suite, init }) => [
    kernel.id,
    kernel.affected ? "affected" : "",
    `udev ${suite.udev} (${suite.name})`,
    init === "systemd" ? "systemd" : "",
    findKernel(store.offered(kernel), kernel)?.image.version ?? "not in the archive",
  ]);
  console.log(table([["kernel", "", "udev", "PID 1", "package"], ...rows]));
  const releases = new Set(store.offered({}).map(({ release }) => release));
  console.log("\nOn offer: " + [...releases].join(" "));
  process.exit(0);
}

/** Cells that cannot run, and why. */
const unfetched: { cell: Cell; reason: string }[] = [];
const ready = cells.flatMap((cell) => {
  try {
    return [store.prepare(cell)];
  } catch (error) {
    unfetched.push({ cell, reason: (error as Error).message });
    return [];
  }
});

const guest: GuestOptions = {
  dev: oneOf("dev", options.dev, ["devtmpfs", "static"]),
  udev: !options["without-udevd"],
  muted: options.muted ?? false,
  maxPart: options["max-part"] === undefined
    ? undefined
    : numberOf("max-part", options["max-part"], 0),
};
// QEMU's processes are killed by an "exit" handler, which a signal's default would not run.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));

/** After each cell, so that an aborted run leaves what it had. */
function save(): void {
  if (options.json === undefined) return;
  const qemu = execFileSync("qemu-system-x86_64", ["--version"], { encoding: "utf8" });
  const json = {
    date: new Date().toISOString(),
    qemu: /version (\S+)/.exec(qemu)?.[1],
    runtimes: store.versions,
    cycles,
    tables,
    seed,
    cells: reports,
    unfetched: unfetched.map(({ cell, reason }) => ({
      id: cell.kernel.id,
      udev: cell.suite.udev,
      init: cell.init,
      reason,
    })),
  };
  writeFileSync(options.json, JSON.stringify(json, null, 2) + "\n");
}

const project = resolve(options.project ?? ".");
const settings = {
  steps: steps.map(({ name }) => name),
  runtimes,
  guest,
  init,
  cycles,
  tables,
  seed,
  flavour,
};
const results = new Results(join(cache, "results"), commitOf(project), settings);
if (options.resume && !results.lasting) {
  console.error(`vm: --resume goes by the commit, and ${project} was changed since: commit first`);
  process.exit(1);
}
const progress = new Progress(ready.length);
const reports: CellReport[] = [];
const queue = ready.values();
await Promise.all(
  Array.from({ length: jobs }, async () => {
    for (const { cell, kernel, base } of queue) {
      const name = cellName(kernel.release, cell);
      const earlier = options.resume ? results.read(name) : undefined;
      if (earlier !== undefined) progress.log(`${name}: as in the run before`);
      const report = earlier ?? await runCell({
        cell,
        kernel,
        base,
        project,
        commit: results.commit,
        guest,
        steps: stepsIn(steps, cell, init),
        runtimes,
        cycles,
        tables,
        seed,
        thread,
        directory: join(cache, "runs"),
        progress: (text) => progress.show(text),
        log: (text) => progress.log(text),
      });
      results.write(name, report);
      reports.push(report);
      save();
      progress.finish();
    }
  }),
);
progress.close();

const header =
  "kernel,udev,losetup,step,case,cycles,adds,removes,spurious,flickered,missing,µs,verdict";
const rows = reports.flatMap((report) =>
  report.results.map((result) => [
    report.release,
    report.udev ?? "",
    report.losetup ?? "",
    result.step,
    result.case,
    ...[result.cycles, result.adds, result.removes, result.spurious],
    "flickered" in result
      ? `${Math.round(100 * Number(result.flickered) / Number(result.cycles))} %`
      : "",
    result.missing,
    "nanoseconds" in result ? Math.round(Number(result.nanoseconds) / 1000) : "",
    result.verdict.outcome + (result.verdict.reason ? `: ${result.verdict.reason}` : ""),
  ])
);
console.log(
  table([header.split(","), ...rows.map((row) => row.map((cell) => String(cell ?? "")))]),
);

const failures = reports.filter(({ failure }) => failure !== undefined);
for (const { id, suite, init, failure, consoleLog } of failures) {
  console.log(`FAILED ${id} with ${suite}, PID 1 ${init}: ${failure}; console: ${consoleLog}`);
}
for (const { cell, reason } of unfetched) {
  console.log(`NOT FETCHED ${cellName(cell.kernel.id, cell)}: ${reason}`);
}
const verdicts = reports.flatMap(({ results }) => results.map(({ verdict }) => verdict.outcome));
const count = (outcome: string) => verdicts.filter((verdict) => verdict === outcome).length;
console.log(
  `${reports.length} of ${cells.length} cells ran, ${failures.length} of them not to the end; ` +
    `${count("pass")} passed, ${count("fail")} failed, ${count("inconclusive")} inconclusive`,
);

const complete = unfetched.length === 0 && failures.length === 0;
const ran = reports.length > failures.length;
process.exit(ran && count("fail") === 0 && (complete || !options["require-all"]) ? 0 : 1);
