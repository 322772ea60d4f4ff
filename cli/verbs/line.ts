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
  readonly #given: ReadonlyMap<string, string | undefined>;

  constructor(operands: readonly string[], given: ReadonlyMap<string, string | undefined>) {
    this.operands = operands;
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

/** Throws {@linkcode UsageError}. */
export function parseLine(verb: Verb, args: readonly string[]): VerbLine {
  const operands: string[] = [];
  const given = new Map<string, string | undefined>();
  for (const { option, value } of getopt(args, operands, [...verb.options, HELP])) {
    given.set(option.long, value);
    if (option === HELP) return new VerbLine([], given);
  }
  const [least, most] = verb.operands;
  if (operands.length < least) throw new UsageError("missing operand", true);
  if (operands.length > most) throw new UsageError(`extra operand '${operands[most]}'`, true);
  return new VerbLine(operands, given);
}
