/**
 * getopt_long(3), with which losetup reads its arguments. The order counts, since an error or --help
 * ends the program. There are clusters (-fP), abbreviations (--sector) and glibc's messages, word by
 * word. node:util's parseArgs() has neither abbreviations nor these messages.
 *
 * @module
 */
import { type Option, OPTIONS } from "./options.ts";

/** A mistake on the command line: one line on stderr, and exit code 1. */
export class UsageError extends Error {
  /** Whether a line that points to --help follows. */
  readonly tryHelp: boolean;

  constructor(message: string, tryHelp = false) {
    super(message);
    this.tryHelp = tryHelp;
  }
}

/** An option that was given. */
export interface Given {
  readonly option: Option;
  readonly value: string | undefined;
}

/** Yields the options in their order; pushes everything else to `operands`. `known`: what there is. */
export function* getopt(
  args: readonly string[],
  operands: string[],
  known: readonly Option[] = OPTIONS,
): Generator<Given> {
  const rest = [...args];
  for (let argument; (argument = rest.shift()) !== undefined;) {
    if (argument === "--") break;
    if (argument.startsWith("--")) yield longOption(argument, rest, operands, known);
    else if (argument.startsWith("-") && argument !== "-") {
      yield* cluster(argument.slice(1), rest, operands, known);
    } else operands.push(argument);
  }
  operands.push(...rest);
}

function longOption(
  argument: string,
  rest: string[],
  operands: string[],
  known: readonly Option[],
): Given {
  const equals = argument.indexOf("=");
  const name = argument.slice(2, equals < 0 ? undefined : equals);
  const value = equals < 0 ? undefined : argument.slice(equals + 1);
  const option = byLongName(name, argument, known);
  if (option.argument === "required") {
    const given = value ?? rest.shift();
    if (given === undefined) {
      throw new UsageError(`option '--${option.long}' requires an argument`, true);
    }
    return { option, value: given };
  }
  if (value !== undefined && takesDevice(option)) operands.push(value);
  else if (value !== undefined && option.argument === undefined) {
    throw new UsageError(`option '--${option.long}' doesn't allow an argument`, true);
  }
  return { option, value };
}

function byLongName(name: string, argument: string, known: readonly Option[]): Option {
  const exact = known.find(({ long }) => long === name);
  if (exact) return exact;
  // losetup has no --verbose since 2.42: --ver must stay an abbreviation of --version.
  const candidates = known.filter(({ long }) => long.startsWith(name) && long !== "verbose");
  if (candidates.length === 1) return candidates[0];
  if (candidates.length === 0) throw new UsageError(`unrecognized option '${argument}'`, true);
  const names = candidates.map(({ long }) => long).toSorted((a, b) => rank(a) - rank(b));
  const list = names.map((long) => `'--${long}'`).join(" ");
  throw new UsageError(`option '${argument}' is ambiguous; possibilities: ${list}`, true);
}

function* cluster(
  letters: string,
  rest: string[],
  operands: string[],
  known: readonly Option[],
): Generator<Given> {
  for (let at = 0; at < letters.length; at++) {
    const letter = letters[at];
    const option = known.find(({ short }) => short === letter);
    if (!option) throw new UsageError(`invalid option -- '${letter}'`, true);
    if (option.argument === "required") {
      const value = letters.slice(at + 1) || rest.shift();
      if (value === undefined) {
        throw new UsageError(`option requires an argument -- '${letter}'`, true);
      }
      return yield { option, value };
    }
    yield { option, value: undefined };
    if (takesDevice(option) && letters[at + 1] === "/") {
      operands.push(letters.slice(at + 1));
      return;
    }
  }
}

/** Until util-linux 2.41 these took an argument: scripts may have -d/dev/loop4, --detach=/dev/loop4. */
function takesDevice({ long }: Option): boolean {
  return long === "detach" || long === "set-capacity";
}

/** The order in which losetup lists the options that an ambiguous abbreviation may mean. */
const ORDER = ("all set-capacity detach detach-all find nooverlap help associated json list " +
  "sector-size noheadings offset output output-all sizelimit partscan read-only direct-io raw " +
  "loop-ref show version remove").split(" ");

function rank(long: string): number {
  return (ORDER.indexOf(long) + 1) || Infinity;
}
