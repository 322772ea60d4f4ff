/**
 * Named cases, each of which is a row: what it saw, and what was wrong. A control shows what goes wrong
 * without loopdev, or that a check can fail.
 */
import { LoopError } from "../../mod.ts";
import { report } from "./report.ts";

/** What a case found. */
export interface Finding {
  /** For the page, short. */
  readonly seen?: string;
  /** What was wrong; none: it passed. */
  readonly faults?: readonly (string | undefined)[];
  /** The error by which an older kernel refuses, if it is the documented one. */
  readonly refused?: string;
  /** Of a control: whether it showed what it is for. */
  readonly shown?: boolean;
}

/** Runs one case. An error of it is its fault. `kind`: of its row, unless it is a control. */
export async function tryCase(
  name: string,
  find: () => Promise<Finding> | Finding,
  kind = "case",
): Promise<void> {
  let found: Finding;
  try {
    found = await find();
  } catch (error) {
    const { name, message } = error as Error;
    found = { faults: [error instanceof LoopError ? message : `${name}: ${message}`] };
  }
  const { seen = "", faults = [], refused, shown } = found;
  report({
    ...{ event: "result", case: name, kind: shown === undefined ? kind : "control", cycles: 1 },
    ...{ seen, refused, shown, faults: faults.filter((fault) => fault !== undefined) },
  });
}

/** `what` if `is` is not what was expected. */
export function differing(what: string, is: unknown, expected: unknown): string | undefined {
  const [a, b] = [is, expected].map((value) => JSON.stringify(value));
  return a === b ? undefined : `${what}: ${a}, not ${b}`;
}

/** `what` if a text does not say something. */
export function unsaid(what: string, text: string, ...parts: readonly (string | RegExp)[]) {
  const missing = parts.filter((part) =>
    typeof part === "string" ? !text.includes(part) : !part.test(text)
  );
  return missing.length === 0 ? undefined : `${what}: "${text}" does not say ${missing.join(", ")}`;
}

/** A message without what differs each time: process ids. */
export const anyProcess = (message: string): string =>
  message.replaceAll(/\b(process,? )\d+ \(/g, "$1PID (");

/** The message by which something was refused; undefined: it was not. */
export async function refusalOf(act: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await act();
    return undefined;
  } catch (error) {
    if (error instanceof LoopError) return error.message;
    throw error;
  }
}
