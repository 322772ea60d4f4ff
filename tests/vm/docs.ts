/**
 * Writes docs/kernel-matrix.md, its chart, and rows of docs/machines.md from the results of one or more runs, and from
 * what earlier ones gave, docs/kernel-matrix.json: a run of all cells takes longer than most machines are quiet. A
 * step that ran again replaces what it gave in that cell before; several runs given at once are added up.
 *
 *     deno run -A tests/vm/docs.ts results.json...
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { writeRows } from "../compat/page.ts";
import { drawChart } from "./chart.ts";
import { machineRows } from "./machine_rows.ts";
import { compareReleases } from "./cells.ts";
import { type Run, withEarlier } from "./earlier.ts";
import { count, kernelOf, named, percent, rowsOf, sum, sure, table, worst } from "./tally.ts";

const DATA = "docs/kernel-matrix.json";

const runs = process.argv.slice(2).map((file) => JSON.parse(readFileSync(file, "utf8")) as Run);
if (runs.length === 0) {
  console.error("docs: no results given; run tests/vm/run.ts with --json FILE first");
  process.exit(1);
}
const earlier: Run[] = existsSync(DATA) ? [JSON.parse(readFileSync(DATA, "utf8"))] : [];
const last = runs.at(-1)!;
const all = withEarlier(runs.flatMap(({ cells }) => cells), earlier.flatMap(({ cells }) => cells))
  .sort((a, b) =>
    a.machine.localeCompare(b.machine) || compareReleases(a.release, b.release) ||
    Number(a.udev) - Number(b.udev)
  );
// A line each, so that a change shows which.
const lines = all.map((cell) => JSON.stringify(cell)).join(",\n");
const { cells: _, ...about } = last;
writeFileSync(DATA, JSON.stringify({ ...about, cells: [] }).replace("[]}", `[\n${lines}\n]}\n`));

/** The cell in which systemd is PID 1 has a table of its own. */
const cells = all.filter(({ init }) => init !== "systemd");

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
  `\`${cell.commit}\``,
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
const writers = cells.flatMap((cell) =>
  rowsOf(cell, "writer", "loopdev").map((row) => [
    ...named(cell),
    `${row.runtime}${row.kind === "locks" ? ', `lock: "shared"`' : ""}`,
    String(row.cycles),
    ...["flickered", "absent", "deferred", "starved", "left", "slowestDetach"].map((field) =>
      String(row[field])
    ),
    Object.entries(row.heldBy as Record<string, number>).map(([who, n]) => `${who}: ${n}`).join(
      "; ",
    ),
  ])
);
const runtimes = (["bun", "deno"] as const).map((runtime) => ({
  runtime,
  version: new RegExp(`${runtime}-([\\d.]+)`).exec(last.runtimes)![1],
}));
const LOCKS = ["cycles", "spurious", "busy", "unlinked", "deferred", "left"];
const locks = cells.flatMap((cell) =>
  [...new Set(rowsOf(cell, "locks", "").map((row) => String(row.case)))].map((
    name,
  ) => [...named(cell), name, ...LOCKS.map((key) => String(sum(rowsOf(cell, "locks", name), key)))])
);
/** What ran on which machine with which runtime. */
const places = ["amd64", "arm64"].flatMap((machine) =>
  runtimes.flatMap(({ runtime, version }) => {
    const mine = cells.filter((cell) => cell.machine === machine);
    const rows = mine.flatMap(sure).filter((row) => row.runtime === runtime);
    if (rows.length === 0) return [];
    const commits = new Set(mine.map(({ commit }) => `\`${commit}\``));
    return [[
      machine,
      `${runtime} ${version}`,
      String(mine.length),
      ...["cycles", "spurious", "missing", "left"].map((field) => String(sum(rows, field))),
      [...commits].join(", "),
    ]];
  })
);
const wrong = all.flatMap((cell) =>
  cell.results.filter(({ verdict }) => verdict.outcome !== "pass").map((row) =>
    `- ${kernelOf(cell)} with udev ${cell.udev}, ${row.case} (${row.runtime}): ` +
    `${row.verdict.outcome}, ${row.verdict.reason}`
  )
);
const crashes = all.flatMap((cell) =>
  cell.crashes.map((crash) => `- ${kernelOf(cell)} with udev ${cell.udev}: ${crash}`)
);
const symptom = all.flatMap((cell) =>
  cell.results.filter((row) => row.step === "symptom").map((row) => [
    ...named(cell),
    `${row.case} (${row.runtime})`,
    ...["cycles", "broken", "dead"].map((field) => String(row[field])),
  ])
);

const markdown = `# Kernel matrix

Generated by \`tests/vm/docs.ts\` from [what the cells gave](kernel-matrix.json); the last run ended
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
${
  writers.length === 0 ? "" : `
## A neighbour that writes

Not promised without \`lock: "shared"\`: a third program opens the device O_RDWR and closes it again every 10 ms, as long as it
is attached. udevd before 259 answers each close with BLKRRPART, which drops all partitions and adds
them again, whoever attached the image; newer ones look at the table first. "Absent": attach() had
resolved, and a partition was gone when the next line looked. "Deferred": detach() resolved while others
still had the device open; "starved": it was still there 10 s later, since udevd, which has an event to
work on for each close, never closed it while the writer had it closed, too; "left": it did not go when
the writer had ended, either.

${
    table([
      ...["kernel", "udev", "with", "cycles", "flickered", "absent", "deferred", "starved", "left"],
      ...["slowest detach, ms", "held by"],
    ], writers)
  }
`
}${
  locks.length === 0 ? "" : `
## Beside udev

A cycle attaches, makes a file system on partition 1, waits for udevd, opens the file system by its link in
/dev/disk/by-uuid, and detaches. "Busy": something was refused; "unlinked": the link was not there, or led
elsewhere.

${table(["kernel", "udev", "how", ...LOCKS], locks)}
`
}${
  symptom.length === 0 ? "" : `
## The symptom

systemd as PID 1, and a unit with \`BindsTo=dev-loop0p1.device\` that a udev rule wants
(\`SYSTEMD_WANTS=\`): how often it was stopped or failed while the image was attached, and how often it
was not running in the end, though the partition was there again.

${table(["kernel", "systemd", "attached by", "cycles", "unit broken", "unit dead"], symptom)}
`
}${
  wrong.length === 0 ? "" : `
## Not as expected

"Inconclusive" is a control that did not flicker although it could have.

${wrong.join("\n")}
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
deno run -A tests/vm/docs.ts results.json
\`\`\`

QEMU ${last.qemu} (software emulation, 2 processors), ${
  last.runtimes.replaceAll("-", " ").replace("_", ", ")
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

writeFileSync("docs/kernel-matrix.md", markdown);
writeFileSync(
  "docs/kernel-matrix.svg",
  drawChart(
    cells.map((cell) => ({
      label: `${kernelOf(cell).replace(" ●", "")}, udev ${cell.udev}`,
      affected: cell.affected,
      losetup: percent(cell.results.filter((row) => row.case === "losetup")),
      losetupHostile: percent(worst(cell, "control", "losetup")),
      loopdev: percent(sure(cell)),
    })),
    "Cycles in which partitions flickered",
  ),
);
writeRows(runtimes.flatMap((runtime) => machineRows(cells, runtime)));
console.log(`docs/machines.md, docs/kernel-matrix.md and .svg: ${cells.length} cells`);
