/** Runs one cell: boots its guest and collects and judges what it reports. */
import { appendFileSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Cell, cellName, type Init, kindOf } from "./cells.ts";
import process from "node:process";
import { type GuestCommand, type GuestOptions, writeInitramfs } from "./initramfs.ts";
import type { Kernel } from "./kernel.ts";
import { type Machine, type MachineName, MACHINES } from "./machines.ts";
import type { Emulator } from "./emulator.ts";
import { boot, type GuestEvent } from "./qemu.ts";
import type { Runtime } from "../dev/runtimes.ts";
import { type Context, guestCommand, type Step, type Verdict } from "./steps.ts";

export interface CellOptions {
  cell: Cell;
  kernel: Kernel;
  base: readonly string[];
  emulator: Emulator;
  project: string;
  commit: string;
  guest: GuestOptions;
  steps: readonly Step[];
  runtimes: readonly Runtime[];
  cycles: number;
  tables: number;
  seed: number;
  thread: "multi" | "single";
  /** Where initramfs and console logs are written. */
  directory: string;
  progress(text: string): void;
  log(text: string): void;
}

export type Result = GuestEvent & {
  step: string;
  runtime: Runtime;
  verdict: Verdict;
  /** Which tree gave it, and when: a cell's steps may have run at different times. */
  commit: string;
  /** In ISO 8601; undefined: the run did not note it. */
  date?: string;
};

export interface CellReport {
  id: string;
  affected: boolean;
  release: string;
  uname?: string;
  machine: MachineName;
  /** Of the project's tree, "+" behind it if that was changed since. */
  commit: string;
  /** Of the run's end, in ISO 8601. */
  date?: string;
  /** What its kernel and its guest are besides; undefined: nothing. */
  kind?: string[];
  suite: string;
  init: Init;
  /** As the running programs say. */
  udev?: string;
  losetup?: string;
  /** Until init's first line. */
  bootMilliseconds?: number;
  milliseconds: number;
  /** What its programs took, by their names ("loopdev/bun"), in milliseconds. */
  took?: Record<string, number>;
  results: Result[];
  /** How guests died on the way; what they had not ended ran in another boot. */
  crashes: string[];
  /** Why the cell did not run to its end. */
  failure?: string;
  consoleLog?: string;
}

/** A program of the guest, for one runtime. */
interface Planned {
  step: Step;
  runtime: Runtime;
  command: GuestCommand;
}

/** What a guest is that is not as all others are, in words. */
function surroundings({ dev, udev = true, maxPart }: GuestOptions): string[] {
  return [
    ...dev === "static" ? ["static /dev"] : [],
    ...udev ? [] : ["without udevd"],
    ...maxPart ? [`max_part=${maxPart}`] : [],
  ];
}

/**
 * A kernel, or once each program, that dies runs in another boot with what had not ended, and each such
 * end is reported: it may be the emulation's (see emulator.ts).
 */
const MOST_BOOTS = 6;

/** As the shell has them: 128 and the signal. */
const CRASHES = new Map<unknown, string>([
  [132, "SIGILL"],
  // V8 says so where one of its own checks fails.
  [133, "SIGTRAP"],
  [134, "SIGABRT"],
  [139, "SIGSEGV"],
]);

/** How much of what a program wrote is shown where it failed. */
const LAST_LINES = 12;

/** How many cells this process has started: several may be of one kernel and suite. */
let started = 0;

export async function runCell(options: CellOptions): Promise<CellReport> {
  const { cell, kernel, directory, cycles, tables, seed } = options;
  const context: Context = { cell, release: kernel.release, cycles, tables, seed };
  const planned = options.steps.flatMap((step) =>
    (step.runtimes === "once" ? options.runtimes.slice(0, 1) : options.runtimes)
      .map((runtime): Planned => ({ step, runtime, command: guestCommand(step, runtime, context) }))
  );
  const machine = MACHINES[cell.kernel.machine ?? "amd64"];
  const report: CellReport = {
    id: cell.kernel.id,
    affected: cell.kernel.affected,
    release: kernel.release,
    machine: machine.name,
    commit: options.commit,
    kind: [...kindOf(cell), ...surroundings(options.guest)],
    suite: cell.suite.name,
    init: cell.init,
    milliseconds: 0,
    took: {},
    results: [],
    crashes: [],
  };
  mkdirSync(directory, { recursive: true });
  const name = [kernel.release, machine.name, cell.suite.name, cell.init, process.pid, ++started]
    .join("-");
  const consoleLog = join(directory, `${name}.log`);
  const title = cellName(kernel.release, cell);
  const ended = new Set<string>();
  const crashed = new Set<string>();
  const transcript: string[] = [];
  const failures: string[] = [];
  for (let boots = 1;; boots++) {
    const left = planned.filter(({ command }) => !ended.has(command.name));
    options.progress(`${title}: booting`);
    const one = {
      options,
      machine,
      name,
      consoleLog,
      left,
      report,
      ended,
      crashed,
      transcript,
      failures,
    };
    const death = await bootOnce(one);
    if (death === undefined || boots === MOST_BOOTS) {
      if (death !== undefined) failures.push(death);
      break;
    }
    const reason = /(?:PANIC|Oops|BUG|Kernel panic)[^\n]*/.exec(readFileSync(consoleLog, "latin1"));
    report.crashes.push(`${death}${reason ? `, ${reason[0].trim()}` : ""}`);
    options.log(`${title}: ${report.crashes.at(-1)}; boot ${boots + 1}`);
    report.results = report.results.filter((row) => ended.has(`${row.step}/${row.runtime}`));
  }
  report.date = new Date().toISOString();
  for (const { command, step, runtime } of planned) {
    const all = report.results.filter((row) => row.step === step.name && row.runtime === runtime);
    for (const row of all) row.verdict = step.judge(row, context, all);
    if (all.length === 0) failures.push(`${command.name} reported nothing`);
  }
  if (failures.length > 0) {
    report.failure = failures.join("; ");
    report.consoleLog = consoleLog;
    appendFileSync(consoleLog, "\n--- the guest's own lines ---\n" + transcript.join("\n") + "\n");
    options.log(`${title}: ${report.failure}\n${transcript.slice(-15).join("\n")}`);
  } else {
    rmSync(consoleLog, { force: true });
    const text = report.results.map((row) => `${row.case ?? row.step} ${row.spurious ?? "–"}`);
    options.log(`${title}: ${text.join(", ")} spurious (boot ${report.bootMilliseconds} ms)`);
  }
  return report;
}

