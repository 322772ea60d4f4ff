/** Sections of the matrix' page about one step each; empty where that has not run. */
import type { Library } from "./library_age.ts";
import type { CellReport, Result } from "./run_cell.ts";
import { isPlain, kernelOf, measured, named, rowsOf, sum, table } from "./tally.ts";

function section(text: string, header: string[], rows: string[][], more = ""): string {
  return rows.length === 0 ? "" : `\n## ${text}\n\n${table(header, rows)}\n${more}`;
}

/** A neighbour that opens the device for writing. */
function writers(cells: readonly CellReport[], library?: Library): string {
  const rows = cells.flatMap((cell) =>
    rowsOf(cell, "writer", "loopdev").map((row) => [
      ...named(cell),
      `${row.runtime}${row.kind === "locks" ? ', `lock: "shared"`' : ""}`,
      ...["cycles", "spurious", "flickered", "absent", "deferred", "starved", "left"].map((field) =>
        String(row[field])
      ),
      String(row.slowestDetach),
      Object.entries(row.heldBy as Record<string, number>).map(([who, n]) => `${who}: ${n}`)
        .join("; "),
      measured([row], library),
    ])
  );
  return section(
    `A neighbour that writes

Not promised without \`lock: "shared"\`: a third program opens the device O_RDWR and closes it again every
10 ms, as long as it is attached. udevd before 259 answers each close with BLKRRPART, which drops all
partitions and adds them again, whoever attached the image; newer ones look at the table first.
"Absent": attach() had resolved, and a partition was gone when the next line looked. "Deferred":
detach() resolved while others still had the device open; "starved": it was still there 10 s later,
since udevd, which has an event to work on for each close, never closed it while the writer had it
closed, too; "left": it did not go when the writer had ended, either.`,
    [
      ...["kernel", "udev", "with", "cycles", "spurious", "flickered", "absent", "deferred"],
      ...["starved", "left", "slowest detach, ms", "held by", "measured"],
    ],
    rows,
  );
}

const LOCKS = ["cycles", "spurious", "busy", "unlinked", "deferred", "left"];

/** Making file systems under lock(), and what settled() waits for. */
function locks(cells: readonly CellReport[], library?: Library): string {
  const rows = cells.flatMap((cell) => {
    const told = rowsOf(cell, "locks", "");
    const names = new Set(told.map((row) => String(row.case)));
    return [...names].map((name) => {
      const mine = told.filter((row) => row.case === name);
      return [
        ...[...named(cell), name, ...LOCKS.map((key) => String(sum(mine, key)))],
        measured(mine, library),
      ];
    });
  });
  return section(
    `Beside udev

A cycle attaches, makes a file system on partition 1, waits for udevd, opens the file system by its link
in /dev/disk/by-uuid, and detaches. "Busy": something was refused; "unlinked": the link was not there,
or led elsewhere. The last two are controls.`,
    ["kernel", "udev", "how", ...LOCKS, "measured"],
    rows,
  );
}

const MOUNTS = ["cycles", "killed", "spurious", "left", "seen", "lostFiles"];

/** Mounts, and processes that are killed with one. */
function mounts(cells: readonly CellReport[], library?: Library): string {
  const rows = cells.flatMap((cell) =>
    ["bun", "deno", "node"].flatMap((runtime) => {
      const mine = rowsOf(cell, "mounts", "").filter((row) =>
        row.case === "mount" && row.runtime === runtime
      );
      if (mine.length === 0) return [];
      return [[
        ...named(cell),
        runtime,
        ...MOUNTS.map((key) => String(sum(mine, key))),
        [...new Set(mine.map(({ nested }) => nested))].join("; "),
        measured(mine, library),
      ]];
    })
  );
  return section(
    `Mounts

A cycle attaches, mounts the ext4 of partition 1, saves a file, unmounts and detaches; every third one's
process is killed instead, and every other time with its keeper. "Left": a mount or a device did not go;
"seen": the list of mounts did not have it as its form says; "lost": a file that was saved was not there
in the next cycle. "Nested": what comes of a mount below another one, and of that.`,
    [
      ...["kernel", "udev", "runtime", "cycles", "killed", "spurious", "left", "seen", "lost"],
      ...["nested", "measured"],
    ],
    rows,
  );
}

