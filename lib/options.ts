/**
 * What a caller may ask of attach(), checked before any system call.
 *
 * @module
 */

/** Options of {@linkcode attach}; their names are losetup's long options. */
export interface AttachOptions {
  /**
   * Make the image's partitions usable. `true`: the kernel scans (what it cannot read is added for
   * it); `"userspace"`: the kernel never scans, partitions are added one by one, which spares the two
   * steps' wait on a kernel with {@linkcode PARTSCAN_RACE}; but BLKRRPART (fdisk, sfdisk) is EINVAL
   * on the device then. Default `false`.
   */
  partscan?: boolean | "userspace";
  /**
   * The detour around {@linkcode PARTSCAN_RACE}: by the kernel's release (`"auto"`, the default); by
   * {@linkcode probePartscanRace}, once a process (`"probe"`, for vendor kernels whose release hides
   * a backport); `"always"`; or `"never"`.
   */
  workaround?: "auto" | "probe" | "always" | "never";
  /**
   * `true`: the device refuses writes. `false`: fail if the file cannot be written. Left out: writable
   * if the file is, as losetup does.
   */
  readOnly?: boolean;
  /** Where the device begins in the file, in bytes. Default 0. */
  offset?: number;
  /** The most bytes the device may have; 0, the default: up to the end of the file. */
  sizelimit?: number;
  /** Logical sector size in bytes: a power of two from 512 to 4096. Default: the kernel's, 512. */
  sectorSize?: number;
  /** Bypass the backing file's page cache; rejects if the kernel cannot. Default `false`. */
  directIo?: boolean;
  /**
   * What if the file is attached already, at a range that overlaps this one? `"allow"`, the default;
   * `"refuse"`: reject; `"reuse"`: resolve to the device with just this range, which the handle then
   * does not own, and reject for any other overlap. Two processes that look at the same time can
   * still both attach.
   */
  overlap?: "allow" | "refuse" | "reuse";
  /** The wanted device: 4 for /dev/loop4, made if it does not exist. Default: any free one. */
  number?: number;
  /** lo_file_name, `losetup --loop-ref`: at most 63 bytes. Default: the file's path, cut to fit. */
  reference?: string;
  /**
   * Where a node does not appear in /dev (a container's static one): `"auto"`, the default, makes it
   * and removes it at detach; `"kernel"` only waits; `"never"` does not look.
   */
  nodes?: "auto" | "kernel" | "never";
  /** How many ms partitions may take to be ready. Default 10 000. */
  timeout?: number;
  /** Stops attach(), which then undoes what it did and rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Options with their defaults in place. */
export type CheckedOptions =
  & Required<Omit<AttachOptions, Undefaulted>>
  & Pick<AttachOptions, Undefaulted>;

type Undefaulted = "readOnly" | "sectorSize" | "number" | "reference" | "signal";

const DEFAULTS = {
  partscan: false,
  workaround: "auto",
  offset: 0,
  sizelimit: 0,
  directIo: false,
  overlap: "allow",
  nodes: "auto",
  timeout: 10_000,
} as const;

const NAMES = [...Object.keys(DEFAULTS), "readOnly", "sectorSize", "number", "reference", "signal"];

/** Throws a TypeError or RangeError that names the option and what it takes. */
export function checkOptions(file: string, options: AttachOptions): CheckedOptions {
  if (typeof file !== "string") throw new TypeError(`file must be a path, not ${show(file)}`);
  if (file.includes("\0")) throw new TypeError(`file ${show(file)} contains a NUL`);
  // Encoded it would become U+FFFD, and that is another file's name.
  if (!file.isWellFormed()) throw new TypeError(`file ${show(file)} is no valid Unicode`);
  const given: Record<string, unknown> = {};
  for (const name of Object.keys(options) as (keyof AttachOptions)[]) {
    if (!NAMES.includes(name)) {
      throw new TypeError(`unknown option '${name}'; options are ${NAMES.toSorted().join(", ")}`);
    }
    if (options[name] !== undefined) given[name] = options[name];
  }
  const checked: CheckedOptions = { ...DEFAULTS, ...given };

  oneOf("partscan", checked.partscan, [false, true, "userspace"]);
  oneOf("workaround", checked.workaround, ["auto", "probe", "always", "never"]);
  oneOf("readOnly", checked.readOnly, [undefined, true, false]);
  oneOf("directIo", checked.directIo, [true, false]);
  oneOf("overlap", checked.overlap, ["allow", "refuse", "reuse"]);
  oneOf("nodes", checked.nodes, ["auto", "kernel", "never"]);
  if (checked.number !== undefined) wholeNumber("number", checked.number, MOST_DEVICES);
  if (checked.reference !== undefined) checkReference(checked.reference);
  byteCount("offset", checked.offset);
  byteCount("sizelimit", checked.sizelimit);
  if (checked.sizelimit > 0 && checked.sizelimit < 512) {
    throw new RangeError(
      `sizelimit ${checked.sizelimit} leaves no whole 512-byte sector (0: no limit)`,
    );
  }
  if (checked.sectorSize !== undefined) checkSectorSize(checked.sectorSize);
  if (typeof checked.timeout !== "number" || !(checked.timeout >= 0)) {
    throw new RangeError(`timeout must be a number of ms from 0 on, not ${show(checked.timeout)}`);
  }
  if (checked.signal !== undefined && !(checked.signal instanceof AbortSignal)) {
    throw new TypeError(`signal must be an AbortSignal, not ${show(checked.signal)}`);
  }
  return checked;
}

/** The kernel's EINVAL for a bad size can leave a 6.x device half configured: never let it see one. */
export function checkSectorSize(size: unknown): void {
  oneOf("sectorSize", size, [512, 1024, 2048, 4096]);
}

function oneOf(name: string, value: unknown, allowed: readonly unknown[]): void {
  if (allowed.includes(value)) return;
  const list = allowed.filter((each) => each !== undefined).map(show).join(", ");
  const Kind = typeof value === "number" ? RangeError : TypeError;
  throw new Kind(`${name} must be one of ${list}, not ${show(value)}`);
}

function byteCount(name: string, value: unknown): void {
  if (typeof value !== "number") {
    throw new TypeError(`${name} must be a number of bytes, not ${show(value)}`);
  }
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`${name} must be a whole number of bytes from 0 on, not ${value}`);
  }
}

/** 20 bits of minor numbers. */
const MOST_DEVICES = 2 ** 20 - 1;

function wholeNumber(name: string, value: unknown, most: number): void {
  if (Number.isSafeInteger(value) && value as number >= 0 && value as number <= most) return;
  const Kind = typeof value === "number" ? RangeError : TypeError;
  throw new Kind(`${name} must be a whole number from 0 to ${most}, not ${show(value)}`);
}

function checkReference(value: unknown): void {
  if (typeof value !== "string") {
    throw new TypeError(`reference must be a string, not ${show(value)}`);
  }
  if (value.includes("\0")) throw new TypeError(`reference ${show(value)} contains a NUL`);
  const { length } = new TextEncoder().encode(value);
  if (length > 63) throw new RangeError(`reference has ${length} bytes; lo_file_name holds 63`);
}

function show(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}
