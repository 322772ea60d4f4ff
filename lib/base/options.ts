/**
 * Options of a public function. Each is declared in one row: what it may be, and what it is where it is
 * left out. Names, checks, defaults and the type of the checked options follow from the rows.
 *
 * @module
 */
import { checkNames, checkOneOf, checkSignal, checkTimeout } from "./checks.ts";

/** One option. */
export interface Row<T> {
  /** Throws a TypeError or RangeError that names the option and what it takes. */
  readonly check: (name: string, value: unknown) => void;
  readonly default?: T;
}

/** A row for each option of an interface, which a missing or an unknown one keeps from compiling. */
export type Rows<Options> = { readonly [Name in keyof Options]-?: Row<Options[Name]> };

/** Options of which those with a default are there. */
export type Checked<Options, Declared extends Rows<Options>> =
  & Options
  & { [Name in keyof Options as Declared[Name] extends Defaulted ? Name : never]-?: Options[Name] };

interface Defaulted {
  readonly default: unknown;
}

/**
 * Checks the options that are given, and puts the defaults in place of the others. `undefined` is as good
 * as left out.
 */
export function checkAgainst<Options extends object, Declared extends Rows<Options>>(
  options: Options,
  rows: Declared,
): Checked<Options, Declared> {
  const { names, defaults } = digest(rows);
  checkNames(options, names);
  const checked: Record<string, unknown> = { ...defaults };
  for (const name of Object.keys(options) as (keyof Options & string)[]) {
    const value = options[name];
    if (value === undefined) continue;
    rows[name].check(name, value);
    checked[name] = value;
  }
  return checked as Checked<Options, Declared>;
}

/** The names of all options, and the values of those that have a default. */
interface Digest {
  readonly names: readonly string[];
  readonly defaults: Readonly<Record<string, unknown>>;
}

const digests = new WeakMap<object, Digest>();

/** Made once of a function's rows, since they are looked through at each call. */
function digest(rows: Readonly<Record<string, Row<unknown>>>): Digest {
  let made = digests.get(rows);
  if (!made) {
    const known = Object.entries(rows);
    const defaults = known.flatMap(([name, row]) => "default" in row ? [[name, row.default]] : []);
    made = { names: known.map(([name]) => name), defaults: Object.fromEntries(defaults) };
    digests.set(rows, made);
  }
  return made;
}

/** The check of an option that has one of a few values. */
export function oneOf(...allowed: readonly unknown[]): Row<unknown>["check"] {
  return (name, value) => checkOneOf(name, value, allowed);
}

/** How long a method waits by default, in ms, for whatever it waits for. */
const WAIT_MS = 10_000;

/** Options of a method that waits and takes no others. */
export interface Waiting {
  timeout?: number;
  signal?: AbortSignal;
}

const WAITING = {
  timeout: { check: checkTimeout, default: WAIT_MS },
  signal: { check: checkSignal },
} satisfies Rows<Waiting>;

/** Options of a method that waits and takes no others, checked. */
export function checkWaiting(options: Waiting): Checked<Waiting, typeof WAITING> {
  return checkAgainst(options, WAITING);
}
