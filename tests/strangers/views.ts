/** What we make of an image, in the same form as what a kernel shows of it. */
import { attach, type AttachOptions, LoopError, readPartitions } from "../../mod.ts";
import type { Seen, Sketch } from "./images.ts";

/** Partitions, or the code of the error that says why there are none. */
export type View = readonly Seen[] | string;

interface Extent {
  readonly number: number;
  readonly start: number;
  readonly size: number;
}

const seen = (partitions: readonly Extent[]): Seen[] =>
  [...partitions].sort((a, b) => a.number - b.number)
    .map(({ number, start, size }) => [number, start, size]);

async function orCode(view: Promise<View>): Promise<View> {
  try {
    return await view;
  } catch (error) {
    if (error instanceof LoopError) return error.code;
    throw error;
  }
}

/** readPartitions() */
export const readView = (file: string, sectorSize: Sketch["sectorSize"]): Promise<View> =>
  orCode(readPartitions(file, { sectorSize }).then(({ partitions }) => seen(partitions)));

/** What attach() gives, before and after rescan(), and what it skipped. */
export interface Attached {
  readonly partitions: View;
  readonly skipped: readonly Seen[];
  readonly rescanned: View;
}

export async function attachedView(file: string, options: AttachOptions): Promise<Attached> {
  let skipped: Seen[] = [];
  let rescanned: View = [];
  const partitions = await orCode((async () => {
    await using loop = await attach(file, options);
    const before = seen(loop.partitions);
    skipped = seen(loop.skipped);
    rescanned = await orCode(loop.rescan().then(() => seen(loop.partitions)));
    return before;
  })());
  return { partitions, skipped, rescanned };
}

/** Partitions and those that were skipped. */
export function together({ partitions, skipped }: Attached): View {
  if (typeof partitions === "string") return partitions;
  return [...partitions, ...skipped].sort(([a], [b]) => a - b);
}
