/**
 * Whole, damaged and hostile partition tables, each read by the kernel and by us: an image in memory,
 * bound in one step so that the kernel scans it, and nothing added by us.
 *
 *     bun tests/vm/guest/tables.ts 500 1
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { blkGetSize64, blkSszGet } from "../../../lib/blkpg.ts";
import { memoryFile, O_RDONLY, open, readAt, writeAt } from "../../../lib/file.ts";
import { LO_FLAGS_AUTOCLEAR, LO_FLAGS_PARTSCAN, loopConfigure } from "../../../lib/loop.ts";
import type { SparseDisk } from "../../../torture/sparse_disk.ts";
import { makeCase } from "../../../torture/table_cases.ts";
import { progress, report } from "./report.ts";
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

/** Both views of an image, and the differences between them. */
async function compare(image: SparseDisk): Promise<{ views: Views; names?: string[] }> {
  // The kernel counts in units of 512 bytes, and knows nothing of the rest.
  const size = image.size - image.size % SECTOR;
  using backing = memoryFile("table", size);
  for (const { offset, bytes } of image.written()) {
    writeAt(backing, offset, bytes.subarray(0, Math.max(0, size - offset)));
  }
  using device = open(`/dev/${disk}`, O_RDONLY);
  await loopConfigure(device, {
    fd: backing.fd,
    block_size: image.sectorSize,
    info: { lo_flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN },
  });
  const bound = {
    size: blkGetSize64(device),
    sectorSize: blkSszGet(device),
    read: (offset: number, length: number) => readAt(device, offset, length),
  };
  if (bound.size !== size || bound.sectorSize !== image.sectorSize) {
    throw new Error(`bound ${size} bytes, got ${bound.size} in sectors of ${bound.sectorSize}`);
  }
  const views = { ours: ourView(bound), kernel: kernelView() };
  return { views, names: explain(views, bound) };
}

/** udevd would open the device in between, and at times hold a partition while it is removed. */
function stopUdevd(): Disposable {
  const { status } = spawnSync("udevadm", ["control", "--exit"]);
  return {
    [Symbol.dispose]() {
      if (status !== 0) return;
      const paths = ["/lib/systemd/systemd-udevd", "/usr/lib/systemd/systemd-udevd"];
      spawnSync(paths.find(existsSync)!, ["--daemon"]);
    },
  };
}

class Row {
  tables = 0;
  partitions = 0;
  differing = 0;
  readonly expected: Record<string, number> = {};
  readonly examples: string[] = [];

  add(number: number, kind: string, { views, names }: Awaited<ReturnType<typeof compare>>): void {
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
const start = Date.now();
for (let number = 0, done = 0; done < count; number++) {
  const { kind, disk: image } = makeCase(seed, number);
  if (image.size < SECTOR) continue;
  const name = `${kind.startsWith("gpt") ? "GPT" : "MBR"}, ${image.sectorSize}-byte sectors`;
  const row = rows.get(name) ?? new Row();
  rows.set(name, row);
  row.add(number, kind, await compare(image));
  await detached();
  progress(++done, count);
}
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
