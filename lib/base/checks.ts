/**
 * What callers give to any function of the public API, checked in the same words before any system
 * call: a TypeError or RangeError that names what was given and what is taken.
 *
 * @module
 */

/**
 * A path as a string, or a file: URL. What C or UTF-8 cannot say would become another file's name:
 * NUL ends a name, and half a surrogate pair is encoded as U+FFFD.
 */
export function checkPath(what: string, value: unknown): string {
  const path = value instanceof URL ? pathOf(what, value) : value;
  if (typeof path !== "string") {
    throw new TypeError(`${what} must be a path or a file: URL, not ${show(value)}`);
  }
  checkText(what, path);
  return path;
}

function pathOf(what: string, url: URL): string {
  if (url.protocol !== "file:" || url.hostname !== "") {
    throw new TypeError(`${what} must be a path or a file: URL of this machine, not ${url.href}`);
  }
  if (/%2f/i.test(url.pathname)) throw new TypeError(`${what} ${url.href} has an encoded slash`);
  try {
    return decodeURIComponent(url.pathname);
  } catch {
    throw new TypeError(`${what} ${url.href} is no UTF-8`);
  }
}

export function checkText(what: string, value: string): void {
  if (value.includes("\0")) throw new TypeError(`${what} ${show(value)} contains a NUL`);
  if (!value.isWellFormed()) throw new TypeError(`${what} ${show(value)} is no valid Unicode`);
}

export function checkObject(options: unknown): asserts options is object {
  if (typeof options === "object" && options !== null && !Array.isArray(options)) return;
  throw new TypeError(`options must be an object, not ${show(options)}`);
}

/** The same of an object that is no bag of options: `what`, "a partition". */
export function checkKeys(what: string, value: unknown, keys: readonly string[]): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError(`${what} must be an object, not ${show(value)}`);
  }
  const unknown = Reflect.ownKeys(value).find((key) => !keys.includes(key as string));
  if (unknown === undefined) return;
  throw new TypeError(
    `unknown key '${String(unknown)}' of ${what}; its keys are ${keys.toSorted().join(", ")}`,
  );
}

/** Options must be an object with these names and no others: a misspelt one does nothing silently. */
export function checkNames(options: unknown, names: readonly string[]): void {
  checkObject(options);
  for (const name of Reflect.ownKeys(options)) {
    if (typeof name === "string" && names.includes(name)) continue;
    throw new TypeError(
      `unknown option '${String(name)}'; options are ${names.toSorted().join(", ")}`,
    );
  }
}

/** How long something may take in ms, and what stops it. */
export function checkWait({ timeout, signal }: { timeout?: unknown; signal?: unknown }): void {
  if (timeout !== undefined && !(typeof timeout === "number" && timeout >= 0)) {
    throw new RangeError(`timeout must be a number of ms from 0 on, not ${show(timeout)}`);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new TypeError(`signal must be an AbortSignal, not ${show(signal)}`);
  }
}

/** How long a method waits by default, in ms. */
const WAIT_MS = 10_000;

/** Options of a method that waits and takes no others, with their defaults. */
export function checkWaiting(
  options: { timeout?: number; signal?: AbortSignal },
): { timeout: number; signal?: AbortSignal } {
  checkNames(options, ["timeout", "signal"]);
  checkWait(options);
  return { ...options, timeout: options.timeout ?? WAIT_MS };
}

export function checkBoolean(name: string, value: unknown): void {
  checkOneOf(name, value, [true, false]);
}

export function checkFunction(name: string, value: unknown): void {
  if (value === undefined || typeof value === "function") return;
  throw new TypeError(`${name} must be a function, not ${show(value)}`);
}

export function checkOneOf(name: string, value: unknown, allowed: readonly unknown[]): void {
  if (allowed.includes(value)) return;
  const list = allowed.filter((each) => each !== undefined).map(show).join(", ");
  const Kind = typeof value === "number" ? RangeError : TypeError;
  throw new Kind(`${name} must be one of ${list}, not ${show(value)}`);
}

export function checkByteCount(name: string, value: unknown): void {
  if (typeof value !== "number") {
    throw new TypeError(`${name} must be a number of bytes, not ${show(value)}`);
  }
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`${name} must be a whole number of bytes from 0 on, not ${value}`);
  }
}

/** A whole number within bounds. */
export function checkWholeNumber(name: string, value: unknown, least: number, most: number): void {
  if (Number.isSafeInteger(value) && value as number >= least && value as number <= most) return;
  const Kind = typeof value === "number" ? RangeError : TypeError;
  throw new Kind(`${name} must be a whole number from ${least} to ${most}, not ${show(value)}`);
}

/** A partition's number; undefined: the whole device. */
export function checkPartition(partition: unknown): void {
  if (partition !== undefined) checkWholeNumber("partition", partition, 1, 2 ** 20);
}

/** A value as a message can show it, whatever it is. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value !== "object" || value === null) return String(value);
  return Array.isArray(value) ? "an array" : "an object";
}