/** What systemd does to a unit that is bound to a partition. */
function symptom(cells: readonly CellReport[], library?: Library): string {
  const rows = cells.flatMap((cell) =>
    rowsOf(cell, "symptom", "").map((row) => [
      ...named(cell),
      `${row.case} (${row.runtime})`,
      ...["cycles", "broken", "dead"].map((field) => String(row[field])),
      measured([row], library),
    ])
  );
  return section(
    `The symptom

systemd as PID 1, and a unit with \`BindsTo=dev-loop0p1.device\` that a udev rule wants
(\`SYSTEMD_WANTS=\`): how often it was stopped or failed while the image was attached, and how often it
was not running in the end, though the partition was there again.`,
    ["kernel", "systemd", "attached by", "cycles", "unit broken", "unit dead", "measured"],
    rows,
  );
}

/** A step whose rows pass or fail: what its section says. */
interface Checked {
  step: string;
  /** Of its rows only those that another section does not show. */
  without?: string;
  text: string;
}

const CHECKED: readonly Checked[] = [
  {
    step: "mounts",
    without: "mount",
    text: `Mounts in all forms

Each form of mount() and of mountImage(), once, with what it promises: where its files are, who sees it,
what is left after unmount() and after SIGKILL.`,
  },
  {
    step: "run",
    text: `Commands in an image

run() in each form of a mount: what the command finds, that it and what it starts have ended with it, and
that nothing is left when its process is killed while it runs.`,
  },
  {
    step: "grow",
    text: `Growth

grow() of what is mounted and written to, checked by the file system's own tool afterwards; and tables
that were cut at each write of a growth, read by the kernel.`,
  },
  {
    step: "owners",
    text: `Mounts that are a user's

\`owner\`, by file system: the user reads and writes what is root's on the disk, and nobody else's files
become his. "mapper" is a mount of a device that another program has made.`,
  },
  {
    step: "verbs",
    text: `The tool

\`loopdev run\`, \`ls\`, \`cp\`, \`mount\`, \`umount\` and \`grow\` beside udevd.`,
  },
  {
    step: "restricted",
    text: `Where nobody may write to what is mounted

The kernel's command line has \`bdev_allow_write_mounted=0\` (Linux 6.8): a mount is refused while
anybody has the device open for writing, and the other way round.`,
  },
  {
    step: "links",
    text: `A kernel that loses the change event

Linux 5.19 to 6.14 send no change event for an image without partitions. Debian's archive has none of them
any more, so the loop module's own events are taken out of it here, and the release is hidden from the
library, which goes by it: does udevd learn of the image? "The driver alone" is the control.`,
  },
  {
    step: "foreign",
    text: `Foreign tables beside Debian's parsers

Debian's generic kernel reads Apple's, Sun's, SGI's, Amiga's, Atari's and other tables. readPartitions()
gives what the kernel shows, and rescan() removes nothing of it.`,
  },
  {
    step: "strangers",
    text: `Images of other tools

Images that other tools have made: the kernel shows what was recorded of them, and we see the same, or
what is documented.`,
  },
  {
    step: "tables",
    text: `Whole, damaged and hostile tables

Tables by chance, each read by the kernel and by us.`,
  },
  {
    step: "services",
    text: `systemd beside mounts on directories

systemd as PID 1. While an image is mounted, services start with namespaces of their own
(\`PrivateTmp=\` and others), and so does a container; then the image is unmounted and detached. No unit
may be left, and no copy of the mount may keep the device.`,
  },
];

/** More cases than these are counted, and only those that did not just pass are named. */
const MOST_COLUMNS = 8;

/** Messages of documented refusals, numbered as they come. */
class Notes {
  readonly #notes: string[] = [];

