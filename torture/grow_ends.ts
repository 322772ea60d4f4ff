/** The image that scenario "grow" grows, and what must hold of its table however the growth ends. */
import { rmSync, truncateSync, writeFileSync } from "node:fs";
import { growImage, readPartitions } from "../mod.ts";
import { writeTable } from "../tests/cases/disk_image.ts";
import { readBySfdisk } from "../tests/support/grow_tools.ts";
import { run, THREE_PARTITIONS } from "../tests/support/support.ts";

const MIB = 2 ** 20;
const SMALL_SIZE = 8 * MIB;
export const GROWN_SIZE = 16 * MIB;

/** A new image with three partitions. */
export function makeSmall(path: string): void {
  rmSync(path, { force: true });
  writeFileSync(path, "");
  truncateSync(path, SMALL_SIZE);
  writeTable(path, THREE_PARTITIONS);
}

const lines = (partitions: readonly { number: number; start: number; size: number }[]) =>
  partitions.map(({ number, start, size }) => `${number}: ${start}, ${size}`);

/**
 * What is wrong with a table, in words: it must be the one from before or the one from afterwards, for
 * sfdisk and for us, with a valid primary, and another growth must end it.
 */
export async function damageOfTable(path: string): Promise<string[]> {
  const wrong: string[] = [];
  const { header, partitions } = await readPartitions(path);
  const [one, two, last] = lines(partitions);
  if (header !== "primary") wrong.push(`its header is the ${header}`);
  if (readBySfdisk(path, 512) !== [one, two, last].join("\n")) {
    wrong.push("sfdisk reads another table");
  }
  const { partition } = await growImage(path, { size: GROWN_SIZE });
  const { to = 0, start } = partition!;
  const begin = `3: ${start}, `;
  const { partitions: [, , grown] } = await readPartitions(path);
  if (grown?.size !== to || to < GROWN_SIZE - 5 * MIB) wrong.push(`it has grown to ${grown?.size}`);
  if (![`${begin}${to}`, `${begin}${3 * MIB}`].includes(last)) wrong.push(`partition ${last}`);
  if (one !== `1: ${MIB}, ${MIB}` || two !== `2: ${2 * MIB}, ${2 * MIB}`) {
    wrong.push(`${one}; ${two}`);
  }
  const { stdout, stderr } = run(["sfdisk", "--verify", path]);
  if (!/No errors detected/.test(stdout)) wrong.push(`sfdisk --verify: ${stdout} ${stderr}`);
  return wrong;
}
