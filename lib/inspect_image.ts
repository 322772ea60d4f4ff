/**
 * What an image's table says before the bind, of the device that is to be: its sector size, and
 * whether it can be shown at all.
 *
 * @module
 */
import { type BackingFile, deviceSize, partSize } from "./binding/backing_file.ts";
import type { LoopFacts } from "./binding/facts.ts";
import type { OpenFile } from "./kernel/file.ts";
import { findInPart, type Part, readTableIn, refuseUnreadable } from "./binding/image_table.ts";
import type { CheckedOptions } from "./binding/options.ts";
import type { FoundTable, TablePartition } from "./table/disk.ts";
import { DEFAULT_SECTOR_SIZE, findTableSteps } from "./table/sector_size.ts";
import { keepingFirst, type Steps } from "./table/steps.ts";
import { findWrapper, type Wrapper } from "./superblocks/wrappers.ts";

/** A table, and the device that it was read for; bytes. */
export interface SeenTable {
  readonly table: FoundTable;
  readonly size: number;
  readonly sectorSize: number;
  readonly part: Part;
  /** What the file may be instead of a disk, if the table does not say that it is one. */
  readonly wrapper: Wrapper | undefined;
}

/**
 * Reads the table if sector size or partitions depend on it. `sectorSize`: the one to attach with;
 * undefined: the kernel's default.
 */
export async function inspectImage(
  { file, size: fileSize }: BackingFile,
  asked: CheckedOptions,
): Promise<{ sectorSize?: number; seen?: SeenTable }> {
  const { sectorSize, partscan, offset, signal } = asked;
  if (partscan === false && sectorSize !== "auto") return { sectorSize };
  const size = deviceSize(fileSize, asked);
  const whole = partSize(fileSize, asked);
  const { table, wrapper } = await findInPart(
    file,
    { offset, size: whole, signal },
    keepingFirst(look({ ...asked, size, whole, sectorSize: sectorSize ?? DEFAULT_SECTOR_SIZE })),
  );
  const found = table.header ? table.sectorSize : undefined;
  const settled = sectorSize === "auto" ? found : sectorSize;
  // With direct I/O the kernel's default is that of the disk below: nobody knows before the bind.
  if (settled === undefined && asked.directIo) return {};
  const part = { file, offset, sizelimit: asked.sizelimit };
  const seen = { table, size, sectorSize: settled ?? DEFAULT_SECTOR_SIZE, part, wrapper };
  return { sectorSize: settled, seen };
}

/** `whole`: with the part of a sector at the end that the device does not show. */
function* look({ size, whole, sectorSize, partscan }: {
  readonly size: number;
  readonly whole: number;
  readonly sectorSize: number | "auto";
  readonly partscan: CheckedOptions["partscan"];
}): Steps<Pick<SeenTable, "table" | "wrapper">> {
  const table = yield* findTableSteps(size, sectorSize);
  const isBare = table.kind === "none" && table.unreadable === undefined;
  return { table, wrapper: partscan && isBare ? yield* findWrapper(whole) : undefined };
}

/** Throws if the device that is to be would look empty and is not. */
export function refuseSeen({ table, sectorSize, part }: Omit<SeenTable, "wrapper">): void {
  refuseUnreadable(table, { path: part.file.path, sectorSize, call: "attach", part });
}

/**
 * The partitions of a device that was bound: those that were seen, if it is the device that was to
 * be and the kernel has not scanned it later than that. From the file: reading the device would need
 * a turn of its own worker for each page.
 */
export async function partitionsOf(
  backing: OpenFile,
  { size, sectorSize, offset, sizelimit }: LoopFacts,
  seen: SeenTable | undefined,
  signal?: AbortSignal,
): Promise<readonly TablePartition[]> {
  const table = seen?.size === size && seen.sectorSize === sectorSize
    ? seen.table
    : await readTableIn(backing, { size, sectorSize, offset, signal });
  refuseSeen({ table, size, sectorSize, part: { file: backing, offset, sizelimit } });
  return table.partitions;
}
