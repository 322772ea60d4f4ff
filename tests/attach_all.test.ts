/** attachAll(): many at once, all or nothing. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { writeFileSync } from "node:fs";
import { attachAll, LoopError } from "../mod.ts";
import {
  leftAttached,
  makeImage,
  openDescriptors,
  scratch,
  test,
  THREE_PARTITIONS,
} from "./support/support.ts";

const images = (count: number) =>
  Array.from({ length: count }, (_, index) => {
    const path = makeImage(`many-${index}.img`, 1);
    writeFileSync(path, new Uint8Array(4096).fill(index + 1));
    return path;
  });

test("attachAll() gives a device for each file in their order, and detaches them all", [
  "root",
], async () => {
  const files = images(40);
  const seen: number[] = [];
  {
    await using loops = await attachAll(files, {
      partscan: true,
      workaround: "always",
      onProgress: ({ attached, total, device }) => {
        assertEquals([total, device.strategy], [40, "two-step"]);
        seen.push(attached);
      },
    });
    assertEquals(loops.map(({ backingFile }) => backingFile), files);
    assertEquals(new Set(loops.map(({ path }) => path)).size, 40);
    assertEquals(seen, Array.from({ length: 40 }, (_, index) => index + 1));
  }
  assertEquals([openDescriptors(), files.flatMap(leftAttached)], [[], []]);
});

test("attachAll() makes partitions ready, two files at a time", ["root"], async () => {
  const files = ["a.img", "b.img", "c.img"].map((name) => makeImage(name, 8, THREE_PARTITIONS));
  await using loops = await attachAll(files, { partscan: true, concurrency: 2 });
  assertEquals(loops.map(({ partitions }) => partitions.length), [3, 3, 3]);
});

test("attachAll() leaves nothing when one fails, and says which", ["root"], async () => {
  const files = [...images(10), scratch("missing.img"), ...images(3)];
  for (const concurrency of [1, 4, 100]) {
    const error = await assertRejects(() => attachAll(files, { concurrency }), LoopError);
    assertEquals([error.code, error.path], ["ENOENT", scratch("missing.img")]);
    assertEquals([openDescriptors(), files.slice(0, 10).flatMap(leftAttached)], [[], []]);
  }
});

test("attachAll() leaves nothing when it is aborted", ["root"], async () => {
  const files = images(20);
  const controller = new AbortController();
  const reason = new Error("enough");
  const onProgress = () => controller.abort(reason);
  const { signal } = controller;
  const error = await assertRejects(() => attachAll(files, { signal, onProgress, concurrency: 4 }));
  assertEquals(error, reason);
  assertEquals([openDescriptors(), files.flatMap(leftAttached)], [[], []]);
});

test(
  "attachAll() of nothing is nothing; a caller's mistake is told before anything",
  [],
  async () => {
    assertEquals((await attachAll([])).length, 0);
    await assertRejects(() => attachAll(["x.img"], { concurrency: 0 }), RangeError, "concurrency");
    await assertRejects(() => attachAll(["x.img"], { number: 1 } as object), TypeError, "number");
    const error = await assertRejects(() => attachAll(["x.img"], { offset: -1 }));
    assert(error instanceof RangeError);
  },
);
