/**
 * The verbs: finds the one that is asked for, loads it, and reports what goes wrong.
 *
 * @module
 */
import { UsageError } from "../getopt.ts";
import { Output } from "../output.ts";
import type { Runtime } from "../runtime.ts";
import { VERBS } from "../verb_table.ts";
import { Console } from "./console.ts";
import { verbHelp } from "./help.ts";
import { Interrupted } from "./interrupt.ts";
import { parseLine, type VerbLine } from "./line.ts";

/** Does what a verb says. Returns the exit code, if it is not that of the console. */
type Act = (line: VerbLine, console: Console) => Promise<number | void>;

/** The exit code where a command was to be run, as env(1) has it. */
const CANNOT_RUN = 125;

/** Each is loaded when it is asked for. */
const ACTS: Record<string, () => Promise<Act>> = {
  run: async () => (await import("./run.ts")).run,
  ls: async () => (await import("./ls.ts")).ls,
  cp: async () => (await import("./cp.ts")).cp,
  grow: async () => (await import("./grow.ts")).grow,
  mount: async () => (await import("./mount.ts")).mount,
  umount: async () => (await import("./umount.ts")).umount,
};

/** Whether another thread must make the calls that block. */
export function needsThreads(name: string): boolean {
  return verbNamed(name)?.threads ?? false;
}

const verbNamed = (name: string) => VERBS.find((verb) => verb.name === name);

/** Runs a verb; resolves to the exit code, or to undefined if `args` begin with none. */
export async function runVerb(
  args: readonly string[],
  runtime: Runtime,
): Promise<number | undefined> {
  const verb = verbNamed(args[0]);
  if (!verb) return undefined;
  const output = new Output(runtime);
  const console = new Console(runtime, output);
  try {
    const line = parseLine(verb, args.slice(1));
    if (line.has("help")) output.write([verbHelp(verb)]);
    else console.exitCode = await (await ACTS[verb.name]())(line, console) ?? console.exitCode;
    output.flush();
  } catch (error) {
    console.status("");
    if (error instanceof Interrupted) return error.exitCode;
    console.complain(error);
    if (verb.command === true) console.exitCode = CANNOT_RUN;
    if (error instanceof UsageError && error.tryHelp) console.pointToHelp(verb.name);
  }
  return console.exitCode;
}
