/** The figures that loopdev aims at, out of what was measured. */
import { type LeftOut, type RuntimeName, RUNTIMES } from "./contenders.ts";
import type { GrowTimes } from "./grow.ts";
import { type Cycles, median } from "./measure.ts";
import { C, type MountTimes } from "./mounts.ts";
import type { Startup } from "./startup.ts";

/** What the subjects print; ms. */
export interface Waits {
  gap: { dirty: Span; twoStep: Span }[];
  concurrency: { inARow: number; atOnce: number }[];
  many: { first: Round; second: Round };
  /** Left out where nothing is built. */
  startup?: Startup;
}

interface Span {
  took: number;
  gap: number;
}

interface Round {
  attached: number[];
  detached: number[];
  /** KiB of resident memory. */
  grown: number;
}

export interface Measured {
  cycles: Cycles;
  mounts: MountTimes;
  grow: GrowTimes;
  waits: Partial<Record<RuntimeName, Waits>>;
  leftOut: readonly LeftOut[];
}

/** Of the job of bench/mounts.ts, by contender; ms. */
export type JobMedians = Record<string, { total: number; parts?: number[] }>;

/** Medians of what was measured on one runtime; times in ms. */
export interface WaitMedians {
  dirty: Span;
  twoStep: Span;
  inARow: number;
  atOnce: number;
  /** Of 1000 devices the first hundred, and the last. */
  attached: { first: number; last: number };
  detached: { first: number; last: number };
  devices: { count: number; kib: number };
  startup?: Record<keyof Startup, number>;
}

/** What docs/performance.json keeps of a run. */
export interface Medians {
  /** ns of a cycle, by strategy and contender. */
  cycles: Record<string, Record<string, number>>;
  /** By place: memory, disk. */
  mounts: Record<string, JobMedians>;
  /** By file system; `ms` by who grows it: "script" and the runtimes. */
  grow: Record<string, { ms: Record<string, number>; isHelped: boolean }>;
  waits: Partial<Record<RuntimeName, WaitMedians>>;
  leftOut: readonly LeftOut[];
}

/** One line of the result. */
export interface Figure {
  what: string;
  runtime: RuntimeName;
  value: number;
  unit: "×" | "ms" | "KiB";
  /** The bound, and on which side of it the value shall be. */
  bound: "≤" | "≥";
  target: number;
  holds: boolean;
  /** What the value was computed from. */
  from: string;
}

export function mediansOf({ cycles, mounts, grow, waits, leftOut }: Measured): Medians {
  const map = <T, U>(record: Record<string, T>, change: (value: T) => U): Record<string, U> =>
    Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]));
  return {
    cycles: map(cycles, (byContender) => map(byContender, median)),
    mounts: map(
      mounts,
      (jobs) =>
        map(jobs, ({ total, parts }) => ({ total: median(total), parts: parts?.map(median) })),
    ),
    grow: map(grow, ({ times, isHelped }) => ({ ms: map(times, median), isHelped })),
    waits: map(waits as Record<RuntimeName, Waits>, waitMedians),
    leftOut,
  };
}

function waitMedians({ gap, concurrency, many, startup }: Waits): WaitMedians {
  const of = <T>(all: readonly T[], field: (one: T) => number) => median(all.map(field));
  const ends = (times: number[]) => ({
    first: median(times.slice(0, 100)),
    last: median(times.slice(-100)),
  });
  const { first, second } = many;
  return {
    dirty: { gap: of(gap, (each) => each.dirty.gap), took: of(gap, (each) => each.dirty.took) },
    twoStep: {
      gap: of(gap, (each) => each.twoStep.gap),
      took: of(gap, (each) => each.twoStep.took),
    },
    inARow: of(concurrency, ({ inARow }) => inARow),
    atOnce: of(concurrency, ({ atOnce }) => atOnce),
    attached: ends(second.attached),
    detached: ends(second.detached),
    devices: { count: first.attached.length, kib: first.grown },
    startup: startup && {
      empty: median(startup.empty),
      attach: median(startup.attach),
      job: median(startup.job),
      shell: median(startup.shell),
    },
  };
}

export function figures({ cycles, mounts, waits }: Medians): Figure[] {
  return RUNTIMES.flatMap((runtime) => [
    ...cycleFigures(cycles, runtime),
    ...mounts.memory?.[`loopdev, ${runtime}`] ? jobFigures(mounts.memory, runtime) : [],
    ...waits[runtime] ? waitFigures(waits[runtime], runtime) : [],
  ]);
}

function figure(
  what: string,
  runtime: RuntimeName,
  value: number,
  unit: Figure["unit"],
  bound: Figure["bound"],
  target: number,
  from: string,
): Figure {
  const holds = bound === "≤" ? value <= target : value >= target;
  return { what, runtime, value, unit, bound, target, holds, from };
}

