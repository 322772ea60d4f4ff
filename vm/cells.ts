/** The matrix as data: which kernels run under which systemd-udevd. */
import type { MachineName } from "./machines.ts";

/** A Debian suite that gives the guest its systemd-udevd and its losetup. */
export interface Suite {
  name: string;
  /** The major version of its systemd. */
  udev: number;
  /** What debootstrap installs beyond minbase. */
  include: readonly string[];
}

/** Node needs libatomic1. */
const tools = ["udev", "fdisk", "kmod", "libatomic1", "mount", "util-linux"];
/** From trixie on minbase has no mkfs.ext4. */
const later = ["e2fsprogs", ...tools];

export const SUITES: readonly Suite[] = [
  { name: "bullseye", udev: 247, include: tools },
  { name: "bookworm", udev: 252, include: tools },
  { name: "trixie", udev: 257, include: later },
  {
    name: "forky",
    udev: 262,
    include: [...later, "systemd", "systemd-sysv", "systemd-container", "rsync"],
  },
];

/** A range of stable releases, of which the newest that can be fetched is booted. */
export interface KernelRow {
  /** How the table names it. */
  id: string;
  series: string;
  /** Releases of the series, both ends inclusive. */
  from?: string;
  to?: string;
  /** Whether LOOP_CONFIGURE races with whoever opens the device (see lib/kernel/release.ts). */
  affected: boolean;
  /** Major versions of udev it is booted with. */
  udev: readonly number[];
  /** By default amd64. */
  machine?: MachineName;
  /** Booted once more with systemd as PID 1, in each suite that includes it. */
  systemd?: boolean;
}

/** Affected from 5.15 on; fixed in 6.12.91, 6.18.33, 7.0.10 and 7.1. */
export const KERNELS: readonly KernelRow[] = [
  { id: "5.10", series: "5.10", affected: false, udev: [247, 262] },
  { id: "6.1", series: "6.1", affected: true, udev: [252, 262] },
  { id: "6.12 before", series: "6.12", to: "6.12.90", affected: true, udev: [257, 262] },
  { id: "6.12 fixed", series: "6.12", from: "6.12.91", affected: false, udev: [257, 262] },
  { id: "6.16", series: "6.16", affected: true, udev: [262] },
  { id: "6.17", series: "6.17", affected: true, udev: [257] },
  { id: "6.18 before", series: "6.18", to: "6.18.32", affected: true, udev: [257, 262] },
  { id: "6.19", series: "6.19", affected: true, udev: [257, 262] },
  { id: "7.0 before", series: "7.0", to: "7.0.9", affected: true, udev: [257, 262], systemd: true },
  { id: "7.0 fixed", series: "7.0", from: "7.0.10", affected: false, udev: [257, 262] },
  { id: "7.1", series: "7.1", affected: false, udev: [257] },
  { id: "7.2", series: "7.2", affected: false, udev: [257, 262] },
  { id: "7.3", series: "7.3", affected: false, udev: [257, 262] },
  {
    id: "6.12 before, arm64",
    series: "6.12",
    to: "6.12.90",
    affected: true,
    udev: [257],
    machine: "arm64",
  },
  { id: "7.2, arm64", series: "7.2", affected: false, udev: [262], machine: "arm64" },
];

/** Archive parts that are searched for kernels. */
export const KERNEL_SUITES: readonly string[] = [
  "bullseye",
  "bullseye-security",
  "bookworm",
  "bookworm-security",
  "bookworm-backports",
  "trixie",
  "trixie-security",
  "trixie-backports",
  "forky",
  "sid",
];

/** The guest's PID 1: our own, which runs the steps itself, or systemd. */
export type Init = "steps" | "systemd";

/** What a kernel is beside its release; without any of them the cloud's, as Debian starts it. */
export interface Kind {
  /** The generic kernel has all partition parsers. */
  flavour?: "generic";
  /** Of its command line. */
  parameters?: readonly string[];
  /** Its loop module sends no uevents of its own, as that of Linux 5.19 to 6.14. */
  muted?: boolean;
}

export interface Cell extends Kind {
  kernel: KernelRow;
  suite: Suite;
  init: Init;
}

/** What a cell's kernel is beside its release, in words: ["generic", "bdev_allow_write_mounted=0"]. */
export function kindOf({ flavour, parameters = [], muted }: Kind): string[] {
  return [...flavour ? [flavour] : [], ...parameters, ...muted ? ["muted loop module"] : []];
}

/** What tells a cell from all others: "7.0.9 with udev 262, systemd as PID 1". */
export function cellName(release: string, cell: Cell): string {
  const { kernel, suite, init } = cell;
  const machine = kernel.machine === undefined ? "" : ` on ${kernel.machine}`;
  const systemd = init === "systemd" ? ["systemd as PID 1"] : [];
  return [`${release}${machine} with udev ${suite.udev}`, ...kindOf(cell), ...systemd].join(", ");
}

/** "6.12.90" against "6.12.117": negative, zero or positive. */
export function compareReleases(a: string, b: string): number {
  const [x, y] = [a, b].map((release) => release.split(".").map(Number));
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    if ((x[i] ?? 0) !== (y[i] ?? 0)) return (x[i] ?? 0) - (y[i] ?? 0);
  }
  return 0;
}

/** Whether a release ("6.12.90") belongs to a row. */
export function inRow(release: string, row: KernelRow): boolean {
  return (release === row.series || release.startsWith(row.series + ".")) &&
    (row.from === undefined || compareReleases(release, row.from) >= 0) &&
    (row.to === undefined || compareReleases(release, row.to) <= 0);
}

/**
 * The cells that the patterns choose. A kernel pattern is a row's id or series ("7.0", "6.12 fixed"),
 * or one release ("7.0.9"), which then stands for itself with every udev that its row has. An `init`
 * is for all of them; without it each kernel has the boots that its row names.
 */
export function chooseCells(
  kernels: readonly string[],
  udevs: readonly string[],
  init?: Init,
): Cell[] {
  const rows = kernels.length === 0 ? [...KERNELS] : kernels.flatMap((pattern) => {
    const named = KERNELS.filter((row) => row.id === pattern);
    if (named.length > 0) return named;
    const series = KERNELS.filter((row) => row.series === pattern);
    if (series.length > 0) return series;
    const row = KERNELS.find((row) => inRow(pattern, row));
    if (row !== undefined) return [{ ...row, id: pattern, from: pattern, to: pattern }];
    throw new RangeError(`no kernel of the matrix is called or contains "${pattern}"`);
  });
  const chosen = ({ udev, name }: Suite) => udevs.includes(String(udev)) || udevs.includes(name);
  const distinct = [...new Set(rows)];
  const steps = distinct.flatMap((kernel) =>
    SUITES.filter((suite) => udevs.length === 0 ? kernel.udev.includes(suite.udev) : chosen(suite))
      .map((suite): Cell => ({ kernel, suite, init: "steps" }))
  );
  // A kernel that was asked for by name needs no row that says so.
  const named = init === "systemd" && kernels.length > 0;
  const systemd = distinct.filter((kernel) => named || kernel.systemd).flatMap((kernel) =>
    SUITES.filter((suite) => suite.include.includes("systemd"))
      .filter((suite) => udevs.length === 0 || chosen(suite))
      .map((suite): Cell => ({ kernel, suite, init: "systemd" }))
  );
  return [...steps, ...systemd].filter((cell) => init === undefined || cell.init === init);
}
