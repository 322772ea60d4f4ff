/**
 * A growth in memory, by the steps that grow() makes, and what must hold of it.
 *
 * @module
 */
import { growTable } from "../../lib/table/growth_writer.ts";
import { isRefused, type Refusal, type TableGrowth } from "../../lib/table/growth.ts";
import { runSteps, wanted } from "../../lib/table/steps.ts";
import { cutDuring, type GrowthCase, resized, written } from "./growth_cases.ts";
import type { Random } from "./random.ts";
import { readPartitionTable } from "./read_table.ts";
import type { SparseDisk } from "./sparse_disk.ts";

/** What grows a partition of a disk, which shall have `size` bytes. */
export function growthOf(
  disk: SparseDisk,
  size: number,
  number?: number,
): TableGrowth | Refusal {
  const whole = { size: disk.size, sectorSize: disk.sectorSize, read: wanted };
  const steps = growTable(whole, readPartitionTable(disk), size, number);
  return runSteps(steps, (offset, length) => disk.read(offset, length));
}

/** A case, and what is done about it. */
export interface Grown extends GrowthCase {
  readonly growth: TableGrowth;
  /** As long as it shall be, with nothing written yet. */
  readonly before: SparseDisk;
  readonly after: SparseDisk;
}

/** undefined: nothing of it can grow. */
export function growCase({ disk, size, kind }: GrowthCase): Grown | undefined {
  const growth = growthOf(disk, size);
  if (isRefused(growth)) return undefined;
  const before = resized(disk, size);
  return { disk, size, kind, growth, before, after: written(before, growth.groups) };
}

/** The extents of the partitions that a disk has, without the extended ones, which are shown short. */
export function extentsOn(disk: SparseDisk): Map<number, readonly [start: number, size: number]> {
  const { partitions } = readPartitionTable(disk);
  return new Map(partitions.map(({ number, start, size }) => [number, [start, size]]));
}

/**
 * What is wrong with a table in the middle of a growth: it must be the one from before, or the one from
 * after. Of a GPT the primary header must be valid, since the kernel reads no other one.
 */
export function faultOf({ growth, before }: Grown, disk: SparseDisk): string | undefined {
  const { kind, header } = readPartitionTable(disk);
  if (kind !== growth.kind) return `it is of kind ${kind}`;
  if (kind === "gpt" && header !== "primary") return `its header is the ${header}`;
  const { number, from, to } = growth.partition;
  const [was, is] = [extentsOn(before), extentsOn(disk)];
  if (was.size !== is.size) return `it has ${is.size} partitions, not ${was.size}`;
  for (const [each, [start, size]] of was) {
    const found = is.get(each);
    const sizes = each === number && size === from ? [from, to] : [size];
    if (found?.[0] === start && sizes.includes(found[1])) continue;
    return `partition ${each} is ${found}, and was ${start},${size}`;
  }
}

/** Cuts the growth in each of its groups, `times` times, and gives what is wrong afterwards. */
export function cutEverywhere(random: Random, grown: Grown, times: number): string[] {
  const { before, growth: { groups } } = grown;
  return groups.flatMap((_, n) =>
    Array.from({ length: times }, () => {
      const cut = cutDuring(random, before, groups, n);
      const fault = faultOf(grown, cut);
      return fault === undefined ? finish(grown, cut, n) : `cut in group ${n}: ${fault}`;
    }).filter((fault) => fault !== undefined)
  );
}

/** Growing again after a cut ends as one that was not cut. */
function finish({ after, growth, size }: Grown, cut: SparseDisk, n: number): string | undefined {
  const again = growthOf(cut, size, growth.partition.number);
  if (isRefused(again)) return `after a cut in group ${n} it cannot grow again: ${again.why}`;
  const [is, wanted] = [written(cut, again.groups), after].map((disk) =>
    JSON.stringify([
      ...extentsOn(disk),
    ])
  );
  if (is !== wanted) return `grown again after a cut in group ${n} it is ${is}, not ${wanted}`;
  return finishLarger(cut, growth.partition.number, size, n);
}

/** On a disk that has got longer once more: what the primary may point to lies in the middle of it. */
function finishLarger(
  cut: SparseDisk,
  number: number,
  size: number,
  n: number,
): string | undefined {
  const before = resized(cut, size + 512 * cut.sectorSize);
  const growth = growthOf(before, before.size, number);
  if (isRefused(growth)) return `a larger disk is refused after a cut in group ${n}: ${growth.why}`;
  const larger = { kind: growth.kind, disk: cut, size: before.size, growth, before, after: before };
  for (let done = 0; done <= growth.groups.length; done++) {
    const fault = faultOf(larger, written(before, growth.groups.slice(0, done)));
    if (fault !== undefined) return `on a larger disk, cut in group ${n} and ${done}: ${fault}`;
  }
}
