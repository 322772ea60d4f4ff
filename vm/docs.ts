/**
 * Writes docs/kernel-matrix.md, its picture, that of docs/races.md, and rows of docs/machines.md from
 * the results of one or more runs, and from what earlier ones gave, docs/kernel-matrix.json: a run of
 * all cells takes longer than most machines are quiet. A step that ran again replaces what it gave in
 * that cell before; several runs given at once are added up. Git says which rows are older than the
 * library's last change.
 *
 *     deno run -A vm/docs.ts results.json...
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeRows } from "../compat/page.ts";
import { fail, readOptions } from "../dev/options.ts";
import { RUNTIMES } from "../dev/runtimes.ts";
import { drawChart, type Row, tellingRows } from "./chart.ts";
import { machineRows } from "./machine_rows.ts";
import { compareReleases } from "./cells.ts";
import type { CellReport, Result } from "./run_cell.ts";
import { type Data, inexactCells, type Run, withEarlier, withExactRows } from "./earlier.ts";
import { ageOf, compareLibrary, type Library, WATCHED } from "./library_age.ts";
import { faults, sections } from "./sections.ts";
import {
  commitsOf,
  count,
  isPlain,
  kernelOf,
  measured,
  named,
  percent,
  rowsOf,
  sum,
  sure,
  table,
  worst,
} from "./tally.ts";

const HELP = `Usage: vm/docs.ts [RESULTS...] [options]

Writes docs/kernel-matrix.json, its page, the pictures, and rows of docs/machines.md from what
vm/run.ts and vm/matrix.ts wrote with --json. Without RESULTS it asks git anew which rows are older than the
library, and writes pages and pictures from the data that is there.

      --out FOLDER  writes pages and pictures there from the data as it is, and changes nothing in docs/
  -h, --help        this text`;

const { values: { out }, operands } = readOptions(
  HELP,
  { out: { type: "string" } },
  { most: Infinity },
);
const DOCS = new URL("../docs/", import.meta.url).pathname;
const DATA = join(DOCS, "kernel-matrix.json");

const runs = operands.map((file) => JSON.parse(readFileSync(file, "utf8")) as Run);
for (const [i, run] of runs.entries()) {
  const [cell] = inexactCells(run.cells);
  if (cell === undefined) continue;
  fail(
    `${operands[i]} has rows of a tree that was changed since its commit (${
      kernelOf(cell)
    } with udev ` +
      `${cell.udev}: ${cell.commit}): commit the change and run that again, or leave the file out`,
  );
}
const earlier: Data[] = existsSync(DATA) ? [JSON.parse(readFileSync(DATA, "utf8"))] : [];
/** Of each runtime the version that ran last. */
const versions = new Map(
  [...earlier, ...runs].flatMap(({ runtimes }) =>
    runtimes.split("_").map((version) => [version.split("-")[0], version] as const)
  ),
);
const last: Run = {
  ...runs.at(-1) ?? earlier[0],
  runtimes: [...versions.values()].toSorted().join("_"),
};
const before = withExactRows(earlier.flatMap(({ cells }) => cells));
const all = withEarlier(runs.flatMap(({ cells }) => cells), before)
  .sort((a, b) =>
    a.machine.localeCompare(b.machine) || compareReleases(a.release, b.release) ||
    Number(a.udev) - Number(b.udev)
  );
const commits = commitsOf(all.flatMap(({ results }) => results));
/** As it was recorded: what --out shows is what the data says. */
const library: Library | undefined = out
  ? earlier[0]?.library
  : compareLibrary(join(DOCS, ".."), commits);
// A line each, so that a change shows which.
const lines = all.map((cell) => JSON.stringify(cell)).join(",\n");
const { cells: _, ...about } = last;
if (!out) {
  const data = JSON.stringify({ ...about, library, cells: [] });
  writeFileSync(DATA, data.replace("[]}", `[\n${lines}\n]}\n`));
}

/** The cells in which systemd is PID 1, or whose kernel is of another kind, have tables of their own. */
const cells = all.filter(isPlain);

