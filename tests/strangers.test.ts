/**
 * Images that others made by their tools (strangers/make.ts): what we make of each, beside what a kernel
 * with all of Debian's parsers was seen to show (strangers/kernel.json; `deno task vm --step strangers`
 * looks again, and at attach() where the kernel scans).
 */
import { assert, assertEquals } from "@std/assert";
import { readdirSync, statSync } from "node:fs";
import { blkpgAddPartition } from "../lib/kernel/block.ts";
import { isRefusal } from "../lib/base/errors.ts";
import { O_RDONLY, open } from "../lib/kernel/file.ts";
import { attach, type LoopDevice } from "../mod.ts";
import { draw, RECORDED, type Sketch, SKETCHES } from "./strangers/images.ts";
import { DIFFERENT, kernelsOf, oursOf } from "./strangers/ours.ts";
import { attachedView, readView, together } from "./strangers/views.ts";
import { scratch, test } from "./support/support.ts";

function drawn(sketch: Sketch): string {
  const file = scratch("stranger.img");
  draw(sketch, file);
  return file;
}

test("the images of strangers are more than fifty, and each was seen by a kernel", [], () => {
  assert(SKETCHES.length > 50);
  const names = SKETCHES.map(({ name }) => name);
  assertEquals(Object.keys(RECORDED.partitions), names);
  assertEquals(new Set(names).size, names.length);
  for (const name of Object.keys(DIFFERENT)) assert(names.includes(name), name);
  // Both kinds of rows are there: full ones, and those without a table.
  const full = names.filter((name) => kernelsOf(name).length > 0);
  assert(full.length > 40 && full.length < names.length - 10, `${full.length}`);
});

test("readPartitions() gives what the kernel shows, or says why not", [], async () => {
  for (const sketch of SKETCHES) {
    const view = await readView(drawn(sketch), sketch.sectorSize);
    assertEquals(view, oursOf(sketch.name), sketch.name);
  }
});

for (const partscan of [true, "userspace"] as const) {
  test(`attach() with partscan ${partscan} gives the same, and rescan() changes nothing`, [
    "root",
  ], async () => {
    for (const sketch of SKETCHES) {
      const { name, sectorSize } = sketch;
      const view = await attachedView(drawn(sketch), { partscan, sectorSize, readOnly: true });
      assertEquals(together(view), oursOf(name), name);
      const after = typeof view.partitions === "string" ? [] : view.partitions;
      assertEquals(view.rescanned, after, name);
    }
  });
}

/** Which partitions the kernel has, so that one that went and came again is another. */
function identities({ path }: LoopDevice): string[] {
  const disk = path.slice("/dev/".length);
  return readdirSync(`/sys/block/${disk}`).filter((name) => name.startsWith(`${disk}p`))
    .map((name) => `${name.slice(disk.length)} ${statSync(`/sys/block/${disk}/${name}`).ino}`);
}

test("rescan() leaves all that the kernel shows, whether we can read the table or not", [
  "root",
], async () => {
  let touched = 0;
  for (const sketch of SKETCHES) {
    const { name, sectorSize } = sketch;
    await using loop = await attach(drawn(sketch), { sectorSize, readOnly: true });
    {
      using device = open(loop.path, O_RDONLY);
      for (const [number, start, size] of kernelsOf(name)) {
        try {
          blkpgAddPartition(device, { number, start, size });
        } catch (error) {
          // The kernel's own scan takes overlapping ones.
          if (!isRefusal(error, "EBUSY")) throw error;
        }
      }
    }
    const before = identities(loop);
    await loop.rescan().catch((error) => {
      assertEquals(error.code, oursOf(name), name);
    });
    const after = identities(loop);
    assertEquals(before.filter((one) => !after.includes(one)), [], name);
    touched += before.length;
  }
  assert(touched > 100, `${touched} partitions`);
});
