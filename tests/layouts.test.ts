/** mountImage() on images laid out as those that people use; vm/guest/layouts.ts is its twin in a VM. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { LoopError, mountImage } from "../mod.ts";
import { LAYOUTS } from "./cases/layouts.ts";
import { faultsOf } from "./support/image_tree.ts";
import { makeLayout, needsOf } from "./support/layout_images.ts";
import { losetup, scratch, test } from "./support/support.ts";

const digest = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");

/** Whether this kernel has the driver; it may have loaded it when it was asked for it. */
function mountable(type: string): boolean {
  return readFileSync("/proc/filesystems", "utf8").split("\n")
    .some((line) => line.split("\t")[1] === type);
}

for (const row of LAYOUTS) {
  const { name, of, root, candidates = [] } = row;
  test(`mountImage() mounts ${of} (${name})`, ["root", ...needsOf(row)], async () => {
    const file = scratch(`${name}.img`);
    makeLayout(name, file);
    const before = digest(file);
    if (candidates.length > 0) {
      const { message } = await assertRejects(
        () => mountImage(file, { readOnly: true }),
        LoopError,
      );
      assertStringIncludes(message, `the partitions ${candidates.join(" and ")} `);
    }
    try {
      await using image = await mountImage(file, { readOnly: true, root });
      assertEquals(faultsOf(row, image, mountable), []);
    } catch (error) {
      // Without the driver of its root nothing is left to see.
      assert(!mountable(row.mounts[0].type), `${error}`);
    }
    assertEquals(losetup(file), []);
    assertEquals(digest(file), before, "a read-only image was changed");
  });
}