const beside = cells.map((cell) => [
  ...named(cell),
  count(cell.results.filter((row) => row.case === "losetup")),
  count(worst(cell, "control", "losetup")),
  count(worst(cell, "mutants", "mutant one-step")),
  count(worst(cell, "mutants", "mutant without drain")),
  count(rowsOf(cell, "mutants", "mutant on the watched node")),
  count(sure(cell)),
  measured(
    [...rowsOf(cell, "control", ""), ...rowsOf(cell, "mutants", ""), ...sure(cell)],
    library,
  ),
]);
const strategies = cells.map((cell) => [
  ...named(cell),
  ...["auto + opener", "two-step", "userspace", "probe", "auto, left behind", "auto, process exits"]
    .map((name) => count(rowsOf(cell, "loopdev", name))),
  count(rowsOf(cell, "many", "attachAll()")),
  String(sum(rowsOf(cell, "many", "attachAll()"), "deferred")),
  count(rowsOf(cell, "cli", "cli.ts")),
  String(sum(sure(cell), "missing")),
  String(sum(sure(cell), "left")),
  measured(sure(cell), library),
]);
const answers = cells.map((cell) => {
  const rows = rowsOf(cell, "loopdev", "verdict");
  const times = (verdict: string) =>
    rows.reduce((n, { probes }) => n + Number((probes as Record<string, number>)[verdict] ?? 0), 0);
  return [
    ...named(cell),
    String(rows[0]?.gate ?? "–"),
    ...["affected", "fixed", "inconclusive"].map((verdict) => String(times(verdict))),
    rows.map(({ milliseconds, runtime }) => `${Math.round(Number(milliseconds))} (${runtime})`)
      .join(", "),
    measured(rows, library),
  ];
});
const loopdevRows = cells.flatMap(sure);
const runtimes = RUNTIMES.flatMap((runtime) => {
  const version = new RegExp(`${runtime}-([\\d.]+)`).exec(last.runtimes)?.[1];
  return version === undefined ? [] : [{ runtime, version }];
});
/** What ran on which machine with which runtime. */
const places = ["amd64", "arm64"].flatMap((machine) =>
  runtimes.flatMap(({ runtime, version }) => {
    const mine = cells.filter((cell) => cell.machine === machine);
    const rows = mine.flatMap(sure).filter((row) => row.runtime === runtime);
    if (rows.length === 0) return [];
    return [[
      machine,
      `${runtime} ${version}`,
      String(mine.filter((cell) => sure(cell).some((row) => row.runtime === runtime)).length),
      ...["cycles", "spurious", "missing", "left"].map((field) => String(sum(rows, field))),
      measured(rows, library),
    ]];
  })
);
/** Which commits the rows are of, the newest first. */
const trees = commits.map((commit) => {
  const of = all.filter(({ results }) => results.some((row) => row.commit === commit));
  const rows = of.flatMap(({ results }) => results).filter((row) => row.commit === commit);
  const dates = rows.flatMap(({ date }) => date?.slice(0, 16) ?? []).toSorted();
  const [first, end] = [dates[0], dates.at(-1)].map((date) => date?.replace("T", " "));
  const when = first === undefined ? "no date" : first === end ? first : `${first} to ${end}`;
  const steps = [...new Set(rows.map(({ step }) => step))].toSorted().join(", ");
  return [
    ...[`\`${commit}\``, when, String(of.length), String(rows.length), steps],
    ageOf(library, commit) || "as it is",
  ];
}).toSorted((a, b) => b[1].replace("no date", "").localeCompare(a[1].replace("no date", "")));

const present = loopdevRows.filter(({ commit }) => ageOf(library, commit) === "");
const ofPresent = library === undefined || "unknown" in library
  ? "Git could not say how many of these ran with the library as it is."
  : present.length === loopdevRows.length
  ? "All of them ran with the library as it is."
  : `Of these, ${
    sum(present, "cycles")
  } cycles ran with the library as it is, the others with older ones.`;

/** In how many cells a step ran with the library as it is, and in which it did not. */
function coverage(step: string): string {
  const isPresent = (cell: CellReport) =>
    rowsOf(cell, step, "").some(({ commit }) => ageOf(library, commit) === "");
  const without = cells.filter((cell) => !isPresent(cell));
  const names = without.map((cell) => `${kernelOf(cell).replace(" ●", "")} with udev ${cell.udev}`);
  const rest = names.length === 0 ? "" : `; not in: ${names.join("; ")}`;
  return `${cells.length - without.length} of ${cells.length} cells${rest}`;
}

const folders = WATCHED.map((folder) => `\`${folder}\``).join(", ");
const compared = library === undefined || "unknown" in library
  ? `Git could not say how old the rows are: ${library?.unknown ?? "nobody has asked it"}.`
  : `This page was written when \`${library.commit}\` of ${library.date} was the last commit that changed ` +
    `one of ${folders}. A row is **older** if files of these are not as they were at its commit; the ` +
    "page says how many. What changed after that commit, nobody has measured here.";

