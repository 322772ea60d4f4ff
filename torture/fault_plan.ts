/** Which calls shall fail how. */
import type { Request } from "./common.ts";
import { ERRORS, LASTING } from "./errors.ts";
import { isLie } from "./fault_rules.ts";
import { type Call, signature } from "./strace.ts";

/** One call that fails, or from there on all of its name. */
export interface Shot {
  readonly call: Call;
  /** Which of the calls that are alike. */
  readonly occurrence: number;
  readonly code: string;
  /** Every call of this name from here on fails, not only this one. */
  readonly lasting: boolean;
}

export interface Fault extends Shot {
  /** A call of what the library does after the first one failed, which fails as well. */
  readonly then?: Shot;
  readonly name: string;
}

/** In the name of a pair. */
export const AND_THEN = " and then ";

/** What the forms of a mount do differently. */
const PLACES =
  /^(move_mount|umount2|mkdirat|mknodat|unlinkat|readlink(at)?|flock|pipe2|ppoll|memfd_create|fcntl|setsid|dup2|execve|wait4)$/;

/** Calls of a name that differ in a number alone are of one kind. */
const kindOf = (call: Call): string =>
  signature(call).replaceAll(/loopNp\d+/g, "loopNpN").replaceAll(/\/proc\/\d+\//g, "/proc/N/")
    .replaceAll(/\/fd\/\d+/g, "/fd/N");

/** Each of the calls, with which of those that are alike it is, and which of its kind. */
function* numbered(calls: readonly Call[]) {
  const alike = new Map<string, number>();
  const ofKind = new Map<string, number>();
  for (const call of calls) {
    const [name, kind] = [signature(call), kindOf(call)];
    const occurrence = alike.get(name) ?? 0;
    const times = (ofKind.get(kind) ?? 0) + 1;
    alike.set(name, occurrence + 1);
    ofKind.set(kind, times);
    yield { call, occurrence, kind, times };
  }
}

const textOf = (call: Call, times: number, { code, lasting }: Pick<Shot, "code" | "lasting">) =>
  `${signature(call)} #${times} ${code}${lasting ? " from then on" : ""}`;

/**
 * Each call of the scenario with each error, once and from then on. Of calls that differ only in their
 * partition, or in the process that is asked who has a device open, one stands for all; and at ci size, of
 * a further form of a mount, the calls by which it differs from the first.
 */
export function plan(
  calls: readonly Call[],
  prefix: string,
  { full, scale, only }: Request,
): Fault[] {
  const faults: Fault[] = [];
  for (const { call, occurrence, kind, times } of numbered(calls)) {
    if (!full && scale < 1 && / mount-/.test(prefix) && !PLACES.test(call.name)) continue;
    if (times > 1 && (!full || kind.includes("/proc/N/"))) continue;
    for (const code of ERRORS[call.name] ?? []) {
      for (const lasting of times === 1 && LASTING.includes(code) ? [false, true] : [false]) {
        const error = `${code}${lasting ? " from then on" : ""}`;
        if (isLie(kind, error)) continue;
        const name = `${prefix} ${textOf(call, times, { code, lasting })}`;
        if (matches(only, name)) faults.push({ call, occurrence, code, lasting, name });
      }
    }
  }
  return faults;
}

/** `--only` of a pair means its first fault, too. */
function matches(only: RegExp | undefined, name: string): boolean {
  const [first, then] = only?.source.split(AND_THEN) ?? [];
  return (only?.test(name) ?? true) || then !== undefined && new RegExp(`${first}$`).test(name);
}

/** In this order, as far as a call can give them. */
const SECOND = ["EIO", "EMFILE", "EPERM", "EINVAL", "ENOMEM"];
const BUSY = ["EBUSY", "EINTR"];

/**
 * What `after` has of calls: those that the library makes once `fault` alone has failed. Each fails as
 * well, with one error that says that it does not work, and one that says that it does not work now.
 */
export function pairs(fault: Fault, after: readonly Call[], only: RegExp | undefined): Fault[] {
  const all: Fault[] = [];
  if (only && !only.source.includes(AND_THEN)) return all;
  for (const { call, occurrence, kind, times } of numbered(after)) {
    if (times > 1 || kind.includes("/proc/N/")) continue;
    const possible = ERRORS[call.name] ?? [];
    const codes = call.name === fault.call.name
      // strace knows one error for all calls of a name.
      ? [fault.code].filter((code) => possible.includes(code))
      : [SECOND, BUSY].flatMap((some) => some.find((code) => possible.includes(code)) ?? []);
    for (const code of codes) {
      if (isLie(kind, code)) continue;
      const then = { call, occurrence, code, lasting: false };
      const name = `${fault.name}${AND_THEN}${textOf(call, times, then)}`;
      if (only?.test(name) ?? true) all.push({ ...fault, then, name });
    }
  }
  return all;
}

/** What strace is told: which calls of a name, counted in each thread, shall fail. */
export function injections(shots: readonly (Shot & { nth: number })[]): string[] {
  const byName = Map.groupBy(shots, ({ call }) => call.name);
  return [...byName].map(([name, of]) => {
    const [first, last = first] = of.map(({ nth }) => nth).sort((a, b) => a - b);
    const when = of[0].lasting
      ? `${first}+`
      : first === last
      ? `${first}`
      : `${first}..${last}+${last - first}`;
    return `${name}:error=${of[0].code}:when=${when}`;
  });
}
