/**
 * Growing a partition in the table of a disk, whose kind the reader of tables has found.
 *
 * @module
 */
import type { PartitionTable } from "./disk.ts";
import { growGpt } from "./gpt_growth.ts";
import type { Refusal, TableGrowth } from "./growth.ts";
import { growMbr } from "./mbr_growth.ts";
import type { SteppedDisk, Steps } from "./steps.ts";

/** What is done about a GPT whose primary is damaged. */
const REPAIR =
  "only the backup of its GPT is whole, and the kernel does not read that: repair the table " +
  "(sgdisk -e writes both again, once gdisk has loaded the backup)";

/**
 * What to write so that partition `number` of `table` grows as far as it can, by default the last one on
 * the disk, which has `disk.size` bytes and shall have `size`.
 */
export function* growTable(
  { size: whole, sectorSize, read }: SteppedDisk,
  { kind, header }: Pick<PartitionTable, "kind" | "header">,
  size: number,
  number?: number,
): Steps<TableGrowth | Refusal> {
  const disk = { size: whole - whole % sectorSize, sectorSize, read };
  if (kind === "mbr") return yield* growMbr(disk, size, number);
  if (kind === "gpt" && header === "primary") return yield* growGpt(disk, size, number);
  if (kind === "gpt") return { code: "EUCLEAN", why: REPAIR };
  const why = `its partition table is of kind "${kind}": only a GPT and an MBR can be grown`;
  return { code: "EOPNOTSUPP", why };
}
