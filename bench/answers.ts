/** What users want to know of the performance, out of the medians of a run. */
import { duration } from "./duration.ts";
import type { Medians, WaitMedians } from "./figures.ts";

/** A row of the table that the page begins with. */
export interface Answer {
  what: string;
  /** A runtime each. */
  values: string[];
  beside: string;
}

const ms = (value: number) => duration(value * 1e6);

/** The rows, and the ratios that the text around them names. */
export function answers({ cycles, waits }: Medians): {
  rows: Answer[];
  times: { oneStep: string; userspace: string };
} {
  const runtimes = Object.keys(waits);
  const ours = (strategy: string, runtime: string) => cycles[strategy][`loopdev, ${runtime}`];
  const cycle = (strategy: string) => runtimes.map((name) => duration(ours(strategy, name)));
  const losetup = runtimes.map((name) => cycles["one-step"][`losetup ×2 from ${name}`])
    .filter((time) => time !== undefined);
  const times = (slow: string, fast: string) =>
    span(runtimes.map((name) => ours(slow, name) / ours(fast, name)));
  const each = (show: (medians: WaitMedians) => string) =>
    Object.values(waits).map((medians) => show(medians));
  const all = Object.values(waits);
  const rows: (Answer | undefined)[] = [
    {
      what: "Attach and detach an image without partitions",
      values: cycle("none"),
      beside: `C, the same calls: ${duration(cycles.none["C, same calls"])}`,
    },
    {
      what: "… with partitions, kernel with the fix: one step",
      values: cycle("one-step"),
      beside: `\`losetup\` started twice: ${span(losetup.map((time) => time / 1e6), 1)} ms`,
    },
    {
      what: "… with partitions, kernel with the race: two steps",
      values: cycle("two-step"),
      beside: `C, the same calls: ${duration(cycles["two-step"]["C, same calls"])}`,
    },
    {
      what: '… with `partscan: "userspace"`, any kernel',
      values: cycle("userspace"),
      beside: `C, the same calls: ${duration(cycles.userspace["C, same calls"])}`,
    },
    {
      what: "How long the program stands still meanwhile, at most, with 256 MiB to flush",
      values: each(({ dirty }) => ms(dirty.gap)),
      beside: `attach and detach take ${span(all.map(({ dirty }) => dirty.took))} ms`,
    },
    {
      what: "64 images attached at once, in two steps",
      values: each(({ atOnce }) => ms(atOnce)),
      beside: `64 in a row: ${span(all.map(({ inARow }) => inARow))} ms`,
    },
    {
      what: "Memory of a device, of 1000",
      values: each(({ devices: { kib, count } }) => `${(kib / count).toFixed(0)} KiB`),
      beside: "",
    },
    all.every(({ startup }) => startup)
      ? {
        what: "A whole script: start, import, attach, detach, end",
        values: each(({ startup }) => ms(startup!.attach)),
        beside: `an empty script: ${all.map(({ startup }) => ms(startup!.empty)).join(" and ")}`,
      }
      : undefined,
    all.every(({ mounts }) => mounts)
      ? {
        what: "mount() and unmount()",
        values: each(({ mounts }) => ms(mounts!.loopdev)),
        beside: `mount(8) and umount(8): ${span(all.map(({ mounts }) => mounts!.mount), 1)} ms`,
      }
      : undefined,
  ];
  return {
    rows: rows.filter((row) => row !== undefined),
    times: { oneStep: times("two-step", "one-step"), userspace: times("two-step", "userspace") },
  };
}

/** "62 to 65", or "7.5" where the ends are the same. */
function span(values: readonly number[], digits = 0): string {
  const ends = [Math.min(...values), Math.max(...values)].map((value) => value.toFixed(digits));
  return [...new Set(ends)].join(" to ");
}
