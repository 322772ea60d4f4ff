/**
 * Grows generated partition tables, and compares each with what sfdisk and sgdisk leave; and cuts each
 * growth at every write, after which sfdisk and our reader must find a whole table.
 *
 *     deno run -A torture/grow_tables.ts --count 10000
 *     deno run -A torture/grow_tables.ts --seed 7 --case 1234
 */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { cutEverywhere, growCase, type Grown } from "../tests/cases/grow_beside.ts";
import { makeGrowthCase, written } from "../tests/cases/growth_cases.ts";
import { Random } from "../tests/cases/random.ts";
import { besideTools, readBySfdisk, writeImage } from "../tests/support/grow_tools.ts";
import { scratch } from "../tests/support/support.ts";
import { progress } from "../dev/terminal.ts";
import { cleanUp, cleanUpWhenInterrupted } from "./cleanup.ts";
import { MOST_SHOWN, parseTableOptions, PROGRESS_MS, showProgress } from "./table_options.ts";

const HELP = `Usage: torture/grow_tables.ts [options]

Grows a partition in each of many generated tables, and compares with sfdisk and sgdisk.
Exits with 1 if anything is wrong with one of them. Fast with TMPDIR=/dev/shm.

      --count N    how many tables (1000000)
      --seed N     gives the same tables again (random)
      --case N     this table of the seed alone
      --json FILE  writes the summary
  -h, --help       this text`;

/** sgdisk takes a second. */
const SGDISK_EVERY = 50;
/** What is free and smaller than this, sfdisk may not use. */
const SFDISK_GRAIN = 2 ** 20;
/** How often each group of writes is cut, each time with other sectors written. */
const CUTS = 3;

const { count, seed, case: only, json } = parseTableOptions(HELP);
console.error(`seed ${seed}`);
cleanUpWhenInterrupted();

/** What sfdisk reads after each group: each partition as before, or as afterwards. */
function bySfdisk({ before, growth: { groups } }: Grown): string[] {
  const read = (n: number) => {
    const path = writeImage(scratch("cut.img"), written(before, groups.slice(0, n)));
    return readBySfdisk(path, before.sectorSize).split("\n");
  };
  const [first, last] = [read(0), read(groups.length)];
  return groups.slice(1).flatMap((_, i) =>
    read(i + 1).flatMap((line, at) =>
      line === first[at] || line === last[at] ? [] : `sfdisk after group ${i + 1}: ${line}`
    )
  );
}

/** What is wrong, and which kind it is; no kind: nothing of it can grow. */
function tryCase(number: number): { kind?: Grown["kind"]; violations: string[] } {
  const plain = growCase(makeGrowthCase(seed, number));
  const strange = growCase(makeGrowthCase(seed, number, true));
  const random = new Random(seed, number);
  const violations = [plain, strange].flatMap((grown) =>
    grown ? cutEverywhere(random, grown, CUTS) : []
  );
  if (!plain) return { violations };
  const { kind, before: { sectorSize } } = plain;
  const withSgdisk = kind === "gpt" && sectorSize === 512 && number % SGDISK_EVERY === 0;
  try {
    const difference = besideTools(plain, withSgdisk);
    if (difference !== "") violations.push(difference);
    violations.push(...bySfdisk(plain));
  } catch (error) {
    const { message } = error as Error;
    const { from, to } = plain.growth.partition;
    const isTooLittle = to - from < SFDISK_GRAIN && /Failed to resize partition/.test(message);
    if (isTooLittle) tally.refused++;
    else violations.push(message);
  }
  return { kind, violations };
}

const tally = { gpt: 0, mbr: 0, refused: 0, violated: 0 };
let next = performance.now() + PROGRESS_MS;
const numbers = only === undefined ? Array.from({ length: count }, (_, i) => i) : [only];
for (const number of numbers) {
  const { kind, violations } = tryCase(number);
  if (kind) tally[kind]++;
  if (violations.length > 0 && tally.violated++ < MOST_SHOWN) {
    console.log(`VIOLATION: seed ${seed}, case ${number}: ${violations.join("; ")}`);
  }
  if (performance.now() < next) continue;
  next += PROGRESS_MS;
  showProgress(number + 1, count, tally.violated);
}
progress("");
console.log(
  `seed ${seed}: ${numbers.length} tables, of which ${tally.gpt} GPTs and ${tally.mbr} MBRs were grown, ` +
    `${tally.refused} of them too little for sfdisk, ${tally.violated} in violation`,
);
if (json !== undefined) {
  writeFileSync(json, JSON.stringify({ seed, count, ...tally }, null, 2) + "\n");
}
cleanUp();
process.exitCode = tally.violated > 0 ? 1 : 0;
