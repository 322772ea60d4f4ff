/**
 * Sizes as losetup reads them: 512, 0x200, 1K, 1KiB (1024), 1KB (1000), 1.5M. The arithmetic is that of
 * ul_parse_size() of util-linux, in whole numbers of 64 bits: another result would attach another part
 * of the file.
 *
 * @module
 */
import { UsageError } from "./getopt.ts";

const SUFFIXES = "KMGTPEZY";
const MOST = 2n ** 64n - 1n;

/** Behind the first number. As in losetup, zeros may have several points: 1.0.5K is 1.05K. */
const REST = /^((?:\.0*)*)([1-9][0-9]*)?([KMGTPEZY])(i?[Bb])?$/i;

/** Parses `text`; throws UsageError "failed to parse `what`: …" as losetup words it. */
export function parseSize(text: string, what: string): bigint {
  const fail = (reason: string) => new UsageError(`failed to parse ${what}: '${text}': ${reason}`);
  // C's base 0: hexadecimal behind 0x, octal behind 0.
  const [, digits, rest] = /^\s*\+?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)(.*)$/s.exec(text) ?? [];
  if (digits === undefined) throw fail("Invalid argument");
  const number = BigInt(digits.replace(/^0(?=[0-7])/, "0o"));
  if (number > MOST) throw fail("Numerical result out of range");
  if (rest === "") return number;

  const [, zeros = "", fraction = "0", suffix, unit] = REST.exec(rest) ?? [];
  if (suffix === undefined || unit?.startsWith("I")) throw fail("Invalid argument");
  if (fraction !== "0" && zeros === "") throw fail("Invalid argument");
  if (BigInt(fraction) > MOST) throw fail("Numerical result out of range");
  const base = unit === undefined || unit.startsWith("i") ? 1024n : 1000n;
  const power = SUFFIXES.indexOf(suffix.toUpperCase()) + 1;
  if (number * base ** BigInt(power) > MOST) throw fail("Numerical result out of range");
  const part = fractionOf(BigInt(fraction), zeros.replaceAll(".", "").length, scale(base, power));
  return BigInt.asUintN(64, number * base ** BigInt(power) + part);
}

/** The power of the base, or the largest that 64 bits hold: 0.5Y is a part of that. */
function scale(base: bigint, power: number): bigint {
  let scaled = 1n;
  for (let i = 0; i < power && scaled <= MOST / base; i++) scaled *= base;
  return scaled;
}

/**
 * As losetup does, in whole numbers and digit by digit: 1.3K is 1365 and 1.10K is 2048. Digits beyond
 * the 19th do not count.
 */
function fractionOf(fraction: bigint, zeros: number, scaled: bigint): bigint {
  if (fraction === 0n) return 0n;
  let rest = fraction;
  let places = 10n;
  const widen = () => {
    if (places <= MOST / 10n) places *= 10n;
    else rest /= 10n;
  };
  while (places < rest) widen();
  for (let i = 0; i < zeros; i++) widen();
  let sum = 0n;
  for (; rest > 0n; rest /= 10n, places /= 10n) {
    const digit = rest % 10n;
    if (digit > 0n && places >= digit) sum += scaled / (places / digit);
  }
  return sum;
}
