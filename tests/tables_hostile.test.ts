/** Tables that are made to take long: the event loop goes on, a signal stops it, and there is an end. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { setImmediate } from "node:timers";
import { attach, readPartitions } from "../mod.ts";
import { SECTOR_SIZES } from "../lib/table/sectors.ts";
import { encodeHeader } from "./cases/gpt.ts";
import { findTableSteps } from "../lib/table/sector_size.ts";
import { runSteps } from "../lib/table/steps.ts";
import { putRecord, sound, writeChain } from "./cases/mbr_cases.ts";
import { SparseDisk } from "./cases/sparse_disk.ts";
import {
  assertDetached,
  makeImage,
  output,
  scratch,
  test,
  testsOf,
  THREE_PARTITIONS,
} from "./support/support.ts";
import { traced } from "./support/traced.ts";

const MIB = 2 ** 20;

/** 251 logical partitions, and before each of them as many empty records as the kernel follows. */
function longestChain(): SparseDisk {
  const records = 251 * 100;
  const disk = new SparseDisk((2 * records + 20) * 512, 512);
  return writeChain(disk, sound(records, (i) => i % 100 === 99));
}

/** A primary header for sectors of each size, and to each an array of 4 MiB with a right checksum. */
function largestArrays(): SparseDisk {
  const disk = new SparseDisk(64 * MIB, 512);
  putRecord(disk, 0, [{ type: 0xee, start: 1, count: 9 }]);
  const entries = new Uint8Array(4 * MIB);
  for (const [i, sectorSize] of SECTOR_SIZES.entries()) {
    const lastLba = BigInt(disk.size / sectorSize - 1);
    const header = encodeHeader({
      my_lba: 1n,
      alternate_lba: lastLba,
      first_usable_lba: 1n,
      last_usable_lba: lastLba,
      partition_entry_lba: BigInt((8 + 8 * i) * MIB / sectorSize),
    }, entries);
    disk.write(sectorSize, header);
  }
  return disk;
}

function write(disk: SparseDisk): string {
  const path = scratch("hostile.img");
  const fd = openSync(path, "w");
  ftruncateSync(fd, disk.size);
  for (const { offset, bytes } of disk.written()) writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
  return path;
}

/** How often the event loop turned until the promise was settled, whichever way. */
async function turnsOf(promise: Promise<unknown>): Promise<number> {
  let [turns, isDone] = [0, false];
  const done = promise.then(() => isDone = true, () => isDone = true);
  const count = () => {
    if (isDone) return;
    turns++;
    setImmediate(count);
  };
  setImmediate(count);
  await done;
  return turns;
}

/** What is read from a disk, and how often a reader pauses. */
function costOf(disk: SparseDisk) {
  const cost = { reads: 0, bytes: 0, steps: 0, longest: 0 };
  const steps = findTableSteps(disk.size, "auto");
  const counted = (function* () {
    for (let step = steps.next(); !step.done;) {
      cost.steps++;
      step = steps.next(yield step.value);
    }
  })();
  runSteps(counted, (offset, length) => {
    cost.reads++;
    cost.bytes += length;
    cost.longest = Math.max(cost.longest, length);
    return disk.read(offset, length);
  });
  return cost;
}

test("a chain of 25,100 boot records is read record by record, and no further", [], () => {
  const { reads, bytes } = costOf(longestChain());
  // The first ones are in the disk's beginning, which is read once.
  assert(reads > 25_000 && reads <= 1 + 251 * 100, `${reads} reads`);
  assert(bytes <= 24 * 1024 + 512 * 251 * 100, `${bytes} bytes`);
});

test("GPTs of all sector sizes are read piece by piece, 4 MiB of entries each at most", [], () => {
  const { bytes, steps, longest } = costOf(largestArrays());
  assertEquals(longest, 4 * MIB);
  // Each array once to find the headers, and once more for what confirms one of them.
  assert(bytes <= 8 * (4 * MIB + 4096) + 24 * 1024 + 8192, `${bytes} bytes`);
  assert(steps >= bytes / (64 * 1024) - 16, `${steps} steps for ${bytes} bytes`);
});

const HOSTILE = { "boot records": longestChain, "entry arrays": largestArrays };

for (const [name, make] of Object.entries(HOSTILE)) {
  test(`the event loop turns while readPartitions() reads many ${name}`, [], async () => {
    const file = write(make());
    // After 64 steps at the latest; a step of arrays is 64 KiB.
    const least = name === "boot records" ? 25_000 / 64 / 2 : 4;
    const turns = await turnsOf(readPartitions(file));
    assert(turns >= least, `${turns} turns, ${least} expected`);
  });

  test(`a signal stops the reading of many ${name}`, ["root"], async () => {
    const file = write(make());
    const attempts = [
      (signal: AbortSignal) => readPartitions(file, { signal }),
      (signal: AbortSignal) => attach(file, { signal, partscan: "userspace" }),
    ];
    for (const attempt of attempts) {
      const controller = new AbortController();
      const reason = new Error("enough");
      // In the first turn: the reading takes many more.
      setImmediate(() => controller.abort(reason));
      assertEquals(await assertRejects(() => attempt(controller.signal)), reason);
      assertDetached(file);
    }
  });
}

test(
  "readPartitions() rejects with the reason of a signal that is aborted already",
  [],
  async () => {
    const signal = AbortSignal.abort("too late");
    const rejected = await readPartitions("/no/such.img", { signal }).catch((reason) => reason);
    assertEquals(rejected, "too late");
    const wrong = { signal: "soon" } as unknown as { signal: AbortSignal };
    await assertRejects(() => readPartitions("x.img", wrong), TypeError, "signal must be");
  },
);

const withStrace = testsOf("a table on a slow disk is read by another thread", ["strace"]);

withStrace("a table that is not in memory is read by another thread, one that is by the main one", [
  "root",
], () => {
  const file = makeImage("cold.img", 8, THREE_PARTITIONS);
  const whoReads = () => {
    const options = JSON.stringify({ partscan: "userspace" });
    const body = `const loop = await attach(${JSON.stringify(file)}, ${options});
      await loop.detach();`;
    const { calls } = traced(body, { calls: "openat,pread64", names: true });
    return calls.filter(({ text }) => /pread64.*cold\.img/.test(text))
      .map(({ isMain }) => isMain ? "main" : "other");
  };
  // What is on a tmpfs is in memory.
  const isTmpfs = output(["stat", "-f", "-c", "%T", file]).trim() === "tmpfs";
  // dd drops what the kernel has of a file in memory.
  const forget = ["dd", "if=/dev/null", `of=${file}`, "oflag=nocache", "count=0"];
  output([...forget, "conv=notrunc,fdatasync"]);
  if (!isTmpfs) assertEquals(whoReads(), ["other"]);
  assertEquals(whoReads(), ["main"]);
});
