/** What a guest gets. */
import { assert, assertEquals } from "@std/assert";
import { filesImported, filesIn } from "../tests/support/imports.ts";
import { test } from "../tests/support/support.ts";
import { PROJECT } from "./initramfs.ts";

test("all that a guest's programs import goes to the guest", [], () => {
  const reached = new Set<string>();
  const reach = (file: string) => {
    if (reached.has(file)) return;
    reached.add(file);
    filesImported(file).forEach(reach);
  };
  filesIn("vm/guest").forEach(reach);
  assert(reached.size > 50);
  const goes = (file: string) => PROJECT.includes(file) || PROJECT.includes(file.split("/")[0]);
  assertEquals([...reached].filter((file) => !goes(file)), []);
});
