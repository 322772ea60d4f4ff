/**
 * From the arguments behind a verb to its operands and options.
 *
 * @module
 */
import { getopt, UsageError } from "../getopt.ts";
import { HELP, type Verb } from "../verb_table.ts";

/** A command line that was parsed. */
export class VerbLine {
  readonly operands: readonly string[];
  /** What stands behind `--`, of a verb that takes a command. */
  readonly command: readonly string[] | undefined;
  readonly #given: ReadonlyMap<string, string | undefined>;

  constructor(
    operands: readonly string[],
    given: ReadonlyMap<string, string | undefined>,
    command?: readonly string[],
  ) {
    this.operands = operands;
    this.command = command;
    this.#given = given;
  }

  /** Whether the option was given. */
  has(long: string): boolean {
    return this.#given.has(long);
  }

  /** What was given with it, the last time. */
  value(long: string): string | undefined {
    return this.#given.get(long);
  }
}

/** For a word that may be meant for a command. */
export const BEHIND = " (a command stands behind '--')";

/** Throws {@linkcode UsageError}. */
export function parseLine(verb: Verb, args: readonly string[]): VerbLine {
  const end = verb.command === true ? args.indexOf("--") : -1;
  const command = end < 0 ? undefined : args.slice(end + 1);
  const own = end < 0 ? args : args.slice(0, end);
  const operands: string[] = [];
  const given = new Map<string, string | undefined>();
  for (const { option, value } of getopt(own, operands, [...verb.options, HELP])) {
    given.set(option.long, value);
    if (option === HELP) return new VerbLine([], given);
  }
  const [least, most] = verb.operands;
  if (operands.length < least) throw new UsageError("missing operand", true);
  if (operands.length > most) {
    const remedy = verb.command === true ? BEHIND : "";
    throw new UsageError(`extra operand '${operands[most]}'${remedy}`, true);
  }
  // "$command" of a shell, where that is not set, is an empty word.
  if (command && !command[0]) throw new UsageError("no command behind '--'", true);
  return new VerbLine(operands, given, command);
}
