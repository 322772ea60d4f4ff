/** The torture test's mutations are changes of the source as it is now. */
import { assertEquals } from "@std/assert";
import { MUTATIONS } from "./mutations.ts";
import { PLANTED } from "./planted_bugs.ts";
import { timesIn } from "./replace.ts";
import { ROOT, test } from "../tests/support/support.ts";

test("each line that a mutation changes stands in its file once", [], () => {
  for (const { name, replacements } of [...MUTATIONS, ...PLANTED]) {
    for (const replacement of replacements) {
      const { file, from } = replacement;
      assertEquals(timesIn(ROOT, replacement), 1, `${name}: ${JSON.stringify(from)} in ${file}`);
    }
  }
});
