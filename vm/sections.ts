/** Sections of the matrix' page about one step each; empty where that has not run. */
import type { CellReport } from "./run_cell.ts";
import { named, rowsOf, sum, table } from "./tally.ts";

function section(text: string, header: string[], rows: string[][]): string {
  return rows.length === 0 ? "" : `\n## ${text}\n\n${table(header, rows)}\n`;
}

/** A neighbour that opens the device for writing. */
export function writers(cells: readonly CellReport[]): string {
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
      ...["starved", "left", "slowest detach, ms", "held by"],
    ],
    rows,
  );
}

const LOCKS = ["cycles", "spurious", "busy", "unlinked", "deferred", "left"];

/** Making file systems under lock(), and what settled() waits for. */
export function locks(cells: readonly CellReport[]): string {
  const rows = cells.flatMap((cell) => {
    const told = rowsOf(cell, "locks", "");
    const names = new Set(told.map((row) => String(row.case)));
    return [...names].map((name) => {
      const mine = told.filter((row) => row.case === name);
      return [...named(cell), name, ...LOCKS.map((key) => String(sum(mine, key)))];
    });
  });
  return section(
    `Beside udev

A cycle attaches, makes a file system on partition 1, waits for udevd, opens the file system by its link
in /dev/disk/by-uuid, and detaches. "Busy": something was refused; "unlinked": the link was not there,
or led elsewhere. The last two are controls.`,
    ["kernel", "udev", "how", ...LOCKS],
    rows,
  );
}

const MOUNTS = ["cycles", "killed", "spurious", "left", "seen", "lostFiles", "nested"];

/** Mounts, and processes that are killed with one. */
export function mounts(cells: readonly CellReport[]): string {
  const rows = cells.flatMap((cell) =>
    rowsOf(cell, "mounts", "mount").map((row) => [
      ...named(cell),
      row.runtime,
      ...MOUNTS.map((key) => String(row[key])),
    ])
  );
  return section(
    `Mounts

A cycle attaches, mounts the ext4 of partition 1, saves a file, unmounts and detaches; every third one's
process is killed instead. "Left": a mount or a device did not go; "seen": the list of mounts did not
have it as its form says; "lost": a file that was saved was not there in the next cycle. "Nested": what
comes of a mount below another one, and of that.`,
    ["kernel", "udev", "runtime", "cycles", "killed", "spurious", "left", "seen", "lost", "nested"],
    rows,
  );
}

/** What systemd does to a unit that is bound to a partition. */
export function symptom(cells: readonly CellReport[]): string {
  const rows = cells.flatMap((cell) =>
    rowsOf(cell, "symptom", "").map((row) => [
      ...named(cell),
      `${row.case} (${row.runtime})`,
      ...["cycles", "broken", "dead"].map((field) => String(row[field])),
    ])
  );
  return section(
    `The symptom

systemd as PID 1, and a unit with \`BindsTo=dev-loop0p1.device\` that a udev rule wants
(\`SYSTEMD_WANTS=\`): how often it was stopped or failed while the image was attached, and how often it
was not running in the end, though the partition was there again.`,
    ["kernel", "systemd", "attached by", "cycles", "unit broken", "unit dead"],
    rows,
  );
}
