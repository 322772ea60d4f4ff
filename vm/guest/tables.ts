/**
 * Whole, damaged and hostile partition tables, each read by the kernel and by us: an image in memory,
 * bound in one step so that the kernel scans it, and nothing added by us.
 *
 *     bun vm/guest/tables.ts 500 1
 */
import process from "node:process";
import { attach, LoopError, type SectorSize } from "../../mod.ts";
import type { SparseDisk } from "../../tests/cases/sparse_disk.ts";
import { makeCase } from "../../tests/cases/table_cases.ts";
import { progress, report } from "./report.ts";
import { stopUdevd } from "./udevd.ts";
import { showViews } from "./table_differences.ts";
import {
  compare,
  type Compared,
  detached,
  freeDevice,
  kernelView,
  makeFile,
} from "./table_views.ts";

const count = Number(process.argv[2] ?? 500);
const seed = Number(process.argv[3] ?? 1);
const disk = freeDevice();
const SECTOR = 512;

/** The kernel's view again, after attach() has dealt with what the kernel made of the table. */
async function attachOne(image: SparseDisk): Promise<Compared> {
  const size = image.size - image.size % SECTOR;
  using backing = makeFile(image);
  const sectorSize = image.sectorSize as SectorSize;
  try {
    const path = backing.call((fd) => `/proc/self/fd/${fd}`);
    await using loop = await attach(path, { partscan: true, sectorSize });
    const ours = loop.partitions.map(({ number, start, size }) => ({
      number,
      start: BigInt(start),
      size: BigInt(size),
    }));
    const views = { ours, kernel: kernelView(loop.path.slice("/dev/".length)) };
    const inside = [...views.ours, ...views.kernel].every(({ start, size: length }) =>
      length > 0n && start + length <= BigInt(size)
    );
    return { views, names: inside ? [] : undefined };
  } catch (error) {
    // A GPT of which no header is whole is refused.
    if (!(error instanceof LoopError)) throw error;
    return { views: { ours: [], kernel: [] }, names: [`refused: ${error.code}`] };
  }
}

const OTHERS = "other tables";

/** GPT, MBR, or what else there is. */
function familyOf(kind: string): string {
  if (kind.startsWith("gpt")) return "GPT";
  return kind.startsWith("mbr,") || kind === "mbr" || kind === "noise" ? "MBR" : OTHERS;
}

/** "sun", but not "several tables". */
const isOneKind = (kind: string) => /^[a-z]+$/.test(kind);

class Row {
  tables = 0;
  partitions = 0;
  differing = 0;
  readonly expected: Record<string, number> = {};
  readonly examples: string[] = [];

  add(number: number, kind: string, { views, names }: Compared): void {
    this.tables++;
    this.partitions += views.kernel.length;
    for (const name of names ?? []) this.expected[name] = (this.expected[name] ?? 0) + 1;
    if (names !== undefined) return;
    this.differing++;
    if (this.examples.length < 10) {
      this.examples.push(`case ${number} (${kind}): ${showViews(views)}`);
    }
  }
}

using _ = stopUdevd();
await detached(disk);
const rows = new Map<string, Row>();
const others: {
  row: Row;
  number: number;
  kind: string;
  compared: Compared;
}[] = [];
const attached = new Row();
const start = Date.now();
for (let number = 0, done = 0; done < count; number++) {
  const { kind, disk: image } = makeCase(seed, number);
  if (image.size < SECTOR) continue;
  const name = `${familyOf(kind)}, ${image.sectorSize}-byte sectors`;
  const row = rows.get(name) ?? new Row();
  rows.set(name, row);
  const compared = compare(disk, image);
  if (name.startsWith(OTHERS)) others.push({ row, number, kind, compared });
  else row.add(number, kind, compared);
  await detached(disk);
  // Where the kernel sees it otherwise, and here and there.
  if ((compared.names?.length || number % 7 === 0) && image.size >= image.sectorSize) {
    attached.add(number, kind, await attachOne(image));
    await detached(disk);
  }
  progress(++done, count);
}
// Which kinds a kernel reads was decided when it was built: cloud kernels read GPT and MBR alone.
const built = new Set(
  others.filter(({ compared: { views } }) => views.kernel.length > 0).map(({ kind }) => kind)
    .filter(isOneKind),
);
for (const { row, number, kind, compared: { views, names } } of others) {
  const isMissing = built.size === 0 || isOneKind(kind) && !built.has(kind);
  row.add(number, kind, {
    views,
    names: names ?? (isMissing ? ["no parser built in"] : undefined),
  });
}
rows.set("attach() keeps within the device", attached);
for (const [name, { tables, partitions, differing, expected, examples }] of rows) {
  report({
    event: "result",
    case: `${name}, seed ${seed}`,
    cycles: tables,
    adds: partitions,
    removes: partitions,
    spurious: 0,
    flickered: 0,
    missing: differing,
    differing,
    expected,
    examples: examples.join("; "),
    milliseconds: Date.now() - start,
  });
}
