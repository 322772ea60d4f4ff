/**
 * Kernel releases and the bugs they have: parse, compare, decide. Versions are data; whatever a
 * release string does not prove counts as affected.
 *
 * @module
 */

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
   * A lower number proves nothing: nobody asks on such a kernel, so a personality has made it up
   * (`setarch --uname-2.6`).
   */
  readonly oldest?: string;
  /** First release with the bug, and the commit that brought it. */
  readonly since: { readonly release: string; readonly commit: string };
  /** First mainline release without the bug, and the commit that mended it. */
  readonly until: { readonly release: string; readonly commit: string };
  /** Stable series that got the mend: first release with it, and the commit there where it is known. */
  readonly backports: readonly { readonly release: string; readonly commit?: string }[];
}

/** A kernel release, as far as its string can be believed. */
export interface Release {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** `-rc3`: older than the release whose number it carries. */
  readonly candidate: boolean;
  readonly origin: "upstream" | "debian" | "ubuntu" | "enterprise" | "unknown";
}

/** `uname -r` in parts, or undefined if it does not begin with a version. */
export function parseRelease(release: string): Release | undefined {
  const match = /^(\d{1,3})\.(\d{1,4})(?:\.(\d{1,5}))?(?![\d])(.*)$/.exec(release.trim());
  if (!match) return undefined;
  const [, major, minor, patch = "0", suffix] = match;
  return {
    major: Number(major),
    minor: Number(minor),
    patch: Number(patch),
    candidate: /^-rc\d/.test(suffix),
    origin: originOf(suffix),
  };
}

/**
 * Who built the kernel, by the tail of its release. What matters is whether the block layer belongs
 * to the number in front: enterprise kernels carry one from far later series.
 */
function originOf(suffix: string): Release["origin"] {
  if (suffix === "" || /^-rc\d+$/.test(suffix)) return "upstream";
  // RHEL and its kin, Oracle's UEK; SLE counts its builds in six digits: 5.14.21-150500.55.19-default
  if (/\.el\d|\.uek|^-\d{6}\.|-default$/.test(suffix)) return "enterprise";
  // 6.1.0-56-amd64, 5.10.0-0.deb10.30-cloud-amd64, 6.12.94+deb13+1-amd64
  if (/^(\+deb\d+\S*|-\d+|-0\.(deb|bpo)\S+)(-cloud|-rt)?-(amd64|arm64)$/.test(suffix)) {
    return "debian";
  }
  // 5.4.0-204-generic, 5.4.0-1103-aws, 5.15.0-25-lowlatency
  if (/^-\d+-[a-z][a-z0-9-]*$/.test(suffix)) return "ubuntu";
  return "unknown";
}

/**
 * Whether a kernel of this release must be treated as having `bug`: true unless its release proves
 * otherwise. A number at or above a mend is proof whoever built it; a number below the bug's birth
 * only where the builder is known not to carry a later block layer.
 */
export function hasBug(release: string, bug: KernelBug): boolean {
  const kernel = parseRelease(release);
  if (!kernel || kernel.origin === "enterprise") return true;
  if (bug.oldest && compareSeries(kernel, version(bug.oldest)) < 0) return true;
  if (compareSeries(kernel, version(bug.since.release)) < 0) return kernel.origin === "unknown";
  const mend = [...bug.backports, bug.until].map(({ release }) => version(release));
  const own = mend.find((mended) => compareSeries(kernel, mended) === 0);
  if (own) return compare(kernel, own) < 0;
  return compareSeries(kernel, version(bug.until.release)) < 0;
}

function version(release: string): Release {
  const parsed = parseRelease(release);
  if (!parsed) throw new TypeError(`'${release}' is no kernel release`);
  return parsed;
}

function compareSeries(a: Release, b: Release): number {
  return a.major - b.major || a.minor - b.minor;
}

function compare(a: Release, b: Release): number {
  return compareSeries(a, b) || a.patch - b.patch || Number(b.candidate) - Number(a.candidate);
}
