/**
 * Reads partition tables that strangers could have written, by the million, and stops at none.
 *
 *     bun torture/tables.ts --count 1000000
 *     deno run -A torture/tables.ts --seed 7 --case 1234
 */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { progress, table } from "../dev/terminal.ts";
import { RUNTIME } from "../dev/runtimes.ts";
import { KINDS, makeCase } from "../tests/cases/table_cases.ts";
import { MOST_SHOWN, parseTableOptions, PROGRESS_MS, showProgress } from "./table_options.ts";
import {
  LONGEST_READ,
  MOST_BYTES,
  MOST_MILLISECONDS,
  MOST_READS,
  type Outcome,
  tryTable,
} from "../tests/cases/table_properties.ts";

const HELP = `Usage: torture/tables.ts [options]

Reads generated partition tables, whole, damaged and hostile ones, and checks what
loopdev makes of each. Exits with 1 if anything is wrong with one of them.

      --count N    how many tables (1000000)
      --seed N     gives the same tables again (random)
      --case N     reads this table of the seed alone, and shows it
      --json FILE  writes the summary
  -h, --help       this text`;

interface Tally {
  tables: number;
  withPartitions: number;
  partitions: number;
  violations: number;
}

const options = parseTableOptions(HELP);
const { seed } = options;
console.error(`seed ${seed}`);
if (options.case !== undefined) showCase(options.case);
else run(options.count);

function showCase(number: number): void {
  const table = makeCase(seed, number);
  const { kind, disk, fault } = table;
  const size = `${disk.size} bytes in sectors of ${disk.sectorSize}`;
  console.log(`${kind}: ${size}${fault ? `, read ${fault.read} ${fault.kind}` : ""}`);
  process.stdout.write(disk.hexdump());
  const { partitions, violations } = tryTable(table);
  for (const partition of partitions) console.log(JSON.stringify(partition));
  for (const violation of violations) console.log(`VIOLATION: ${violation}`);
  process.exitCode = violations.length > 0 ? 1 : 0;
}

/** Says how to see the table again, and leaves it in a file. */
function complain(number: number, kind: string, violations: readonly string[]): void {
  const file = `table-${seed}-${number}.xxd`;
  const { disk } = makeCase(seed, number);
  writeFileSync(file, disk.hexdump());
  console.log(`VIOLATION: seed ${seed}, case ${number} (${kind}): ${violations.join("; ")}`);
  console.log(`  ${file}: xxd -r gives it back; ${disk.size} bytes, sectors of ${disk.sectorSize}`);
}

function run(count: number): void {
  const tallies = Object.fromEntries(
    Object.keys(KINDS).map((kind): [string, Tally] => [
      kind,
      { tables: 0, withPartitions: 0, partitions: 0, violations: 0 },
    ]),
  );
  const most = { reads: 0, bytes: 0, milliseconds: 0 };
  const start = performance.now();
  let nextProgress = start + PROGRESS_MS;
  let violated = 0;
  for (let number = 0; number < count; number++) {
    const table = makeCase(seed, number);
    const outcome = tryTable(table);
    add(tallies[table.kind], outcome);
    most.reads = Math.max(most.reads, outcome.reads);
    most.bytes = Math.max(most.bytes, outcome.bytes);
    most.milliseconds = Math.max(most.milliseconds, outcome.milliseconds);
    if (outcome.violations.length > 0 && violated++ < MOST_SHOWN) {
      complain(number, table.kind, outcome.violations);
    }
    if (number % 64 === 0 && performance.now() > nextProgress) {
      nextProgress = performance.now() + PROGRESS_MS;
      showProgress(number, count, violated);
    }
  }
  progress("");
  const seconds = (performance.now() - start) / 1000;
  printSummary(tallies, most);
  const rate = Math.round(count / seconds);
  console.log(
    `seed ${seed}: ${count} tables in ${
      seconds.toFixed(1)
    } s (${rate}/s), ${violated} in violation`,
  );
  if (options.json !== undefined) {
    const summary = { runtime: RUNTIME, seed, count, seconds, violated, most, kinds: tallies };
    writeFileSync(options.json, JSON.stringify(summary, null, 2) + "\n");
  }
  process.exitCode = violated > 0 ? 1 : 0;
}

function add(tally: Tally, { partitions, violations }: Outcome): void {
  tally.tables++;
  tally.partitions += partitions.length;
  if (partitions.length > 0) tally.withPartitions++;
  if (violations.length > 0) tally.violations++;
}

function printSummary(tallies: Record<string, Tally>, most: Record<string, number>): void {
  const rows = Object.entries(tallies).map(([kind, tally]) => {
    const { tables, withPartitions, partitions, violations } = tally;
    return [kind, ...[tables, withPartitions, partitions, violations].map(String)];
  });
  console.log(table([["kind", "tables", "gave some", "partitions", "violations"], ...rows]));
  console.log(
    `at most ${most.reads} reads (bound ${MOST_READS}), ${most.bytes} bytes (bound ${MOST_BYTES}, ` +
      `${LONGEST_READ} at once) and ${most.milliseconds.toFixed(1)} ms ` +
      `(bound ${MOST_MILLISECONDS}) for a table`,
  );
}
