/** What the examples share as programs: their options, what they print, signals, and exit codes. */
import { writeSync } from "node:fs";
import { constants } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import type { PartitionSelector } from "../mod.ts";
import { messagesOf } from "./printable.ts";

/** An option, as node:util has it. */
interface Option {
  readonly type: "boolean" | "string";
  readonly short?: string;
  readonly multiple?: boolean;
  /** A boolean one takes one of these as well: `--partscan=userspace`. */
  readonly or?: readonly string[];
}

export type Options = Readonly<Record<string, Option>>;

type Value<T extends Option> = T["type"] extends "string"
  ? T["multiple"] extends true ? string[] : string
  : T["or"] extends readonly string[] ? true | T["or"][number]
  : true;

/** What the options were given; undefined where one was not. */
export type Values<T extends Options> = { readonly [name in keyof T]?: Value<T[name]> };

/** The command line as the program's options describe it. */
export interface Parsed<T extends Options> {
  readonly values: Values<T>;
  /** What is no option. */
  readonly operands: readonly string[];
  /** What follows `--`. */
  readonly command: readonly string[];
}

/** Reads the command line; throws an error that names the argument at fault. */
export function parseOptions<const T extends Options>(args: string[], options: T): Parsed<T> {
  const { values, tokens } = parseArgs({
    args,
    options: options as Record<string, { type: "boolean" | "string" }>,
    strict: false,
    tokens: true,
  });
  const end = tokens.find(({ kind }) => kind === "option-terminator")?.index ?? args.length;
  const operands: string[] = [];
  for (const token of tokens) {
    if (token.kind === "option") check(token, options[token.name]);
    if (token.kind === "positional" && token.index < end) operands.push(token.value);
  }
  return {
    values: values as Parsed<T>["values"],
    operands,
    command: args.slice(end + 1),
  };
}

function check({ rawName, value }: { rawName: string; value?: string }, option?: Option): void {
  if (option === undefined) throw new Error(`unknown option '${rawName}'; try --help`);
  if (option.type === "string") {
    if (value === undefined) throw new Error(`${rawName} takes a value; try --help`);
  } else if (value !== undefined && !option.or?.includes(value)) {
    const allowed = option.or ? `nothing or '${option.or.join("', '")}'` : "no value";
    throw new Error(`${rawName} takes ${allowed}, not '${value}'`);
  }
}

/** A number of bytes, ms and the like; undefined if it was not given. */
export function parseNumber(name: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (!/^\d+$/.test(value)) throw new Error(`--${name} takes a number, not '${value}'`);
  return Number(value);
}

/** A partition: its number, or `label=data` and the like. */
export function parsePartition(text: string): PartitionSelector {
  if (/^[1-9]\d*$/.test(text)) return Number(text);
  const [, key, value] = /^(name|label|uuid|partuuid|type)=(.+)$/.exec(text) ?? [];
  if (key !== undefined) return { [key]: value } as PartitionSelector;
  throw new Error(
    `the partition must be a number from 1 on, or name=, label=, uuid=, partuuid= or type= with a ` +
      `value, not '${text}'`,
  );
}

/**
 * Writes a line to stdout, and throws if that fails. console.log() drops the error on Bun and Node: a
 * full disk would look like success.
 */
export function print(line: string): void {
  const bytes = new TextEncoder().encode(`${line}\n`);
  try {
    for (let done = 0; done < bytes.length;) done += writeSync(1, bytes, done);
  } catch (error) {
    throw new Error(`cannot write to stdout: ${(error as Error).message}`);
  }
}

/** Exit code of a process that a signal ends, as shells give it. */
export function signalCode(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** Calls `handle` for each SIGINT and SIGTERM, from now on. */
export function onSignal(handle: (signal: NodeJS.Signals) => void): void {
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => handle(signal));
}

/**
 * Runs a program to its end. `stop` is aborted by the first SIGINT or SIGTERM, from the start: one in
 * the middle of attach() must undo it. Errors are lines on stderr.
 */
export async function runMain(
  name: string,
  main: (args: string[], stop: AbortSignal) => Promise<number>,
): Promise<never> {
  const stop = new AbortController();
  onSignal((signal) => stop.abort(signal));
  let status: number;
  try {
    status = await main(process.argv.slice(2), stop.signal);
  } catch (error) {
    const isStopped = stop.signal.aborted && error === stop.signal.reason;
    status = isStopped ? signalCode(stop.signal.reason) : 1;
    if (!isStopped) {
      for (const message of messagesOf(error)) console.error(`${name}: ${message}`);
    }
  }
  process.exit(status);
}
