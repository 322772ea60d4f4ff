/** What users want to know of the performance, out of the medians of a run. */
import { duration } from "./duration.ts";
import { dissectOf, type JobMedians, type Medians, type WaitMedians } from "./figures.ts";
import { C } from "./mounts.ts";

/** A row of the table that the page begins with. */
export interface Answer {
  what: string;
  /** A runtime each. */
  values: string[];
  beside: string;
}

/** Given in ms. */
export const ms = (value: number) => duration(value * 1e6);

/** The rows, and the ratios that the text around them names. */
export function answers({ cycles, mounts, grow, waits }: Medians): {
  rows: Answer[];
  times: Record<"oneStep" | "userspace" | "overlap", string>;
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
    all.every(({ startup }) => startup)
      ? {
        what: "A whole script that attaches, mounts, writes ten files, unmounts and detaches",
        values: each(({ startup }) => ms(startup!.job)),
        beside: `a shell script: ${span(all.map(({ startup }) => startup!.shell), 1)} ms`,
      }
      : undefined,
    ...Object.entries(mounts).map(([place, jobs]) => jobRow(place, jobs, runtimes)),
    ...Object.entries(grow).map(([type, times]) => growRow(type, times, runtimes)),
  ];
  return {
    rows: rows.filter((row) => row !== undefined),
    times: {
      oneStep: times("two-step", "one-step"),
      userspace: times("two-step", "userspace"),
      overlap: span(all.map(({ atOnce, inARow }) => 100 * atOnce / inARow)),
    },
  };
}

/** The job of bench/mounts.ts in one place. */
function jobRow(place: string, jobs: JobMedians, runtimes: readonly string[]): Answer {
  const processes = runtimes.map((name) => jobs[`processes from ${name}`]?.total)
    .filter((time) => time !== undefined);
  const dissect = dissectOf(jobs);
  return {
    what: `Attach, mount, write ten files, unmount, detach, ${
      place === "memory" ? "in memory" : "on a disk"
    }`,
    values: runtimes.map((name) => ms(jobs[`loopdev, ${name}`].total)),
    beside: [
      `\`losetup\`, \`mount\`, \`umount\`, \`losetup\`: ${span(processes, 1)} ms`,
      ...dissect === undefined ? [] : [`\`systemd-dissect\`: ${ms(dissect)}`],
      `C, the same calls: ${ms(jobs[C].total)}`,
    ].join("; "),
  };
}

function growRow(
  type: string,
  { ms: times, isHelped }: Medians["grow"][string],
  runtimes: readonly string[],
): Answer {
  const tool = type === "xfs" ? "xfs_growfs" : "resize2fs";
  const own = isHelped ? `growImage(), then ${tool}` : "growImage()";
  return {
    what:
      `A whole script that grows an image of 320 MiB with a partition of ${type} to 1 GiB: ${own}`,
    values: runtimes.map((name) => ms(times[name])),
    beside: `\`growpart\`, \`losetup\` and \`${tool}\`: ${ms(times.script)}`,
  };
}

/** "62 to 65", or "7.5" where the ends are the same. */
export function span(values: readonly number[], digits = 0): string {
  const ends = [Math.min(...values), Math.max(...values)].map((value) => value.toFixed(digits));
  return [...new Set(ends)].join(" to ");
}
