/**
 * Kernel releases, and which bugs they have. Whatever a release string does not disprove counts as
 * affected.
 *
 * @module
 */
import { libc } from "../runtime/libc.ts";

/**
 * A kernel bug by the releases that have it.
 *
 * @example
 * ```ts
 * import { isAffected, type KernelBug } from "@loopdev/loopdev";
 * const bug: KernelBug = {
 *   name: "EXAMPLE",
 *   symptom: "none",
 *   oldest: "5.8",
 *   since: { release: "5.15", commit: "9f65c489b68d" },
 *   until: { release: "6.2", commit: "267ec4d7223a" },
 *   backports: [],
 * };
 * console.log(isAffected("6.1.0", bug)); // true
 * ```
 */
export interface KernelBug {
  /** The bug's own name: `"PARTSCAN_RACE"`. */
  readonly name: string;
  /** One line: what a user sees. */
  readonly symptom: string;
  /**
   * Below this release the library does not work at all. So a lower number is made up by a personality
   * (`setarch --uname-2.6`) and proves nothing.
   */
  readonly oldest?: string;
  /** First release with the bug, and the commit that brought it. */
  readonly since: { readonly release: string; readonly commit: string };
  /** First mainline release without the bug, and the commit that fixed it. */
  readonly until: { readonly release: string; readonly commit: string };
  /** Stable series that got the fix: first release with it, and the commit there where it is known. */
  readonly backports: readonly { readonly release: string; readonly commit?: string }[];
}

/** A kernel release, as far as its string tells. */
export interface Release {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** `-rc3`: older than the release whose number it carries. */
  readonly candidate: boolean;
  readonly origin: Origin;
}

/**
 * Who built a kernel, and so what its number says about its block layer.
 *
 *     upstream     kernel.org: the number says all
 *     debian       the series is genuine; the third number is genuine or left out (0)
 *     ubuntu       the series is genuine, the third number is left out (0)
 *     rolling      each stable release is built anew, so the number says all; old SLE kernels look alike
 *     enterprise   one series for ten years, with a block layer from later ones: a number below the fix
 *                  says nothing
 *     unknown      the number of the stable release that it was made from, perhaps with changes
 */
type Origin = "upstream" | "debian" | "ubuntu" | "rolling" | "enterprise" | "unknown";

/** `uname -r` in parts, or undefined if it does not begin with a version. */
export function parseRelease(release: string): Release | undefined {
  const match = /^(\d{1,3})\.(\d{1,4})(?:\.(\d{1,5}))?(?![\d])(.*)$/.exec(release.trim());
  if (!match) return undefined;
  const [, major, minor, patch = "0", suffix] = match;
  return {
    major: Number(major),
    minor: Number(minor),
    patch: Number(patch),
    // Both wait until they are asked for: the first run of an expression compiles it, and the numbers are
    // often enough.
    get candidate() {
      // -rc7, Fedora's -0.rc3.250523g…, Ubuntu's mainline builds' -070100rc3-generic
      return /(?<![a-z])rc\d/.test(suffix);
    },
    get origin() {
      return BUILDERS.find(({ tail }) => tail.test(suffix))?.origin ?? "unknown";
    },
  };
}

/** By the tail of a release; the first match wins. */
const BUILDERS: readonly { readonly tail: RegExp; readonly origin: Origin }[] = [
  { tail: /^(-rc\d+)?$/, origin: "upstream" },
  // 6.18.33-1.el9.elrepo.x86_64: kernel-ml and kernel-lt are kernel.org's, packed for RHEL.
  { tail: /\.el\d+\.elrepo\b/, origin: "rolling" },
  // RHEL and its kin, 5.14.0-503.el9.x86_64 and 6.12.0-55.el10_0.x86_64; Oracle's UEK.
  { tail: /\.el\d|\.el\d+uek|\.uek/, origin: "enterprise" },
  // SLE and Leap count builds by product, in six digits: 5.14.21-150500.55.19-default,
  // 6.12.0-160000.5-default; Leap 15.2 said 5.3.18-lp152.19-default.
  { tail: /^-(\d{6}|lp\d+)\./, origin: "enterprise" },
  // Tumbleweed packs each stable release, and counts from 1: 6.18.33-1-default. SLE before 15.3 looks
  // alike (5.3.18-22-default), but has no LOOP_CONFIGURE.
  { tail: /^-\d{1,3}(\.\d+)?-default$/, origin: "rolling" },
  // 6.1.0-56-amd64, 5.10.0-0.deb10.30-cloud-amd64, 6.12.94+deb13+1-amd64
  { tail: /^(\+deb\d+\S*|-\d+|-0\.(deb|bpo)\S+)(-cloud|-rt)?-(amd64|arm64)$/, origin: "debian" },
  // 5.4.0-204-generic, 5.4.0-1103-aws, 5.15.0-25-lowlatency
  { tail: /^-\d+-[a-z][a-z0-9-]*$/, origin: "ubuntu" },
];

/**
 * Whether a kernel of this release must be treated as having `bug`: true unless its release proves
 * otherwise. What is proof:
 *   - a series that had the fix from its first release on, whoever built the kernel
 *   - a stable release with the fix, except of enterprise kernels, whose third number is their own
 *   - a series older than the bug, if the builder is known to backport no later block layer
 */
export function hasBug(release: string, bug: KernelBug): boolean {
  const kernel = parseRelease(release);
  if (!kernel) return true;
  if (bug.oldest && compareSeries(kernel, version(bug.oldest)) < 0) return true;
  const until = version(bug.until.release);
  if (compareSeries(kernel, until) >= 0) return compare(kernel, until) < 0;
  if (kernel.origin === "enterprise") return true;
  if (compareSeries(kernel, version(bug.since.release)) < 0) {
    return !["upstream", "debian", "ubuntu"].includes(kernel.origin);
  }
  const own = bug.backports.map(({ release }) => version(release))
    .find((fixed) => compareSeries(kernel, fixed) === 0);
  return own === undefined || compare(kernel, own) < 0;
}

/** Whether `release` is of a series before `since`; not where it is no release. */
export function isBefore(release: string, since: string): boolean {
  const kernel = parseRelease(release);
  return kernel !== undefined && compareSeries(kernel, version(since)) < 0;
}

/** Of a table's own release. */
const version = (release: string): Release => parseRelease(release)!;

function compareSeries(a: Release, b: Release): number {
  return a.major - b.major || a.minor - b.minor;
}

function compare(a: Release, b: Release): number {
  return compareSeries(a, b) || a.patch - b.patch || Number(b.candidate) - Number(a.candidate);
}

let cachedRelease: string | undefined;

/** The running kernel's release, as `uname -r` prints it. */
export function kernelRelease(): string {
  if (cachedRelease === undefined) {
    // The third of the six strings of struct new_utsname, 65 bytes each. It cannot fail.
    const buffer = new Uint8Array(new ArrayBuffer(6 * 65));
    libc().uname(buffer);
    const field = buffer.subarray(2 * 65, 3 * 65);
    cachedRelease = new TextDecoder().decode(field.subarray(0, field.indexOf(0)));
  }
  return cachedRelease;
}