/** What a boot works on: the cell's programs that are left, and where its results go. */
interface OneBoot {
  options: CellOptions;
  machine: Machine;
  name: string;
  consoleLog: string;
  left: readonly Planned[];
  report: CellReport;
  ended: Set<string>;
  /** Programs that a signal ended. */
  crashed: Set<string>;
  transcript: string[];
  failures: string[];
}

/** Boots and collects; resolves to why the guest, or a program for the first time, died. */
async function bootOnce(
  { options, machine, name, consoleLog, left, report, ended, crashed, transcript, failures }:
    OneBoot,
): Promise<string | undefined> {
  const { cell, kernel, base, project, guest } = options;
  const title = cellName(kernel.release, cell);
  const initramfs = join(options.directory, `${name}.cpio`);
  const removeInitramfs = () => {
    for (const path of [initramfs, `${initramfs}.own`]) rmSync(path, { force: true });
  };
  process.once("exit", removeInitramfs);
  const commands = left.map(({ command }) => command);
  const { init } = cell;
  const files = Object.assign({}, ...new Set(left.map(({ step }) => step.files?.())));
  const { muted } = cell;
  const contents = { machine, kernel, init, base, project, commands, files, ...guest, muted };
  writeInitramfs(initramfs, contents);

  let current: Planned | undefined;
  let begun = 0;
  /** What the program wrote that is no event: its errors. */
  const said: string[] = [];
  let crash: string | undefined;
  const start = Date.now();
  const onEvent = (event: GuestEvent) => {
    switch (event.event) {
      case "boot":
        report.bootMilliseconds = Date.now() - start;
        report.uname = String(event.release);
        break;
      case "ready":
        report.udev = String(event.udev);
        report.losetup = String(event.losetup);
        break;
      case "begin":
        current = left.find(({ command }) => command.name === event.step);
        begun = Date.now();
        said.length = 0;
        options.progress(`${title}: ${event.step}`);
        break;
      case "progress":
        options.progress(`${title}: ${current?.command.name} ${event.done}/${event.total}`);
        break;
      case "result":
        if (current === undefined) break;
        report.results.push({
          ...event,
          step: current.step.name,
          runtime: current.runtime,
          commit: options.commit,
          date: new Date().toISOString(),
          verdict: { outcome: "inconclusive", reason: "the cell did not end" },
        });
        break;
      case "end":
        if (CRASHES.has(event.status) && !crashed.has(String(event.step))) {
          crashed.add(String(event.step));
          crash = `${event.step} was ended by ${CRASHES.get(event.status)}`;
          break;
        }
        ended.add(String(event.step));
        report.took![String(event.step)] = Date.now() - begun;
        if (event.status === 0) break;
        failures.push(
          `${event.step} ${event.status === 124 ? "took too long" : `exited with ${event.status}`}`,
        );
        options.log(`${title}: ${failures.at(-1)}; it said last:`);
        for (const line of said.slice(-LAST_LINES)) options.log(`  ${line}`);
        break;
      case "error":
        failures.push(String(event.message));
        break;
    }
  };
  const outcome = await boot({
    machine,
    emulator: options.emulator,
    vmlinuz: kernel.vmlinuz,
    initramfs,
    consoleLog,
    thread: options.thread,
    append: cell.parameters,
    unsigned: muted,
    seconds: 120 + commands.reduce((sum, { seconds }) => sum + seconds, 0),
    silenceSeconds: 180,
    onEvent: (event) => {
      if (event.event !== "progress") transcript.push(JSON.stringify(event));
      onEvent(event);
    },
    onLine(line) {
      transcript.push(line);
      said.push(line);
    },
  });
  process.removeListener("exit", removeInitramfs);
  removeInitramfs();
  report.milliseconds += outcome.milliseconds;
  return outcome.failure ?? crash;
}
