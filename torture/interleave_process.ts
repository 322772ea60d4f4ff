/** A process that runs programs for part "interleave", and the failures that it has told, made shorter. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { onRuntime, ROOT } from "../tests/support/support.ts";
import { openFiles, within } from "./common.ts";
import type { Event } from "./model.ts";
import type { Program, Step } from "./programs.ts";
import type { RuntimeName } from "./scenarios.ts";
import { shrink, simplify } from "./shrink.ts";
import { devicesOfOurs, tidy } from "./tidy.ts";

/** Programs that run at the same time in one process. */
export const LANES = 12;
/** Devices of strangers have numbers that nobody else uses, a range for each runtime. */
const FIRST_NUMBER: Record<RuntimeName, number> = { bun: 61_000, deno: 62_000, node: 63_000 };

export interface Violation {
  readonly violation: string;
  readonly program: Program;
  readonly events: readonly Event[];
}

/** One of no program, but of the process that ran them. */
export const ofProcess = (violation: string): Violation => ({
  violation,
  program: { seed: 0, index: 0, kind: "process", steps: [] },
  events: [],
});

/** What a request came to. */
export interface Outcome {
  readonly violations: readonly Violation[];
  readonly tally: Readonly<Record<string, number>>;
  /** Files that the process had open when all programs had ended. */
  readonly open: readonly string[];
}

export interface Where {
  readonly runtime: RuntimeName;
  /** Of the images and directories; below that of scratch(). */
  readonly folder: string;
  readonly pristine: string;
  /** The tree whose loopdev is tried. */
  readonly tree?: string;
}

/** As keepers and the kernel take at most for what a process has left. */
const END_MS = 5000;

const running = new Set<ChildProcess>();

/** Ends all of them, for whoever is interrupted. */
export function killInterleavers(): void {
  for (const child of running) child.kill("SIGKILL");
}

/** Started by the first request, and again by one after its end. */
export class Interleaver {
  readonly #where: Where;
  #child: ChildProcess | undefined;

  constructor(where: Where) {
    this.#where = where;
  }

  #start(): ChildProcess {
    const { runtime, folder, pristine, tree = ROOT } = this.#where;
    mkdirSync(folder, { recursive: true });
    const args = [folder, pristine, ...[FIRST_NUMBER[runtime], LANES].map(String)];
    const script = join(tree, "torture/interleaver.ts");
    const [command, ...rest] = onRuntime(runtime, script, ...args);
    // A neighbour's new mount namespace would have copies of the mounts, and hold the devices.
    const child = spawn("unshare", ["--mount", command, ...rest], { cwd: tree, stdio: "pipe" });
    running.add(child);
    child.on("close", () => running.delete(child));
    child.stdin.on("error", () => {});
    return child;
  }

  /** `onProgress` gets how many programs have begun, once a second. */
  async request(request: object, onProgress: (done: number) => void = () => {}): Promise<Outcome> {
    const child = this.#child ??= this.#start();
    const violations: Violation[] = [];
    let warned = "";
    const warn = (data: unknown) => warned = (warned + data).slice(-2000);
    child.stderr!.on("data", warn);
    const lines = createInterface({ input: child.stdout! });
    let whenClosed = () => {};
    const closed = new Promise<undefined>((resolve) => whenClosed = () => resolve(undefined));
    child.once("close", whenClosed);
    const answered = new Promise<Record<string, number> | undefined>((resolve) =>
      lines.on("line", (line) => {
        if (!line.startsWith("{")) return;
        const said = JSON.parse(line);
        if (said.violation) violations.push(said);
        else if (said.tally) resolve(said.tally);
        else onProgress(said.at);
      })
    );
    child.stdin!.write(`${JSON.stringify(request)}\n`);
    const tally = await Promise.race([answered, closed]);
    lines.close();
    child.stderr!.off("data", warn);
    child.off("close", whenClosed);
    if (tally) return { violations, tally, open: openFiles(child.pid!) };
    this.#child = undefined;
    const why = warned.trim().split("\n").at(-1);
    const violation = `the process ended with ${child.exitCode ?? child.signalCode}: ${why}`;
    return { violations: [...violations, ofProcess(violation)], tally: {}, open: [] };
  }

  /** Ends it, or kills it; resolves to what it has left, which is taken away. */
  async end(how: "end" | "kill" = "end"): Promise<string[]> {
    const child = this.#child;
    if (child) {
      const closed = new Promise((resolve) => child.once("close", resolve));
      if (how === "kill") child.kill("SIGKILL");
      else child.stdin!.end("end\n");
      await closed;
      this.#child = undefined;
    }
    const isOurs = (path: string) => path.startsWith(`${this.#where.folder}/`);
    // The keepers of what was killed still unmount.
    await within(END_MS, () => devicesOfOurs(isOurs).length === 0);
    return tidy(isOurs);
  }
}