  add(row: Result): string {
    // One note for all runtimes.
    const note = String(row.refused).replace(`PID (${row.runtime})`, "PID (its name)");
    if (!this.#notes.includes(note)) this.#notes.push(note);
    return `[${this.#notes.indexOf(note) + 1}]`;
  }

  toString(): string {
    const list = this.#notes.map((note, i) => `${i + 1}. ${note}`).join("\n");
    return list && `\nRefused as documented:\n\n${list}\n`;
  }
}

const nameOf = (row: Result) => String(row.case ?? row.step);
const isPassed = ({ verdict }: Result) => verdict.outcome === "pass";
/** What a row says of itself, where it is no refusal. */
function answerOf(row: Result): string {
  const { outcome, reason } = row.verdict;
  if (outcome !== "pass") return `**${outcome}**`;
  return row.kind === "control"
    ? `control: ${reason ?? "as it is without us"}`
    : `yes${cyclesOf(row)}`;
}

/** A row of each cell and runtime, a column of each case. */
function checked(
  { step, without, text }: Checked,
  cells: readonly CellReport[],
  library?: Library,
) {
  const told = cells.flatMap((cell) => {
    const rows = cell.results.filter((row) => row.step === step && row.case !== without);
    return [...new Set(rows.map(({ runtime }) => runtime))]
      .map((runtime) => ({ cell, runtime, rows: rows.filter((row) => row.runtime === runtime) }));
  });
  const cases = [...new Set(told.flatMap(({ rows }) => rows.map(nameOf)))];
  const notes = new Notes();
  const each = (rows: readonly Result[]) =>
    cases.map((name) => {
      const row = rows.find((row) => nameOf(row) === name);
      if (row === undefined) return "–";
      return isPassed(row) && row.refused ? `refused ${notes.add(row)}` : answerOf(row);
    });
  const counted = (rows: readonly Result[]) => {
    const refused = rows.filter((row) => isPassed(row) && row.refused);
    const wrong = rows.filter((row) => !isPassed(row));
    return [
      `${rows.length - refused.length - wrong.length} of ${rows.length}`,
      refused.map((row) => `${nameOf(row)} ${notes.add(row)}`).join(", "),
      wrong.map((row) => `${nameOf(row)}: ${answerOf(row)}`).join(", "),
    ];
  };
  const isWide = cases.length > MOST_COLUMNS;
  const lines = told.map(({ cell, runtime, rows }) => [
    ...[...named(cell), runtime, ...isWide ? counted(rows) : each(rows)],
    measured(rows, library),
  ]);
  const columns = isWide ? ["passed", "refused as documented", "not as expected"] : cases;
  return section(
    isWide ? `${text}\n\nThe cases: ${cases.join("; ")}.` : text,
    ["kernel", "udev", "runtime", ...columns, "measured"],
    lines,
    String(notes),
  );
}

/** How often, where a row says so. */
const cyclesOf = ({ cycles }: Result) => Number(cycles) > 1 ? `, ${cycles} ×` : "";

/** All of them, in the page's order. */
export function sections(cells: readonly CellReport[], library?: Library): string {
  const plain = cells.filter(isPlain);
  return [
    ...[writers(plain, library), locks(plain, library), mounts(plain, library)],
    ...CHECKED.map((one) => checked(one, cells, library)),
    symptom(cells, library),
  ].join("");
}

/** Cells that cannot be had, rows that are not as expected, and guests that died. */
export function faults(cells: readonly CellReport[]): string {
  const wrong = cells.flatMap((cell) =>
    cell.results.filter(({ verdict }) => verdict.outcome !== "pass").map((row) =>
      `- ${kernelOf(cell)} with udev ${cell.udev}, ${row.step}, ${
        row.case ?? ""
      } (${row.runtime}): ` +
      `${row.verdict.outcome}, ${row.verdict.reason}`
    )
  );
  const unended = cells.filter(({ failure }) => failure !== undefined)
    .map((cell) => `- ${kernelOf(cell)} with udev ${cell.udev}, not to its end: ${cell.failure}`);
  const crashes = cells.flatMap((cell) =>
    cell.crashes.map((crash) => `- ${kernelOf(cell)} with udev ${cell.udev}: ${crash}`)
  );
  const unexpected = [...unended, ...wrong].join("\n");
  return [
    unexpected && `
## Not as expected

"Inconclusive" is a control that did not flicker although it could have, or a table that says too little.

${unexpected}
`,
    crashes.length > 0 && `
## Guests that died

A kernel or a runtime died in QEMU's emulation: 7.2 does that now and then, whatever runs in it. What had not ended ran
in another boot.

${crashes.join("\n")}
`,
  ].filter(Boolean).join("");
}
