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
import {
  dissectOf,
  type Figure,
  type JobMedians,
  type Measured,
  type Medians,
  mediansOf,
} from "./figures.ts";
import { type Answer, answers, ms, span } from "./answers.ts";
import { C, PARTS } from "./mounts.ts";
import { duration } from "./duration.ts";

const HELP = `Usage: bench/docs.ts [RESULTS] [options]

Writes docs/performance.json, its page and the picture from what bench/run.ts wrote with --json, and the
ratios that other pages name.
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

/** ms of each part in one place, and what the job takes beside C. */
function jobTable(jobs: JobMedians): string {
  const floor = jobs[C].total;
  return table(
    ["", "all", "beside C", ...PARTS],
    Object.entries(jobs).map(([name, { total, parts }]) => [
      name,
      duration(total * 1e6),
      `${(total / floor).toFixed(2)} ×`,
      ...PARTS.map((_, i) => parts ? duration(parts[i] * 1e6) : "–"),
    ]),
  );
}

/** What the table of the job in memory says. */
function inMemory(jobs: JobMedians, runtimes: readonly string[]): string {
  const of = (prefix: string) => runtimes.map((name) => jobs[`${prefix} ${name}`].total);
  const [ours, processes] = [of("loopdev,"), of("processes from")];
  const faster = (theirs: readonly number[], own: readonly number[]) =>
    `${span(theirs.map((time, i) => time / own[i]), 1)} times as fast as`;
  const all = (time: number) => runtimes.map(() => time);
  const dissect = dissectOf(jobs);
  return [
    `loopdev takes ${
      span(ours.map((time) => time / jobs[C].total), 1)
    } times what C with the same ` +
    "system calls takes. It is",
    `${faster(processes, ours)} the four processes that the same runtime starts` +
    (dissect === undefined ? "." : ","),
    ...dissect === undefined ? [] : [`and ${faster(all(dissect), ours)} \`systemd-dissect\`.`],
    `C is ${faster(processes, all(jobs[C].total))} those processes: no program that makes these`,
    "calls can be faster than that, since the rest is the kernel's. The keeper is included: it has",
    "a record of each mount of loopdev's. The first mount of a process starts it, which the whole script",
    "at the top includes.",
  ].join("\n");
}

/** Why nobody is faster on a disk. */
function onDisk({ memory, disk }: Medians["mounts"], runtimes: readonly string[]): string {
  const flushing = ["attach", "mount", "unmount"] as const;
  const part = (jobs: JobMedians, name: string, which: typeof flushing[number]) =>
    jobs[name].parts![PARTS.indexOf(which)];
  const more = flushing.map((which) =>
    `${ms(part(disk, C, which) - part(memory, C, which))} in ${which}`
  );
  const unmounts = (prefix: string) =>
    span(runtimes.map((name) => part(disk, `${prefix} ${name}`, "unmount")), 1);
  return [
    `On the disk C takes ${ms(disk[C].total - memory[C].total)} more for the same calls: ` +
    `${more.join(", ")}.`,
    "There the kernel waits for the disk. LOOP_CONFIGURE flushes the image, a mount writes the superblock,",
    "and an unmount writes files, journal and superblock before it ends. Nobody can unmount without that",
    `wait: \`umount\` takes ${unmounts("processes from")} ms for it, loopdev ` +
    `${unmounts("loopdev,")} ms. A program that did not wait would`,
    "lose with the next loss of power what it has written.",
  ].join("\n");
}

function jobSection({ mounts }: Medians, all: readonly string[]): string {
  const { memory, disk } = mounts;
  const hasProcesses = (jobs: JobMedians | undefined, name: string) =>
    jobs === undefined || jobs[`processes from ${name}`] !== undefined;
  const runtimes = all.filter((name) => hasProcesses(memory, name) && hasProcesses(disk, name));
  return [
    "## The whole job\n",
    "Attach an image of 64 MiB with an ext4, mount it, write ten files of 4 KiB, unmount it, detach it.",
    'Medians; all took turns. "Processes" are `losetup --find --show`, `mount`, `umount` and',
    "`losetup --detach`, each started by the runtime or a shell, which writes the files itself.\n",
    ...memory ? [`In memory:\n\n${jobTable(memory)}\n`] : [],
    ...memory && runtimes.length > 0 ? [`${inMemory(memory, runtimes)}\n`] : [],
    ...disk ? [`On a disk:\n\n${jobTable(disk)}\n`] : [],
    ...memory && disk && runtimes.length > 0 ? [onDisk(mounts, runtimes)] : [],
  ].join("\n");
}

/** What was not there to be measured. */
function leftOutList(leftOut: Medians["leftOut"]): string {
  if (leftOut.length === 0) return "";
  const items = leftOut.map(({ name, why }) => `- ${name}: ${why.split("\n")[0]}`);
  return `\nLeft out of this run:\n\n${items.join("\n")}\n`;
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

- _Cycles_: after 2000 to warm up; in turns of 40, or of 5 where the kernel waits. Part of what a
  runtime takes more is JavaScript. The rest are the same system calls, each of which takes longer where
  a runtime's code runs between them.
- _Event loop_: the longest time between two turns of a 1 ms timer, from before attach() to after
  detach(). LOOP_CONFIGURE flushes the backing file. loopdev flushes it before, on another thread, if
  cachestat(2) finds dirty pages.
- _At once_: LOOP_SET_STATUS64 waits for an RCU grace period; waits of different devices overlap.
- _Start-up_: whole processes with the package's library, which for Bun is compiled in advance
  ([why](decisions/12-bytecode-for-bun.md)), and for Deno has a form of which Deno caches the most
  ([why](decisions/13-cached-functions-on-deno.md)); the empty script is the runtime's own start.
  Nearly all of the rest is every function's first run. The one that mounts starts its keeper, too.
  [Where Deno's 12 ms go](decisions/13-cached-functions-on-deno.md): to text and cache 2.7 ms, to the modules
  1.1 ms, to libc 1.5 ms, to the first attach() and detach() 3.6 ms.

${jobSection(kept, runtimes)}
${leftOutList(kept.leftOut)}
## Aims

What this project aims at is more than what users need to know: ${
  figures.length - missed
} of ${figures.length} aims are met.

${figureTable(figures)}
`;

writeFileSync(join(out ?? DOCS, "performance.md"), page);
writeFileSync(join(out ?? DOCS, "performance.svg"), drawChart(cycles));

/** The ratios that other pages name, and between which words. */
const NAMED: readonly (readonly [page: string, where: RegExp, value: string])[] = [
  ["README.md", /(?<=one step, )[\d to]+(?= times as fast)/, times.oneStep],
  ["docs/races.md", /(?<=one step, )[\d to]+(?= times as fast)/, times.oneStep],
  ["docs/races.md", /(?<="userspace"`, which is )[\d to]+(?= times as fast)/, times.userspace],
  ["docs/affected-kernels.md", /(?<=is )[\d to]+(?= times as fast)/, times.userspace],
  ["docs/affected-kernels.md", /(?<=\(performance\.md\) take )[\d to]+(?= % of)/, times.overlap],
];

if (out === undefined) {
  for (const [name, where, value] of NAMED) {
    const path = join(DOCS, "..", name);
    const text = readFileSync(path, "utf8");
    if (!where.test(text)) throw new Error(`${name} does not name a ratio: ${where}`);
    writeFileSync(path, text.replace(where, value));
  }
}
