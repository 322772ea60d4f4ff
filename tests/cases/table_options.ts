/** The command line of programs that try generated partition tables. */
import process from "node:process";
import { parseArgs } from "@std/cli/parse-args";
import { progress, say } from "../../dev/terminal.ts";

export interface TableOptions {
  readonly count: number;
  readonly seed: number;
  /** This table of the seed alone. */
  readonly case?: number;
  /** Where the summary goes. */
  readonly json?: string;
}

/** How often a program that goes on for long says so. */
export const PROGRESS_MS = process.stderr.isTTY ? 200 : 10_000;
/** More violations are counted, not shown. */
export const MOST_SHOWN = 20;

/** Ends the program at --help, and at a mistake. */
export function parseTableOptions(help: string): TableOptions {
  const fail = (message: string): never => {
    console.error(message);
    return process.exit(2);
  };
  const options = parseArgs(process.argv.slice(2), {
    string: ["count", "seed", "case", "json"],
    boolean: ["help"],
    default: { count: "1000000", seed: String(crypto.getRandomValues(new Uint32Array(1))[0]) },
    unknown: (argument: string) => fail(`unknown: ${argument}\n\n${help}`),
  });
  if (options.help) {
    console.log(help);
    process.exit(0);
  }
  const numeric = (name: "count" | "seed" | "case"): number => {
    const value = Number(options[name]);
    const isNumber = Number.isSafeInteger(value) && value >= 0;
    return isNumber ? value : fail(`--${name} takes a number, not '${options[name]}'`);
  };
  return {
    count: numeric("count"),
    seed: numeric("seed"),
    case: options.case === undefined ? undefined : numeric("case"),
    json: options.json,
  };
}

/** On stderr; a terminal shows the last one alone. */
export function showProgress(done: number, count: number, violated: number): void {
  const text = `${done} of ${count} tables, ${violated} in violation`;
  if (process.stderr.isTTY) progress(text);
  else say(text);
}
