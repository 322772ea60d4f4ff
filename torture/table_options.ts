/** The command line of programs that try generated partition tables. */
import process from "node:process";
import { numberOf, readOptions } from "../dev/options.ts";
import { progress, say } from "../dev/terminal.ts";

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
  const { values } = readOptions(help, {
    count: { type: "string" },
    seed: { type: "string" },
    case: { type: "string" },
    json: { type: "string" },
  });
  const seed = crypto.getRandomValues(new Uint32Array(1))[0];
  return {
    count: numberOf("count", values.count, 1_000_000),
    seed: numberOf("seed", values.seed, seed),
    case: values.case === undefined ? undefined : numberOf("case", values.case, 0),
    json: values.json,
  };
}

/** On stderr; a terminal shows the last one alone. */
export function showProgress(done: number, count: number, violated: number): void {
  const text = `${done} of ${count} tables, ${violated} in violation`;
  if (process.stderr.isTTY) progress(text);
  else say(text);
}
