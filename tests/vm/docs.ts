/**
 * Writes docs/kernel-matrix.md and its chart from the results of one or more runs; what a cell gave
 * in several of them is added up.
 *
 *     deno run -A tests/vm/docs.ts results.json...
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { drawChart } from "./chart.ts";
import { compareReleases } from "./cells.ts";
import type { CellReport, Result } from "./run_cell.ts";

interface Run {
  date: string;
  qemu: string;
  /** "bun-1.4.5_deno-2.9.6" */
  runtimes: string;
  cells: CellReport[];
  unfetched: { id: string; udev: number; reason: string }[];
}

const runs = process.argv.slice(2).map((file) => JSON.parse(readFileSync(file, "utf8")) as Run);
if (runs.length === 0) {
  console.error("docs: no results given; run tests/vm/run.ts with --json FILE first");
  process.exit(1);
}
const last = runs.at(-1)!;
const key = ({ id, suite, init }: CellReport) => `${id} ${suite} ${init ?? "steps"}`;
const merged = new Map<string, CellReport>();
for (const cell of runs.flatMap((run) => run.cells)) {
  const before = merged.get(key(cell))?.results ?? [];
  merged.set(key(cell), { ...cell, results: [...before, ...cell.results] });
}
const all = [...merged.values()]
  .sort((a, b) => compareReleases(a.release, b.release) || Number(a.udev) - Number(b.udev));

/** The cell in which systemd is PID 1 has a table of its own. */
const cells = all.filter(({ init }) => init !== "systemd");

/** Rows of a cell by the beginning of their case, both runtimes together. */
const rowsOf = (cell: CellReport, step: string, name: string) =>
  cell.results.filter((row) => row.step === step && String(row.case).startsWith(name));
const sum = (rows: Result[], field: string) =>
  rows.reduce((n, row) => n + Number(row[field] ?? 0), 0);
const percent = (rows: Result[]) => {
  const cycles = sum(rows, "cycles");
  return cycles === 0 ? 0 : Math.round(100 * sum(rows, "flickered") / cycles);
};
/** "12 in 80": spurious events in so many cycles. */
const count = (rows: Result[]) =>
  rows.length === 0 ? "–" : `${sum(rows, "spurious")} in ${sum(rows, "cycles")}`;

/** The opener that does most harm: which one that is depends on the kernel. */
function worst(cell: CellReport, step: string, name: string): Result[] {
  const kinds = ["react", "spin"].map((kind) => rowsOf(cell, step, `${name} + opener ${kind}`));
  return kinds.reduce((a, b) => percent(b) > percent(a) ? b : a);
}

function table(header: string[], rows: string[][]): string {
  const line = (columns: string[]) => `| ${columns.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}

const named = (cell: CellReport) => [cell.release + (cell.affected ? " ●" : ""), String(cell.udev)];
const beside = cells.map((cell) => [
  ...named(cell),
  count(cell.results.filter((row) => row.case === "losetup")),
  count(worst(cell, "control", "losetup")),
  count(worst(cell, "mutants", "mutant one-step")),
  count(worst(cell, "mutants", "mutant without drain")),
  count(rowsOf(cell, "mutants", "mutant on the watched node")),
  count(cell.results.filter((row) => row.step === "loopdev" && row.kind === "loopdev")),
]);
const strategies = cells.map((cell) => {
  const verdicts = rowsOf(cell, "loopdev", "verdict");
  const probes = verdicts.map((row) => Object.keys(row.probes as object).join("/"));
  return [
    ...named(cell),
    `${verdicts[0]?.gate ?? "–"}, ${[...new Set(probes)].join("/") || "–"}`,
    ...["auto + opener", "two-step", "userspace", "auto, left behind", "auto, process exits"]
      .map((name) => count(rowsOf(cell, "loopdev", name))),
    `${sum(cell.results.filter((row) => row.kind === "loopdev"), "missing")}`,
    `${sum(cell.results.filter((row) => row.kind === "loopdev"), "left")}`,
  ];
});
const loopdevRows = cells.flatMap((cell) => cell.results.filter((row) => row.kind === "loopdev"));
const wrong = all.flatMap((cell) =>
  cell.results.filter(({ verdict }) => verdict.outcome !== "pass").map((row) =>
    `- ${cell.release} with udev ${cell.udev}, ${row.case} (${row.runtime}): ` +
    `${row.verdict.outcome}, ${row.verdict.reason}`
  )
);
const symptom = all.flatMap((cell) =>
  cell.results.filter((row) => row.step === "symptom").map((row) => [
    ...named(cell),
    `${row.case} (${row.runtime})`,
    String(row.cycles),
    String(row.broken),
  ])
);

const markdown = `# Kernel matrix

Generated from the run that ended ${last.date} by \`tests/vm/docs.ts\`; do not edit.

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

● is a kernel with [the race](../README.md#why-two-steps). The columns in the middle are loopdev with
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

Gate is \`isAffected()\` for the kernel's release, probe is \`probePartscanRace()\`, asked 30 times by
each runtime in each run, 20 of them under a hostile opener. Spurious events in so many cycles; Bun and Deno
together.

${
  table([
    "kernel",
    "udev",
    "gate, probe",
    "auto",
    "two-step",
    "userspace",
    "persist()",
    "process exits",
    "missing",
    "left",
  ], strategies)
}
${
  symptom.length === 0 ? "" : `
## The symptom

systemd as PID 1, and a unit with \`BindsTo=dev-loop0p1.device\`: how often it was stopped while the
image was attached.

${table(["kernel", "systemd", "attached by", "cycles", "unit broken"], symptom)}
`
}${
  wrong.length === 0 ? "" : `
## Not as expected

"Inconclusive" is a control that did not flicker although it could have.

${wrong.join("\n")}
`
}
## Repeat it

\`\`\`sh
apt-get install --no-install-recommends debootstrap qemu-system-x86 seabios xz-utils
deno task vm --json results.json
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

mkdirSync("docs", { recursive: true });
writeFileSync("docs/kernel-matrix.md", markdown);
writeFileSync(
  "docs/kernel-matrix.svg",
  drawChart(
    cells.map((cell) => ({
      label: `${cell.release}, udev ${cell.udev}`,
      affected: cell.affected,
      losetup: percent(cell.results.filter((row) => row.case === "losetup")),
      losetupHostile: percent(worst(cell, "control", "losetup")),
      loopdev: percent(cell.results.filter((row) => row.kind === "loopdev")),
    })),
    "Cycles in which partitions flickered",
  ),
);
console.log(`docs/kernel-matrix.md and .svg: ${cells.length} cells`);
