/**
 * Checks of the public functions' arguments, before any system call. Each throws a TypeError or
 * RangeError that names the value and what is allowed.
 *
 * @module
 */

/**
 * A path, or a file: URL as a path. A NUL would end the name early, and a lone surrogate would become
 * U+FFFD: either names another file.
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
    throw new TypeError(`${what} ${url.href} is not valid UTF-8`);
  }
}

export function checkText(what: string, value: string): void {
  if (value.includes("\0")) throw new TypeError(`${what} ${show(value)} contains a NUL`);
  if (!value.isWellFormed()) throw new TypeError(`${what} ${show(value)} is not valid Unicode`);
}

export function checkObject(value: unknown, what = "options"): asserts value is object {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return;
  throw new TypeError(`${what} must be an object, not ${show(value)}`);
}

/**
 * Throws unless `value` is an object with these names and no others, since a misspelt option would be
 * ignored. `what`: what the message calls it, "a partition"; by default it holds options.
 */
export function checkNames(value: unknown, names: readonly string[], what?: string): void {
  checkObject(value, what);
  const unknown = Reflect.ownKeys(value).find((name) => !names.includes(name as string));
  if (unknown === undefined) return;
  const [key, known] = what ? [`key '${String(unknown)}' of ${what}`, "its keys"] : [
    `option '${String(unknown)}'`,
    "options",
  ];
  throw new TypeError(`unknown ${key}; ${known} are ${names.toSorted().join(", ")}`);
}

export function checkTimeout(name: string, value: unknown): void {
  if (typeof value === "number" && value >= 0) return;
  throw new RangeError(`${name} must be a number of ms from 0 on, not ${show(value)}`);
}

export function checkSignal(name: string, value: unknown): void {
  if (value instanceof AbortSignal) return;
  throw new TypeError(`${name} must be an AbortSignal, not ${show(value)}`);
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

export function checkWholeNumber(name: string, value: unknown, least: number, most: number): void {
  if (Number.isSafeInteger(value) && value as number >= least && value as number <= most) return;
  const Kind = typeof value === "number" ? RangeError : TypeError;
  throw new Kind(`${name} must be a whole number from ${least} to ${most}, not ${show(value)}`);
}

/** A value as a message shows it. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value !== "object" || value === null) return String(value);
  return Array.isArray(value) ? "an array" : "an object";
}
