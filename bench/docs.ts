/**
 * Writes docs/performance.md and its picture from the medians of a run of bench/run.ts, which it keeps
 * in docs/performance.json.
 *
 *     deno run -A bench/docs.ts bench.json
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readOptions } from "../dev/options.ts";
import { drawChart } from "./chart.ts";
import { type Figure, type Measured, type Medians, mediansOf } from "./figures.ts";
import { type Answer, answers } from "./answers.ts";
import { duration } from "./duration.ts";

const HELP = `Usage: bench/docs.ts [RESULTS] [options]

Writes docs/performance.json, its page and the picture from what bench/run.ts wrote with --json.
Without RESULTS it writes page and picture anew from the data that is there.

      --out FOLDER  writes page and picture there, and changes nothing in docs/
  -h, --help        this text`;

/** Of which machine, and when. */
interface About {
  date: string;
  /** Beside these its runtimes, by their names in lower case: versions. */
  machine: Record<string, string | number> & { cpu: string; processors: number };
  figures: Figure[];
}

type Kept = About & Medians;

const { values: { out }, operands: [results] } = readOptions(
  HELP,
  { out: { type: "string" } },
  { most: 1 },
);
const DOCS = new URL("../docs/", import.meta.url).pathname;
const DATA = join(DOCS, "performance.json");

function keep(file: string): Kept {
  const run = JSON.parse(readFileSync(file, "utf8")) as About & Measured;
  const { date, machine, figures } = run;
  return { date: date.slice(0, 10), machine, ...mediansOf(run), figures };
}

const kept = results === undefined ? JSON.parse(readFileSync(DATA, "utf8")) as Kept : keep(results);
if (out === undefined) writeFileSync(DATA, JSON.stringify(kept, null, 1) + "\n");

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (columns: readonly string[]) => `| ${columns.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}

function cycleTable(cycles: Medians["cycles"]): string {
  const contenders = [...new Set(Object.values(cycles).flatMap((each) => Object.keys(each)))];
  const strategies = Object.keys(cycles);
  const rows = contenders.map((contender) => [
    contender,
    ...strategies.map((strategy) => {
      const { [contender]: time, "C, same calls": same } = cycles[strategy];
      if (time === undefined) return "–";
      return duration(time) + (same ? ` (${(time / same).toFixed(2)} ×)` : "");
    }),
  ]);
  return table(["", ...strategies], rows);
}

function figureTable(figures: readonly Figure[]): string {
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

function answerTable(rows: readonly Answer[], runtimes: readonly string[]): string {
  return table(
    ["", ...runtimes, "beside it"],
    rows.map(({ what, values, beside }) => [what, ...values, beside]),
  );
}

const { machine, cycles, waits, figures } = kept;
const runtimes = Object.keys(waits);
const versions = runtimes.map((name) => `${name} ${machine[name.toLowerCase()]}`).join(", ");
const missed = figures.filter(({ holds }) => !holds).length;
const { rows, times } = answers(kept);
const page = `# Performance

What attaching an image costs a program, on ${kept.date}: Linux ${machine.kernel},
${machine.processors} × ${machine.cpu}, ${machine.memoryGiB} GiB, ${versions}. Times are medians; all contenders took turns in one run of
\`deno task bench\`. (\`bench/docs.ts\` writes this page from [what was measured](performance.json).)

${answerTable(rows, runtimes)}

One step is ${times.oneStep} times as fast as two. loopdev takes one wherever the kernel is known to have
[the fix](races.md), and two elsewhere. The wait in the second step is the kernel's: C takes as long.
It happens on another thread, and the waits of several devices overlap. Where partitions need not
come from the kernel's own parser, \`partscan: "userspace"\` is ${times.userspace} times as fast as two steps;
[affected-kernels.md](affected-kernels.md) says what it leaves out.

![Attach and detach once: C, loopdev, losetup](performance.svg)

## Where the time goes

Medians of attach and detach, and ratios to "C, same calls", which makes the system calls that
loopdev makes. "C, bare" makes only those without which nothing is attached. What lies between the
two pays for looking before and after: that the node is the right one, that no partition was left
behind, what the kernel really did, whether it has really let go; and for the node that udev does
not watch.

${cycleTable(cycles)}

- _Cycles_: after 2000 to warm up; in turns of 40, or of 5 where the kernel waits. In a loop of its
  own a one-step cycle took 54 µs in C, 101 on Bun and 112 on Deno (2026-11-29). Of Bun's, 10 are
  JavaScript. The rest are the same system calls, each of which takes longer where a runtime's code
  runs between them: LOOP_CONFIGURE 20 µs instead of 11, a statx() 4 instead of 3.
- _Event loop_: the longest time between two turns of a 1 ms timer, from before attach() to after
  detach(). LOOP_CONFIGURE flushes the backing file. loopdev flushes it before, on another thread, if
  cachestat(2) finds dirty pages.
- _At once_: LOOP_SET_STATUS64 waits for an RCU grace period; waits of different devices overlap.
- _Start-up_: whole processes with the package's library, which for Bun is compiled in advance
  ([why](decisions/12-bytecode-for-bun.md)); the empty script is the runtime's own start. Nearly all
  of the rest is every function's first run: a second attach in the same process takes a tenth.
- _Mounts_: ext4 in memory. C with the same calls is what the kernel takes of it. The rest are the
  look at the superblock, and three turns to another thread and back, so that neither a journal that
  is replayed nor a gigabyte that is written back stops the program.

## Aims

What this project aims at is more than what users need to know: ${
  figures.length - missed
} of ${figures.length} aims are met.

${figureTable(figures)}

What is missed would cost users something. For a faster one-step cycle loopdev would have to
leave out the calls between "C, bare" and "C, same calls". For a faster start it would have to be
more than one file (mounts in a second one: 2 ms), or not to look before and after the bind.
`;

writeFileSync(join(out ?? DOCS, "performance.md"), page);
writeFileSync(join(out ?? DOCS, "performance.svg"), drawChart(cycles));
