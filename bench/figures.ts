/** The figures that loopdev promises, out of what was measured. */
import { type RuntimeName, RUNTIMES } from "./contenders.ts";
import { type Cycles, median } from "./measure.ts";
import type { MountTimes } from "./mounts.ts";
import type { Startup } from "./startup.ts";

/** What the subjects print; ms. */
export interface Waits {
  gap: { dirty: Span; twoStep: Span }[];
  concurrency: { inARow: number; atOnce: number }[];
  many: { first: Round; second: Round };
  /** Left out where nothing is built. */
  startup?: Startup;
  /** Left out where there is no compiler or no mkfs.ext4. */
  mounts?: MountTimes;
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
  waits: Partial<Record<RuntimeName, Waits>>;
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

export function figures({ cycles, waits }: Measured): Figure[] {
  return RUNTIMES.flatMap((runtime) => [
    ...cycleFigures(cycles, runtime),
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

function cycleFigures(cycles: Cycles, runtime: RuntimeName): Figure[] {
  const of = (strategy: string, contender: string) => median(cycles[strategy]?.[contender] ?? []);
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
      runtime === "Bun" ? 1.25 : 1.35,
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
  { gap, concurrency, many, startup, mounts }: Waits,
  runtime: RuntimeName,
): Figure[] {
  const dirty = gap.map(({ dirty }) => dirty);
  const twoStep = gap.map(({ twoStep }) => twoStep);
  const [inARow, atOnce] = [
    median(concurrency.map(({ inARow }) => inARow)),
    median(concurrency.map(({ atOnce }) => atOnce)),
  ];
  const { first, second } = many;
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
    flatness("1000 devices: the last 100 attaches beside the first", runtime, second.attached),
    flatness("1000 devices: the last 100 detaches beside the first", runtime, second.detached),
    figure(
      "resident memory of a device among 1000",
      runtime,
      first.grown / first.attached.length,
      "KiB",
      "≤",
      64,
      `${first.grown} KiB`,
    ),
    ...startup ? [startupFigure(startup, runtime)] : [],
    ...mounts ? [mountFigure(mounts, runtime)] : [],
  ];
}

function startupFigure(startup: Startup, runtime: RuntimeName): Figure {
  const [attach, empty] = [median(startup.attach), median(startup.empty)];
  const what = "import, first attach and detach, beside an empty script";
  const target = runtime === "Bun" ? 2 : 1.4;
  const from = `${milli(attach)} / ${milli(empty)}`;
  return figure(what, runtime, attach / empty, "×", "≤", target, from);
}

function mountFigure({ loopdev, c, mount }: MountTimes, runtime: RuntimeName): Figure {
  const [theirs, ours] = [median(mount), median(loopdev)];
  const from = `${milli(theirs)} / ${milli(ours)}; C with the same calls ${milli(median(c))}`;
  const what = "mount() and unmount(), faster than mount(8) and umount(8)";
  return figure(what, runtime, theirs / ours, "×", "≥", 5, from);
}

function gapFigure(what: string, runtime: RuntimeName, spans: Span[]): Figure {
  const gap = median(spans.map(({ gap }) => gap));
  const took = median(spans.map(({ took }) => took));
  return figure(what, runtime, gap, "ms", "≤", 5, `of ${milli(took)}`);
}

function flatness(what: string, runtime: RuntimeName, times: number[]): Figure {
  const [first, last] = [median(times.slice(0, 100)), median(times.slice(-100))];
  const from = `${micro(last * 1e6)} / ${micro(first * 1e6)}`;
  return figure(what, runtime, last / first, "×", "≤", 1.5, from);
}

function micro(ns: number): string {
  return `${(ns / 1000).toFixed(0)} µs`;
}

function milli(ms: number): string {
  return `${ms.toFixed(1)} ms`;
}