function cycleFigures(cycles: Medians["cycles"], runtime: RuntimeName): Figure[] {
  const of = (strategy: string, contender: string) => cycles[strategy]?.[contender] ?? NaN;
  const ours = (strategy: string) => of(strategy, `loopdev, ${runtime}`);
  const ratio = (
    what: string,
    [above, below]: [number, number],
    bound: Figure["bound"],
    target: number,
  ) => {
    const from = `${micro(above)} / ${micro(below)}`;
    return figure(what, runtime, above / below, "×", bound, target, from);
  };
  const same = "C, same calls";
  return [
    ratio(
      "one-step, beside C with the same calls",
      [ours("one-step"), of("one-step", same)],
      "≤",
      2,
    ),
    ratio(
      "two-step, beside C with the same calls",
      [ours("two-step"), of("two-step", same)],
      "≤",
      1.03,
    ),
    ratio(
      "one-step, faster than losetup ×2 from the same runtime",
      [of("one-step", `losetup ×2 from ${runtime}`), ours("one-step")],
      "≥",
      20,
    ),
    ratio(
      "userspace, faster than two-step, 4 partitions, affected kernel",
      [ours("two-step, 4 partitions"), ours("userspace")],
      "≥",
      15,
    ),
  ].filter(({ value }) => Number.isFinite(value));
}

function waitFigures(
  { dirty, twoStep, inARow, atOnce, attached, detached, devices, startup }: WaitMedians,
  runtime: RuntimeName,
): Figure[] {
  return [
    gapFigure("longest gap in the event loop, 256 MiB dirty", runtime, dirty),
    gapFigure("longest gap in the event loop, two-step", runtime, twoStep),
    figure(
      "64 two-step attaches at once, of the time of 64 in a row",
      runtime,
      atOnce / inARow,
      "×",
      "≤",
      0.25,
      `${milli(atOnce)} / ${milli(inARow)}`,
    ),
    flatness("1000 devices: the last 100 attaches beside the first", runtime, attached),
    flatness("1000 devices: the last 100 detaches beside the first", runtime, detached),
    figure(
      "resident memory of a device among 1000",
      runtime,
      devices.kib / devices.count,
      "KiB",
      "≤",
      64,
      `${devices.kib} KiB`,
    ),
    ...startup ? [startupFigure(startup, runtime)] : [],
  ];
}

function startupFigure(
  { attach, empty }: NonNullable<WaitMedians["startup"]>,
  runtime: RuntimeName,
): Figure {
  const what = "import, first attach and detach, beside an empty script";
  const target = runtime === "Deno" ? 1.6 : 3;
  const from = `${milli(attach)} / ${milli(empty)}`;
  return figure(what, runtime, attach / empty, "×", "≤", target, from);
}

/** The fastest way of systemd-dissect's, where there are several. */
export function dissectOf(jobs: JobMedians): number | undefined {
  const names = Object.keys(jobs).filter((name) => name.startsWith("systemd-dissect"));
  return names.length > 0 ? Math.min(...names.map((name) => jobs[name].total)) : undefined;
}

function jobFigures(jobs: JobMedians, runtime: RuntimeName): Figure[] {
  const job = "the whole job in memory";
  const ours = jobs[`loopdev, ${runtime}`].total;
  const [floor, dissect] = [jobs[C].total, dissectOf(jobs)];
  const processes = jobs[`processes from ${runtime}`]?.total;
  const faster = (what: string, theirs: number | undefined, target: number) =>
    theirs === undefined ? [] : [figure(
      `${job}, faster than ${what}`,
      runtime,
      theirs / ours,
      "×",
      "≥",
      target,
      `${milli(theirs)} / ${milli(ours)}`,
    )];
  return [
    figure(
      `${job}, beside C with the same calls`,
      runtime,
      ours / floor,
      "×",
      "≤",
      1.5,
      `${milli(ours)} / ${milli(floor)}`,
    ),
    ...faster("four processes from the same runtime", processes, 8),
    ...faster("systemd-dissect", dissect, 3),
  ];
}

function gapFigure(what: string, runtime: RuntimeName, { gap, took }: Span): Figure {
  return figure(what, runtime, gap, "ms", "≤", 5, `of ${milli(took)}`);
}

function flatness(
  what: string,
  runtime: RuntimeName,
  { first, last }: { first: number; last: number },
): Figure {
  const from = `${micro(last * 1e6)} / ${micro(first * 1e6)}`;
  return figure(what, runtime, last / first, "×", "≤", 1.5, from);
}

function micro(ns: number): string {
  return `${(ns / 1000).toFixed(0)} µs`;
}

function milli(ms: number): string {
  return `${ms.toFixed(1)} ms`;
}
