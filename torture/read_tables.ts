/**
 * Reads the torture tables with readPartitions(), from a file, and compares each with what the parser
 * behind attach() makes of the same disk in memory.
 *
 *     bun torture/read_tables.ts --count 1000000
 *     deno run -A torture/read_tables.ts --seed 7 --case 1234
 */
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { progress } from "../dev/terminal.ts";
import { findTable } from "../lib/table/sector_size.ts";
import { LoopError, readPartitions, type SectorSize } from "../mod.ts";
import { Random } from "../tests/cases/random.ts";
import type { SparseDisk } from "../tests/cases/sparse_disk.ts";
import { makeCase } from "../tests/cases/table_cases.ts";
import {
  MOST_SHOWN,
  parseTableOptions,
  PROGRESS_MS,
  showProgress,
  type TableOptions,
} from "./table_options.ts";

const HELP = `Usage: torture/read_tables.ts [options]

Reads generated partition tables from a file and from memory, which must agree.
Exits with 1 if they do not, for one of them.

      --count N    how many tables (1000000)
      --seed N     gives the same tables again (random)
      --case N     this table of the seed alone
      --json FILE  writes the summary
  -h, --help       this text`;
const options = parseTableOptions(HELP);

// In memory, and with room for the largest disks: no other file system has files of 4 PiB.
const folder = mkdtempSync("/dev/shm/loopdev-test-");
const path = join(folder, "table.img");
const fd = openSync(path, "w+");

/** The disk, from `offset` on, and something behind it. */
function write(disk: SparseDisk, offset: number, behind: number): void {
  ftruncateSync(fd, 0);
  ftruncateSync(fd, offset + disk.size + behind);
  for (const { offset: at, bytes } of disk.written()) {
    writeSync(fd, bytes, 0, bytes.length, offset + at);
  }
}

/** The table, or the error's code. */
async function fromFile(...args: Parameters<typeof readPartitions>): Promise<string> {
  try {
    return JSON.stringify(await readPartitions(...args));
  } catch (error) {
    if (!(error instanceof LoopError)) throw error;
    return error.code;
  }
}

function fromMemory(disk: SparseDisk, sectorSize: number | "auto"): string {
  const size = disk.size - disk.size % 512;
  if (size === 0) return "EINVAL";
  const table = findTable({ size, read: (at, length) => disk.read(at, length) }, sectorSize);
  if (table.unreadable !== undefined) return "EMEDIUMTYPE";
  if (table.kind === "gpt" && table.header === undefined) return "EUCLEAN";
  return sectorSize !== "auto" && table.sectorSize !== sectorSize
    ? "EMEDIUMTYPE"
    : JSON.stringify(table);
}

/** What differs, if anything does; and whether there was a table. */
async function tryCase(seed: number, number: number) {
  const { kind, disk } = makeCase(seed, number);
  const random = new Random(seed + 1, number);
  const behind = random.oneIn(4) ? random.between(1, 9999) : 0;
  const offset = disk.size >= 512 ? random.pick([0, 0, 512, random.below(99_999)]) : 0;
  const sectorSize = random.pick([disk.sectorSize, disk.sectorSize, "auto"] as const);
  // Without one the disk ends with the file, with one beyond the file as well.
  const sizelimit = behind > 0 ? disk.size : random.oneIn(4) ? disk.size + 1000 : 0;
  if (sizelimit > 0 && sizelimit < 512) return {};
  write(disk, offset, behind);
  const read = await fromFile(path, { offset, sizelimit, sectorSize: sectorSize as SectorSize });
  const expected = fromMemory(disk, sectorSize);
  const what = `case ${number} (${kind}), offset ${offset}, sizelimit ${sizelimit}, ${sectorSize}`;
  return {
    found: read.startsWith("{") && !read.includes('"partitions":[]'),
    refused: !read.startsWith("{"),
    difference: read === expected ? undefined : `${what}\n  file   ${read}\n  memory ${expected}`,
  };
}

async function main({ seed, json, case: only, ...options }: TableOptions): Promise<number> {
  const count = only === undefined ? options.count : 1;
  const tally = { found: 0, refused: 0, different: 0 };
  let next = performance.now() + PROGRESS_MS;
  for (let i = 0; i < count; i++) {
    const { found, refused, difference } = await tryCase(seed, only ?? i);
    if (found) tally.found++;
    if (refused) tally.refused++;
    if (difference !== undefined && tally.different++ < MOST_SHOWN) {
      console.log(`VIOLATION: seed ${seed}, ${difference}`);
    }
    if (performance.now() < next) continue;
    next += PROGRESS_MS;
    showProgress(i + 1, count, tally.different);
  }
  const { found, refused, different } = tally;
  progress("");
  console.log(
    `seed ${seed}: ${count} tables read from a file, ${found} with partitions, ${refused} refused, ` +
      `${different} different from what attach()'s parser sees`,
  );
  if (json !== undefined) {
    writeFileSync(json, JSON.stringify({ seed, count, ...tally }, null, 2) + "\n");
  }
  return different > 0 ? 1 : 0;
}

try {
  process.exitCode = await main(options);
} finally {
  closeSync(fd);
  rmSync(folder, { recursive: true });
}