const markdown = `# Kernel matrix

Generated by \`vm/docs.ts\` from [what the cells gave](kernel-matrix.json); the last run ended
${last.date}. Do not edit.

How often do the partitions of a newly attached image flicker? Each cell is a virtual machine with a
Debian kernel and a real systemd-udevd. A cycle attaches an image with two partitions, looks at it,
and detaches it. It owes exactly one add and one remove uevent for each partition; everything beyond
is spurious. A hostile opener does what udev does, only faster: it opens the device at every uevent
("react") or all the time ("spin"); where two were measured, the worse one is shown.

**loopdev, over all cells, runtimes and strategies: ${sum(loopdevRows, "spurious")} spurious events
and ${sum(loopdevRows, "missing")} missing ones in ${sum(loopdevRows, "cycles")} cycles, and
${sum(loopdevRows, "left")} devices left behind.** ${ofPresent}

![Cycles that flicker, by cell](kernel-matrix.svg)

## Of which code

Each row names the commit and the day of its run. ${compared}

${table(["commit", "ran (UTC)", "cells", "rows", "steps", "library since"], trees)}

- attach(), with the library as it is: in ${coverage("loopdev")}.
- mount(), with the library as it is: in ${coverage("mounts")}.

## Spurious events beside each other

● is a kernel with [the race](races.md). The columns in the middle are loopdev with
one thing taken away, which shows that the measurement sees what it should: one step where two are
needed, two steps without the drain between them, and the device's watched node instead of one of our
own (udev before 259).

${
  table([
    "kernel",
    "udev",
    "losetup -P",
    "losetup -P, opener",
    "one-step, opener",
    "no drain, opener",
    "watched node",
    "loopdev",
    "measured",
  ], beside)
}

## loopdev by strategy

Spurious events in so many cycles; Bun and Deno together. "probe" asks \`probePartscanRace()\` anew in
each cycle, before an attach() with \`workaround: "probe"\`: its uevents are counted too. A cycle of
attachAll() is one of its 16 images; "deferred" are those of them that others, udevd here, had open
longer than detach() waits.

${
  table([
    ...["kernel", "udev", "auto", "two-step", "userspace", "probe", "persist()", "process exits"],
    ...["attachAll()", "deferred", "cli.ts", "missing", "left", "measured"],
  ], strategies)
}

## What the probe answers

Gate is \`isAffected()\` for the kernel's release; beside it how often \`probePartscanRace()\` gave
which answer under a hostile opener, and what one took, in ms.

${table(["kernel", "udev", "gate", "affected", "fixed", "inconclusive", "ms", "measured"], answers)}

## What ran where

${
  table(
    ["machine", "runtime", "cells", "cycles", "spurious", "missing", "left", "measured"],
    places,
  )
}
${sections(all, library)}${faults(all)}
## Repeat it

\`\`\`sh
apt-get install --no-install-recommends debootstrap xz-utils
deno task vm:matrix --resume --json results.json
deno run -A vm/docs.ts results.json
\`\`\`

The tree must be as it was committed: rows of any other are refused.

QEMU ${last.qemu} (software emulation, 2 processors), ${
  last.runtimes.replaceAll("-", " ").replaceAll("_", ", ")
};
${cells.length} cells. Kernels leave Debian's archive with time; a cell that
cannot be fetched is named, and missing here:
${
  last.unfetched.length === 0
    ? "none was."
    : last.unfetched.map(({ id, udev, reason }) => `\n- ${id} with udev ${udev}: ${reason}`).join(
      "",
    )
}
`;

/** A row of the picture, and which machine it is of. */
const rows = cells.map((cell): Row & { machine: string } => ({
  machine: cell.machine,
  kernel: kernelOf(cell).replace(" ●", ""),
  udev: Number(cell.udev),
  affected: cell.affected,
  losetup: percent(cell.results.filter((row) => row.case === "losetup")),
  losetupHostile: percent(worst(cell, "control", "losetup")),
  loopdev: percent(sure(cell)),
}));
const leastCycles = (of: (cell: CellReport) => Result[]) =>
  Math.min(...cells.map((cell) => sum(of(cell), "cycles")).filter((cycles) => cycles > 0));
const title = "How often partitions flicker";
const caption = "Share of cycles in which a partition came or went once too often, of at least " +
  `${leastCycles((cell) => worst(cell, "control", "losetup"))} (losetup) and ` +
  `${leastCycles(sure)} (loopdev).`;
const files = {
  "kernel-matrix.md": markdown,
  "kernel-matrix.svg": drawChart([rows], title, caption),
  "races.svg": drawChart(
    tellingRows(rows.filter(({ machine }) => machine === "amd64")),
    title,
    caption,
  ),
};
for (const [name, content] of Object.entries(files)) {
  writeFileSync(join(out ?? DOCS, name), content);
}
if (!out) writeRows(runtimes.flatMap((runtime) => machineRows(cells, runtime)));
console.log(`${Object.keys(files).join(", ")}: ${cells.length} cells`);
