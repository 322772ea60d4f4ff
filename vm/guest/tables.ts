/**
 * Whole, damaged and hostile partition tables, each read by the kernel and by us: an image in memory,
 * bound in one step so that the kernel scans it, and nothing added by us.
 *
 *     bun vm/guest/tables.ts 500 1
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { blkGetSize64, blkSszGet } from "../../lib/kernel/block.ts";
import {
  memoryFile,
  O_RDONLY,
  open,
  type OpenFile,
  readAt,
  writeAt,
} from "../../lib/kernel/file.ts";
import { LO_FLAGS_AUTOCLEAR, LO_FLAGS_PARTSCAN, loopConfigure } from "../../lib/kernel/loop.ts";
import { attach, LoopError, type SectorSize } from "../../mod.ts";
import type { SparseDisk } from "../../tests/cases/sparse_disk.ts";
import { makeCase } from "../../tests/cases/table_cases.ts";
import { progress, report } from "./report.ts";
import { stopUdevd } from "./udevd.ts";
import { explain, type Extent, ourView, showViews, type Views } from "./table_differences.ts";

const count = Number(process.argv[2] ?? 500);
const seed = Number(process.argv[3] ?? 1);
const disk = "loop0";
const sys = `/sys/block/${disk}`;
const SECTOR = 512;
const DEADLINE_MS = 10_000;

/** The partitions that the kernel has, by their numbers. */
function kernelView(): Extent[] {
  return readdirSync(sys).filter((name) => name.startsWith(`${disk}p`)).map((name) => {
    const read = (attribute: string) => readFileSync(`${sys}/${name}/${attribute}`, "utf8").trim();
    return {
      number: Number(read("partition")),
      start: BigInt(read("start")) * BigInt(SECTOR),
      size: BigInt(read("size")) * BigInt(SECTOR),
    };
  }).sort((a, b) => a.number - b.number);
}

async function detached(): Promise<void> {
  for (const end = Date.now() + DEADLINE_MS; existsSync(`${sys}/loop`);) {
    if (Date.now() > end) throw new Error(`${disk} is still bound`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

function makeFile(image: SparseDisk, size: number): OpenFile {
  const file = memoryFile("table", size);
  for (const { offset, bytes } of image.written()) {
    writeAt(file, offset, bytes.subarray(0, Math.max(0, size - offset)));
  }
  return file;
}

/** Around a part of a sector at a device's end nothing can be read: the kernel's scan passes over it. */
function readOrNothing(device: OpenFile, offset: number, length: number): Uint8Array {
  try {
    return readAt(device, offset, length);
  } catch (error) {
    if (error instanceof LoopError && error.code === "EIO") return new Uint8Array();
    throw error;
  }
}

/** Both views of an image, and the differences between them. */
function compare(image: SparseDisk): { views: Views; names?: string[] } {
  // The kernel counts in units of 512 bytes, and knows nothing of the rest.
  const size = image.size - image.size % SECTOR;
  using backing = makeFile(image, size);
  using device = open(`/dev/${disk}`, O_RDONLY);
  loopConfigure(device, backing, {
    block_size: image.sectorSize,
    info: { lo_flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN },
  });
  const bound = {
    size: blkGetSize64(device),
    sectorSize: blkSszGet(device),
    read: (offset: number, length: number) => readOrNothing(device, offset, length),
  };
  if (bound.size !== size || bound.sectorSize !== image.sectorSize) {
    throw new Error(`bound ${size} bytes, got ${bound.size} in sectors of ${bound.sectorSize}`);
  }
  const views = { ours: ourView(bound), kernel: kernelView() };
  return { views, names: explain(views, bound) };
}

/** The kernel's view again, after attach() has dealt with what the kernel made of the table. */
async function attachOne(image: SparseDisk): Promise<{ views: Views; names?: string[] }> {
  const size = image.size - image.size % SECTOR;
  using backing = makeFile(image, size);
  const sectorSize = image.sectorSize as SectorSize;
  try {
    const path = backing.call((fd) => `/proc/self/fd/${fd}`);
    await using loop = await attach(path, { partscan: true, sectorSize });
    const ours = loop.partitions.map(({ number, start, size }) => ({
      number,
      start: BigInt(start),
      size: BigInt(size),
    }));
    const views = { ours, kernel: kernelView() };
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

  add(number: number, kind: string, { views, names }: ReturnType<typeof compare>): void {
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
await detached();
const rows = new Map<string, Row>();
const others: {
  row: Row;
  number: number;
  kind: string;
  compared: ReturnType<typeof compare>;
}[] = [];
const attached = new Row();
const start = Date.now();
for (let number = 0, done = 0; done < count; number++) {
  const { kind, disk: image } = makeCase(seed, number);
  if (image.size < SECTOR) continue;
  const name = `${familyOf(kind)}, ${image.sectorSize}-byte sectors`;
  const row = rows.get(name) ?? new Row();
  rows.set(name, row);
  const compared = compare(image);
  if (name.startsWith(OTHERS)) others.push({ row, number, kind, compared });
  else row.add(number, kind, compared);
  await detached();
  // Where the kernel sees it otherwise, and here and there.
  if ((compared.names?.length || number % 7 === 0) && image.size >= image.sectorSize) {
    attached.add(number, kind, await attachOne(image));
    await detached();
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
