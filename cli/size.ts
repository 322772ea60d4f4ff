/**
 * Sizes as losetup reads them: 512, 0x200, 1K, 1KiB (1024), 1KB (1000), 1.5M.
 *
 * @module
 */
import { UsageError } from "./getopt.ts";

const SUFFIXES = "KMGTPEZY";
const MOST = 2n ** 64n - 1n;

/** Parses `text`; throws UsageError "failed to parse `what`: …" as losetup words it. */
export function parseSize(text: string, what: string): bigint {
  const fail = (reason: string) => new UsageError(`failed to parse ${what}: '${text}': ${reason}`);
  // C's base 0: hexadecimal behind 0x, octal behind 0.
  const [, digits, rest] = /^\s*\+?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)(.*)$/s.exec(text) ?? [];
  if (digits === undefined) throw fail("Invalid argument");
  const number = BigInt(digits.replace(/^0(?=[0-7])/, "0o"));
  if (number > MOST) throw fail("Numerical result out of range");
  if (rest === "") return number;

  const [, fraction = "", suffix, unit] = /^(?:\.([0-9]*))?([KMGTPEZY])(i?[Bb])?$/i.exec(rest) ??
    [];
  if (suffix === undefined || unit?.startsWith("I")) throw fail("Invalid argument");
  const base = unit === undefined || unit.startsWith("i") ? 1024n : 1000n;
  const scale = base ** BigInt(SUFFIXES.indexOf(suffix.toUpperCase()) + 1);
  if (number * scale > MOST) throw fail("Numerical result out of range");
  return number * scale + fractionOf(fraction, scale);
}

/**
 * losetup divides in whole numbers, digit by digit, so that 1.3K is 1365 and 1.10K is 2048. Another
 * result would attach another part of the file.
 */
function fractionOf(fraction: string, scale: bigint): bigint {
  const digits = fraction.replace(/^0+/, "");
  if (digits === "") return 0n;
  let places = 10n;
  while (places < BigInt(digits)) places *= 10n;
  places *= 10n ** BigInt(fraction.length - digits.length);
  let sum = 0n;
  for (const digit of [...digits].toReversed().map(BigInt)) {
    if (digit > 0n && places >= digit) sum += scale / (places / digit);
    places /= 10n;
  }
  return sum;
}
