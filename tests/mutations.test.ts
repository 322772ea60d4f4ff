/** The torture test's mutations are changes of the source as it is now. */
import { assertEquals } from "@std/assert";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MUTATIONS } from "../torture/mutations.ts";
import { ROOT, test } from "./support.ts";

test("each line that a mutation changes stands in its file once", [], () => {
  for (const { name, replacements } of MUTATIONS) {
    for (const { file, from } of replacements) {
      const times = readFileSync(join(ROOT, file), "utf8").split(from).length - 1;
      assertEquals(times, 1, `${name}: ${JSON.stringify(from)} in ${file}`);
    }
  }
});
