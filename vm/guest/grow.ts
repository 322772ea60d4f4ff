/**
 * Grows file systems that are mounted and written to, and has them checked; and has the kernel read the
 * tables of growths that were cut at each of their writes.
 *
 *     bun vm/guest/grow.ts 40
 */
import { spawnSync } from "node:child_process";
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync } from "node:fs";
import { rmSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import process from "node:process";
import { attach } from "../../mod.ts";
import { writeTable } from "../../tests/cases/disk_image.ts";
import { extentsOn, growCase } from "../../tests/cases/grow_beside.ts";
import { cutDuring, makeGrowthCase } from "../../tests/cases/growth_cases.ts";
import { Random } from "../../tests/cases/random.ts";
import type { SparseDisk } from "../../tests/cases/sparse_disk.ts";
import { UeventSocket } from "../../tools/race_check/uevents.ts";
import { PartitionCounter } from "./cycles.ts";
import { progress, report } from "./report.ts";
import { detached, freeDevice, kernelView, whileScanned } from "./table_views.ts";
import { stopUdevd } from "./udevd.ts";

const count = Number(process.argv[2] ?? 40);
const MIB = 2 ** 20;
const TOOLS = "/tmp/tools";

mkdirSync(TOOLS, { recursive: true });
spawnSync("tar", ["-C", TOOLS, "-xf", "/guest/grow_tools.tar"]);
for (const name of readdirSync("/guest/modules").toSorted()) {
  spawnSync("insmod", [`/guest/modules/${name}`]);
}

/** Runs one of this machine's programs, by their own loader and libraries. */
function tool(name: string, ...args: string[]): { status: number | null; said: string } {
  const folders = ["lib", "usr/lib"].map((each) => `${TOOLS}/${each}/x86_64-linux-gnu`);
  const path = ["usr/sbin", "usr/bin", "sbin", "bin"].map((each) => `${TOOLS}/${each}/${name}`)
    .find((path) => spawnSync("test", ["-e", path]).status === 0)!;
  const loader = `${TOOLS}/lib64/ld-linux-x86-64.so.2`;
  const { status, stdout, stderr } = spawnSync(
    loader,
    ["--library-path", folders.join(":"), path, ...args],
    { encoding: "utf8" },
  );
  return { status, said: `${stdout}${stderr}`.trim().split("\n").slice(-3).join(" | ") };
}

/** A file system: its size, how it is made, and what checks it without changing anything. */
const FILE_SYSTEMS = [
  { type: "ext4", mib: 24, make: ["mkfs.ext4", "-q"], check: ["e2fsck", "-fn"] },
  { type: "xfs", mib: 310, make: ["mkfs.xfs", "-q"], check: ["xfs_repair", "-n"] },
  { type: "btrfs", mib: 130, make: ["mkfs.btrfs", "-q"], check: ["btrfs", "check"] },
] as const;

/** Appends lines, each of which reaches the disk, until it is told to stop. */
async function write(path: string, isOver: () => boolean): Promise<number> {
  const fd = openSync(path, "w");
  let lines = 0;
  while (!isOver()) {
    writeSync(fd, `${lines++} ${"x".repeat(500)}\n`);
    if (lines % 8 === 0) fsyncSync(fd);
    await new Promise((resolve) => setTimeout(resolve));
  }
  closeSync(fd);
  return lines;
}

async function growMounted({ type, mib, make, check }: typeof FILE_SYSTEMS[number]) {
  const image = `/tmp/${type}.img`;
  writeFileSync(image, "");
  truncateSync(image, mib * MIB);
  writeTable(image, "label: gpt\nsize=1MiB\nsize=1MiB\n3: name=last\n");
  using socket = new UeventSocket();
  const counter = new PartitionCounter(socket, 3);
  const loop = await attach(image, { partscan: true });
  const { path } = loop.partitions[2];
  const made = tool(make[0], ...make.slice(1), path);
  if (made.status !== 0) throw new Error(`${make[0]}: ${made.said}`);
  const root = await loop.mount({ name: "last" });
  let isOver = false;
  const writing = write(await root.resolve("written"), () => isOver);
  const milliseconds: number[] = [];
  let [grown, reason]: [boolean, string | undefined] = [true, undefined];
  for (const times of [2, 4]) {
    const begin = performance.now();
    const growth = await loop.grow({ name: "last" }, { size: times * mib * MIB });
    milliseconds.push(Math.round(performance.now() - begin));
    const { from = 0, to = 0 } = growth.fileSystem ?? {};
    grown &&= to > from && growth.partition!.to - to < MIB * 16;
    reason ??= growth.fileSystem?.reason;
  }
  isOver = true;
  const lines = await writing;
  const isWhole =
    readFileSync(await root.resolve("written"), "utf8").split("\n").length === lines + 1;
  const unmounted = await root.unmount();
  counter.quiet(100);
  const early = counter.early;
  const checked = tool(check[0], ...check.slice(1), path);
  const detached = await loop.detach({ timeout: 10_000 });
  rmSync(image);
  report({
    event: "result",
    case: `${type}, mounted and written to`,
    kind: "grow",
    grown,
    reason,
    lines,
    lost: isWhole ? 0 : 1,
    spurious: early,
    damaged: checked.status === 0 ? 0 : 1,
    said: checked.status === 0 ? "" : checked.said,
    left: Number(unmounted !== "unmounted") + Number(detached !== "detached"),
    milliseconds,
  });
}

const disk = freeDevice();

/** The partitions that the kernel finds by itself, with their starts and sizes. */
const kernelFinds = (image: SparseDisk): string[] =>
  whileScanned(disk, image, () => kernelView(disk))
    .map(({ number, start, size }) => `${number}: ${start}, ${size}`);

const viewOf = (image: SparseDisk): string[] =>
  [...extentsOn(image)].map(([number, [start, size]]) => `${number}: ${start}, ${size}`);

/** The kernel reads the table from before or the one from after, whatever was written of a group. */
async function cutTables(seed: number): Promise<void> {
  let [cuts, differing] = [0, 0];
  const examples: string[] = [];
  for (let number = 0; number < count; number++) {
    const grown = growCase(makeGrowthCase(seed, number));
    progress(number + 1, count);
    if (!grown) continue;
    const { before, after, growth: { groups } } = grown;
    const allowed = new Set([...viewOf(before), ...viewOf(after)]);
    const expected = extentsOn(before).size;
    for (let n = 0; n < groups.length; n++) {
      const cut = cutDuring(new Random(seed, 1000 * number + n), before, groups, n);
      const view = kernelFinds(cut);
      await detached(disk);
      cuts++;
      if (view.length === expected && view.every((line) => allowed.has(line))) continue;
      differing++;
      if (examples.length < 5) examples.push(`case ${number}, group ${n}: ${view.join("; ")}`);
    }
  }
  report({
    event: "result",
    case: `tables, cut at each write, seed ${seed}`,
    kind: "cut",
    cycles: cuts,
    differing,
    examples: examples.join(" | "),
  });
}

for (const row of FILE_SYSTEMS) await growMounted(row);
using _ = stopUdevd();
await detached(disk);
await cutTables(24);
