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
import { parseLine, type VerbLine } from "./line.ts";

/** Does what a verb says. Returns the exit code, if it is not that of the console. */
type Act = (line: VerbLine, console: Console) => Promise<number | void>;

/** Each is loaded when it is asked for. */
const ACTS: Record<string, () => Promise<Act>> = {
  ls: async () => (await import("./ls.ts")).ls,
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
  let code: number | void = undefined;
  try {
    const line = parseLine(verb, args.slice(1));
    if (line.has("help")) output.write([verbHelp(verb)]);
    else code = await (await ACTS[verb.name]())(line, console);
    output.flush();
  } catch (error) {
    console.complain(error);
    if (error instanceof UsageError && error.tryHelp) console.pointToHelp(verb.name);
  }
  return code || console.exitCode;
}
