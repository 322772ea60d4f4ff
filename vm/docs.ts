/**
 * Writes docs/kernel-matrix.md, its picture, that of docs/races.md, and rows of docs/machines.md from
 * the results of one or more runs, and from what earlier ones gave, docs/kernel-matrix.json: a run of
 * all cells takes longer than most machines are quiet. A step that ran again replaces what it gave in
 * that cell before; several runs given at once are added up.
 *
 *     deno run -A vm/docs.ts results.json...
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeRows } from "../compat/page.ts";
import { readOptions } from "../dev/options.ts";
import { RUNTIMES } from "../dev/runtimes.ts";
import { drawChart, type Row, tellingRows } from "./chart.ts";
import { machineRows } from "./machine_rows.ts";
import { compareReleases } from "./cells.ts";
import type { CellReport, Result } from "./run_cell.ts";
import { type Run, withEarlier } from "./earlier.ts";
import { locks, mounts, symptom, writers } from "./sections.ts";
import {
  commitsOf,
  count,
  kernelOf,
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
vm/run.ts wrote with --json. Without RESULTS it writes pages and pictures anew from the data that is
there.

      --out FOLDER  writes pages and pictures there, and changes nothing in docs/
  -h, --help        this text`;

const { values: { out }, operands } = readOptions(
  HELP,
  { out: { type: "string" } },
  { most: Infinity },
);
const DOCS = new URL("../docs/", import.meta.url).pathname;
const DATA = join(DOCS, "kernel-matrix.json");

const runs = operands.map((file) => JSON.parse(readFileSync(file, "utf8")) as Run);
const earlier: Run[] = existsSync(DATA) ? [JSON.parse(readFileSync(DATA, "utf8"))] : [];
const last = runs.at(-1) ?? earlier[0];
const all = withEarlier(runs.flatMap(({ cells }) => cells), earlier.flatMap(({ cells }) => cells))
  .sort((a, b) =>
    a.machine.localeCompare(b.machine) || compareReleases(a.release, b.release) ||
    Number(a.udev) - Number(b.udev)
  );
// A line each, so that a change shows which.
const lines = all.map((cell) => JSON.stringify(cell)).join(",\n");
const { cells: _, ...about } = last;
if (!out) {
  writeFileSync(DATA, JSON.stringify({ ...about, cells: [] }).replace("[]}", `[\n${lines}\n]}\n`));
}

/** The cell in which systemd is PID 1 has a table of its own. */
const cells = all.filter(({ init }) => init !== "systemd");

const quoted = (commits: string[]) => commits.map((commit) => `\`${commit}\``).join(", ");
const beside = cells.map((cell) => [
  ...named(cell),
  count(cell.results.filter((row) => row.case === "losetup")),
  count(worst(cell, "control", "losetup")),
  count(worst(cell, "mutants", "mutant one-step")),
  count(worst(cell, "mutants", "mutant without drain")),
  count(rowsOf(cell, "mutants", "mutant on the watched node")),
  count(sure(cell)),
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
  quoted(commitsOf(sure(cell))),
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
      String(mine.length),
      ...["cycles", "spurious", "missing", "left"].map((field) => String(sum(rows, field))),
      quoted(commitsOf(rows)),
    ]];
  })
);
const wrong = all.flatMap((cell) =>
  cell.results.filter(({ verdict }) => verdict.outcome !== "pass").map((row) =>
    `- ${kernelOf(cell)} with udev ${cell.udev}, ${row.case} (${row.runtime}): ` +
    `${row.verdict.outcome}, ${row.verdict.reason}`
  )
);
const unended = all.filter(({ failure }) => failure !== undefined)
  .map((cell) => `- ${kernelOf(cell)} with udev ${cell.udev}, not to its end: ${cell.failure}`);
const crashes = all.flatMap((cell) =>
  cell.crashes.map((crash) => `- ${kernelOf(cell)} with udev ${cell.udev}: ${crash}`)
);

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
${sum(loopdevRows, "left")} devices left behind.**

![Cycles that flicker, by cell](kernel-matrix.svg)

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
    ...["attachAll()", "deferred", "cli.ts", "missing", "left", "commit"],
  ], strategies)
}

## What the probe answers

Gate is \`isAffected()\` for the kernel's release; beside it how often \`probePartscanRace()\` gave
which answer under a hostile opener, and what one took, in ms.

${table(["kernel", "udev", "gate", "affected", "fixed", "inconclusive", "ms"], answers)}

## What ran where

${
  table(
    ["machine", "runtime", "cells", "cycles", "spurious", "missing", "left", "commit"],
    places,
  )
}
${[writers(cells), locks(cells), mounts(cells), symptom(all)].join("")}${
  wrong.length + unended.length === 0 ? "" : `
## Not as expected

"Inconclusive" is a control that did not flicker although it could have.

${[...unended, ...wrong].join("\n")}
`
}${
  crashes.length === 0 ? "" : `
## Guests that died

QEMU's threaded emulation breaks a kernel now and then, whatever runs in it. What had not ended then ran
in another boot.

${crashes.join("\n")}
`
}
## Repeat it

\`\`\`sh
apt-get install --no-install-recommends debootstrap \\
  qemu-system-x86 qemu-system-arm seabios xz-utils
deno task vm --cycles 100 --resume --json results.json
deno run -A vm/docs.ts results.json
\`\`\`

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
  Math.min(...cells.map((cell) => sum(of(cell), "cycles")));
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
