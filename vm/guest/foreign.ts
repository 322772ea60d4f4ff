/**
 * The tables of other systems, beside a kernel that reads them itself (Debian's generic flavour): what we
 * read is what the kernel shows, attach() leaves that as it is, and rescan() removes none of it. Beside it,
 * on how many of them `partx --update` does not leave what the kernel shows.
 *
 *     bun vm/guest/foreign.ts 12 1
 */
import { spawnSync } from "node:child_process";
import process from "node:process";
import { attach, LoopError, readPartitions, type SectorSize } from "../../mod.ts";
import { LABEL_KINDS } from "../../tests/cases/label_cases.ts";
import { Random } from "../../tests/cases/random.ts";
import type { SparseDisk } from "../../tests/cases/sparse_disk.ts";
import { UeventSocket } from "../../tools/race_check/uevents.ts";
import { PartitionCounter } from "./cycles.ts";
import { progress, report } from "./report.ts";
import { type Extent, showViews } from "./table_differences.ts";
import {
  compare,
  detached,
  freeDevice,
  kernelView,
  makeFile,
  whileScanned,
} from "./table_views.ts";
import { stopUdevd } from "./udevd.ts";

const count = Number(process.argv[2] ?? 12);
const seed = Number(process.argv[3] ?? 1);
const disk = freeDevice();

const text = (extents: readonly Extent[]) =>
  extents.map(({ number, start, size }) => `${number}@${start}+${size}`).join(" ");

/** The end of the device, in whole sectors: beyond it attach() leaves nothing. */
const inside = (extents: readonly Extent[], { size, sectorSize }: SparseDisk) =>
  extents.every((extent) =>
    extent.start + extent.size <= BigInt(size - size % sectorSize) && extent.size > 0n
  );

/** What readPartitions() gives of the file, which has no device. */
async function readFile(image: SparseDisk): Promise<string> {
  using file = makeFile(image);
  const path = file.call((fd) => `/proc/self/fd/${fd}`);
  const sectorSize = image.sectorSize as SectorSize;
  try {
    return text((await readPartitions(path, { sectorSize })).partitions as unknown as Extent[]);
  } catch (error) {
    if (error instanceof LoopError) return error.code;
    throw error;
  }
}

/** What is there after attach(), and after rescan(); and how many partitions rescan() removed. */
async function attachFile(image: SparseDisk): Promise<{ attached: string; removed: number }> {
  using socket = new UeventSocket();
  using file = makeFile(image);
  const path = file.call((fd) => `/proc/self/fd/${fd}`);
  await using loop = await attach(path, {
    ...{ partscan: true, sectorSize: image.sectorSize as SectorSize, readOnly: true },
  });
  const name = loop.path.slice("/dev/".length);
  const attached = text(kernelView(name));
  const counter = new PartitionCounter(socket, loop.partitions.length);
  counter.quiet(5);
  const before = counter.early;
  await loop.rescan();
  counter.quiet(5);
  const isSame = text(kernelView(name)) === attached;
  return { attached, removed: counter.early - before + Number(!isSame) };
}

/** Whether partx leaves what the kernel has found. */
const isLeftByPartx = (image: SparseDisk) =>
  whileScanned(disk, image, () => {
    const before = text(kernelView(disk));
    spawnSync("partx", ["--update", `/dev/${disk}`]);
    return text(kernelView(disk)) === before;
  });

class Row {
  tables = 0;
  partitions = 0;
  /** readPartitions() or attach() beside the kernel; rescan(). */
  differing = 0;
  removed = 0;
  changedByPartx = 0;
  readonly expected: Record<string, number> = {};
  readonly examples: string[] = [];

  blame(number: number, what: string): void {
    this.differing++;
    if (this.examples.length < 3) this.examples.push(`${number}: ${what}`);
  }
}

async function look(row: Row, number: number, image: SparseDisk): Promise<void> {
  const { views, names } = compare(disk, image);
  await detached(disk);
  row.tables++;
  row.partitions += views.kernel.length;
  if (names === undefined) return row.blame(number, showViews(views));
  for (const name of names) row.expected[name] = (row.expected[name] ?? 0) + 1;
  const ours = text(views.ours);
  const read = await readFile(image);
  // A GPT of which no header is whole, for one, is refused; the kernel then shows nothing of it.
  if (read !== ours && views.kernel.length > 0) row.blame(number, `readPartitions() gives ${read}`);
  if (!/^E[A-Z]/.test(read)) {
    const { attached, removed } = await attachFile(image);
    // What attach() skips, or cuts to the device's end, has a difference's name.
    const isKept = attached === text(views.kernel) || names.length > 0;
    if (!isKept && inside(views.kernel, image)) row.blame(number, `attach() leaves ${attached}`);
    row.removed += removed;
  }
  await detached(disk);
  if (!isLeftByPartx(image)) row.changedByPartx++;
  await detached(disk);
}

using _ = stopUdevd();
await detached(disk);
const kinds = Object.entries(LABEL_KINDS);
const start = Date.now();
let changed = 0;
let tables = 0;
for (const [done, [kind, make]] of kinds.entries()) {
  const row = new Row();
  for (let number = 0; number < count; number++) {
    await look(row, number, make(new Random(seed, number)));
    progress(done * count + number + 1, kinds.length * count);
  }
  changed += row.changedByPartx;
  tables += row.tables;
  const { partitions, differing, removed, expected, examples } = row;
  report({
    ...{ event: "result", case: kind, seed, kind: "foreign", cycles: row.tables },
    ...{ adds: partitions, differing, removed, expected, examples: examples.join("; ") },
    changedByPartx: row.changedByPartx,
  });
}
report({
  ...{ event: "result", case: "partx --update", kind: "control", cycles: tables },
  ...{ shown: changed > 0, seen: `${changed} of ${tables} tables changed`, faults: [] },
  milliseconds: Date.now() - start,
});
