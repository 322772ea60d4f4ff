/**
 * Writes docs/performance.md and its chart from a run of bench/run.ts; and what the same cycles take on
 * the kernels of the matrix, if a run of `deno task vm --step bench` is given too.
 *
 *     deno run -A bench/docs.ts bench.json [vm.json]
 */
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { svg, svgText } from "../vm/svg.ts";
import type { Figure, Measured } from "./figures.ts";
import { type Cycles, median } from "./measure.ts";

interface Run extends Measured {
  date: string;
  machine: Record<"kernel" | "cpu" | "bun" | "deno", string> & {
    processors: number;
    memoryGiB: number;
  };
  figures: Figure[];
}

interface VmRun {
  cells: {
    release: string;
    affected: boolean;
    results: { strategy: string; contender: string; nanoseconds: number }[];
  }[];
}

const [file, vmFile] = process.argv.slice(2);
if (file === undefined) {
  console.error("docs: no results given; run bench/run.ts with --json FILE first");
  process.exit(1);
}
const run = JSON.parse(readFileSync(file, "utf8")) as Run;
const docs = new URL("../docs/", import.meta.url).pathname;

function table(header: string[], rows: string[][]): string {
  const line = (columns: string[]) => `| ${columns.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}

function micro(ns: number): string {
  const us = ns / 1000;
  return us < 10_000 ? `${us.toFixed(0)} µs` : `${(us / 1000).toFixed(1)} ms`;
}

const CONTENDERS = [...new Set(Object.values(run.cycles).flatMap((each) => Object.keys(each)))];

function cycleTable(cycles: Cycles): string {
  const strategies = Object.keys(cycles);
  const rows = CONTENDERS.map((contender) => [
    contender,
    ...strategies.map((strategy) => {
      const times = cycles[strategy][contender];
      const same = cycles[strategy]["C, same calls"];
      if (!times) return "–";
      const ratio = same ? ` (${(median(times) / median(same)).toFixed(2)} ×)` : "";
      return `${micro(median(times))}${ratio}`;
    }),
  ]);
  return table(["", ...strategies], rows);
}

function figureTable(figures: Figure[]): string {
  return table(
    ["", "runtime", "measured", "aim", "", "from"],
    figures.map(({ what, runtime, value, unit, bound, target, holds, from }) => [
      what,
      runtime,
      `${value.toFixed(2)} ${unit}`,
      `${bound} ${target}`,
      holds ? "met" : "**missed**",
      from,
    ]),
  );
}

function vmTable({ cells }: VmRun): string {
  const of = (cell: VmRun["cells"][number], strategy: string, contender: string) => {
    const row = cell.results.find((row) =>
      row.strategy === strategy && row.contender === contender
    );
    return row ? micro(row.nanoseconds) : "–";
  };
  const shown = ["one-step", "two-step", "userspace"];
  return table(
    ["kernel", ...shown.flatMap((name) => [`${name}, C`, `${name}, Bun`]), "losetup ×2 from sh"],
    cells.map((cell) => [
      cell.release + (cell.affected ? " ●" : ""),
      ...shown.flatMap((strategy) => [
        of(cell, strategy, "C, same calls"),
        of(cell, strategy, "loopdev, Bun"),
      ]),
      of(cell, "one-step", "losetup ×2 from sh"),
    ]),
  );
}

const COLOURS = { "loopdev": "#1e8449", "C": "#7f8c8d", "losetup": "#b9770e" };
const LEFT = 250;
const WIDTH = 400;

/** Bars on a logarithmic scale, from 10 µs to 100 ms. */
function drawChart(cycles: Cycles, title: string): string {
  const parts = [svgText(16, 26, title, 'font-size="16" font-weight="bold"')];
  const x = (us: number) => LEFT + Math.log10(us / 10) / 4 * WIDTH;
  const rows = ["one-step", "two-step", "userspace"].flatMap((strategy) =>
    Object.entries(cycles[strategy] ?? {}).map(([contender, times], index) => ({
      label: `${index === 0 ? `${strategy}: ` : ""}${contender}`,
      colour: COLOURS[contender.match(/^\w+/)![0] as keyof typeof COLOURS],
      us: median(times) / 1000,
      gap: index === 0 ? 10 : 0,
    }))
  );
  let y = 44;
  for (const { label, colour, us, gap } of rows) {
    y += gap + 17;
    parts.push(svgText(LEFT - 10, y + 10, label, 'font-size="12" text-anchor="end"'));
    parts.push(`<rect x="${LEFT}" y="${y}" width="${x(us) - LEFT}" height="12" fill="${colour}"/>`);
    parts.push(svgText(x(us) + 6, y + 10, micro(us * 1000), 'font-size="11"'));
  }
  for (const us of [10, 100, 1000, 10_000, 100_000]) {
    const line = `x1="${x(us)}" y1="50" x2="${x(us)}" y2="${y + 18}" stroke="#ddd"`;
    parts.splice(1, 0, `<line ${line}/>`);
    parts.push(svgText(x(us), y + 34, micro(us * 1000), 'font-size="11" text-anchor="middle"'));
  }
  return svg(y + 48, title, parts);
}

const { machine, cycles, figures } = run;
const missed = figures.filter(({ holds }) => !holds).length;
const title = "Attach + detach, median, logarithmic";
const vm = vmFile === undefined ? "" : `
## On other kernels

Median attach + detach in virtual machines without udevd, on an emulated processor: everything takes
many times as long there, programs that are compiled as they run most of all. What can be compared is
a column with itself. ● affected by PARTSCAN_RACE.

${vmTable(JSON.parse(readFileSync(vmFile, "utf8")))}
`;
writeFileSync(`${docs}performance.svg`, drawChart(cycles, title));
writeFileSync(
  `${docs}performance.md`,
  `# Performance

Written by \`bench/docs.ts\` from a run of \`deno task bench\` on ${run.date.slice(0, 10)}: Linux
${machine.kernel}, ${machine.processors} × ${machine.cpu}, ${machine.memoryGiB} GiB, Bun ${machine.bun}, Deno ${machine.deno}. All contenders take turns in one run.

![Attach and detach: C, loopdev, losetup](performance.svg)

## What is aimed at

${figures.length - missed} of ${figures.length} aims are met.

${figureTable(figures)}

- _Cycles_: after 2000 to warm up; in turns of 40, or of 5 where the kernel waits. In a loop of its
  own a one-step cycle took 54 µs in C, 101 on Bun and 112 on Deno (2026-11-29). Of Bun's, 10 are
  JavaScript; the rest are the same system calls, each of which takes longer where a runtime's code
  runs between them: LOOP_CONFIGURE 20 µs instead of 11, a statx() 4 instead of 3. For less, a user
  would have to give up calls: those between "C, bare" and "C, same calls" below.
- _Event loop_: the longest time between two turns of a 1 ms timer, from before attach() to after
  detach(). LOOP_CONFIGURE flushes the backing file; loopdev does it before, by another thread, if
  cachestat(2) finds dirty pages.
- _At once_: LOOP_SET_STATUS64 waits for an RCU grace period; waits of different devices overlap.
- _Start-up_: medians of whole processes with dist/loopdev.js; the empty one is the runtime's own. On
  Bun some 6 ms of the rest go into reading and parsing the file (35 µs a KB), 2 ms into its top
  level, and 6.5 ms into the first attach: fifty system calls and every function's first run, none
  of them much by itself. 2 × would be less than 9 ms for all of it. What a user would have to give
  up: the one file (mounts in a second one: 2 ms), or the look before and after the bind.
- _Mounts_: ext4 in memory. C with the same calls is what the kernel takes of it, and no program can
  be faster. The rest are three turns to another thread and back, so that no journal that is
  replayed and no gigabyte that is written back stops the program, and the look at superblocks.

## Attach + detach

Medians, and ratios to "C, same calls", which makes the system calls that loopdev makes. "C, bare"
makes only those without which nothing is attached: what lies between the two is the price of looking
before and after (the right node, no partition left behind, what the kernel really did, whether it
has really let go) and of the node that no udev watches.

${cycleTable(cycles)}
${vm}`,
);
