/**
 * A partition table read at one go.
 *
 * @module
 */
import type { FoundTable, Image } from "../../lib/table/disk.ts";
import type { GptHeader } from "../../lib/table/gpt.ts";
import { tableSteps } from "../../lib/table/partition_table.ts";
import { runSteps, wanted } from "../../lib/table/steps.ts";

export interface Disk extends Image {
  readonly sectorSize: number;
}

export function readPartitionTable(disk: Disk, header?: GptHeader): FoundTable {
  const { size, sectorSize } = disk;
  const steps = tableSteps({ size, sectorSize, read: wanted }, header);
  return runSteps(steps, (offset, length) => disk.read(offset, length));
}
