/** The command line of this repository's programs: each knows --help, and names what it does not know. */
import process from "node:process";
import { type Options, parseOptions, type Values } from "../examples/program.ts";

/** As its Usage line calls it. */
let program = "";

/**
 * Reads the program's options and operands. Prints `help` and ends the program if --help is among
 * them; at a mistake prints a line that names it and ends with 2. `help` begins with
 * "Usage: FILE OPERANDS", where FILE is from the root of the tree.
 */
export function readOptions<const T extends Options>(
  help: string,
  options: T,
  { least = 0, most = 0 }: { least?: number; most?: number } = {},
): { values: Values<T>; operands: readonly string[] } {
  program = /^Usage: (\S+)/.exec(help)![1];
  try {
    const parsed = parseOptions(process.argv.slice(2), {
      ...options,
      help: { type: "boolean", short: "h" },
    });
    if (parsed.values.help) {
      console.log(help);
      process.exit(0);
    }
    const operands = [...parsed.operands, ...parsed.command];
    if (operands.length < least) throw new Error("an operand is missing; try --help");
    if (operands.length > most) throw new Error(`'${operands[most]}' is one too many; try --help`);
    return { values: parsed.values as Values<T>, operands };
  } catch (error) {
    return fail((error as Error).message);
  }
}

/** The number that an option has, or `usual`. Another text ends the program. */
export function numberOf(name: string, text: string | undefined, usual: number, least = 0): number {
  const value = text === undefined ? usual : Number(text);
  if (Number.isSafeInteger(value) && value >= least) return value;
  return fail(`--${name} takes a whole number from ${least} on, not '${text}'`);
}

/** What an option has if it is one of `all`; the first of them if it was not given. */
export function oneOf<const T extends string>(
  name: string,
  text: string | undefined,
  all: readonly T[],
): T {
  const found = text === undefined ? all[0] : all.find((one) => one === text);
  return found ?? fail(`--${name} takes ${all.join(", ")}, not '${text}'`);
}

/** Ends the program at a mistake in its command line. */
export function fail(message: string): never {
  console.error(`${program}: ${message}`);
  return process.exit(2);
}