/** So often a program is tried at most that once failed, and each shorter one. */
const MOST_TIMES = 200;
/** A shorter program is tried so often as the whole one takes to fail this many times. */
const FAILURES = 4;
/** What differs from what may be is looked at once more for so long: only a whole run has more time. */
const SETTLE_MS = 800;

/** What differs, without names: a shorter program must fail in the same way as the whole one. */
function waysOf(violation: string): string[] {
  const answer = /^(\S+).*((?:no state allows that it answers|failed with) [^:]+)/.exec(violation);
  if (answer) return [`${answer[1]} ${answer[2]}`];
  const words = ["nobody's", "bound", "shows", "autoclear", "sectors", "partitions", "gone"];
  return [...words, "still there", "after the end", "hangs", "process"].filter((word) =>
    violation.includes(word)
  );
}

/** The fewest calls that still fail, with how often each was tried; undefined if it does not fail again. */
export async function reduce(
  where: Where,
  { program, violation }: Violation,
  say: (text: string) => void,
): Promise<{ failure: Violation; times: number } | undefined> {
  const interleaver = new Interleaver(where);
  const ways = waysOf(violation);
  let failure: Violation | undefined;
  const attempt = async (steps: readonly Step[], times: number) => {
    const request = { program: { ...program, steps }, times, settle: SETTLE_MS };
    const { violations, tally } = await interleaver.request(request);
    // What a failure leaves would be the next one's failure.
    if (violations.length > 0) await interleaver.end("kill");
    const same = violations.filter((one) =>
      waysOf(one.violation).some((way) => ways.includes(way))
    );
    if (same.length > 0) failure = { ...same[0], program: { ...program, steps } };
    const tried = Object.values(tally).reduce((sum, n) => sum + n, 0);
    return { failed: same.length, tried: Math.max(1, tried) };
  };
  try {
    const whole = await attempt(program.steps, MOST_TIMES);
    if (whole.failed === 0) return undefined;
    const times = Math.min(MOST_TIMES, Math.ceil(FAILURES * whole.tried / whole.failed));
    const fails = async (steps: readonly Step[]) => {
      const { failed } = await attempt(steps, times);
      if (failed > 0) say(`${steps.length} calls`);
      return failed > 0;
    };
    const fewest = await shrink(program.steps, fails);
    const simple = await simplify(fewest, simplerOf, fails);
    // What only gave a call the time to end is not needed any more where that call is awaited.
    if (simple !== fewest) await shrink(simple, fails);
    return { failure: failure!, times };
  } finally {
    await interleaver.end();
  }
}

/** A call that is awaited, without an abort, and with fewer options. */
function simplerOf(step: Step): Step[] {
  const { abort: _, ms: _ms, timeout: _timeout, ...rest } = step as Step & Record<string, unknown>;
  const { partscan, overlap } = (rest.options ?? {}) as Record<string, unknown>;
  const few = {
    ...partscan ? { partscan } : {},
    ...overlap ? { overlap } : {},
  };
  const plain = rest.options ? { ...rest, options: few } : rest;
  const all = [{ ...plain, leave: "await" }, { ...plain, leave: "forget" }, plain] as Step[];
  return all.filter((one) => JSON.stringify(one) !== JSON.stringify(step));
}
