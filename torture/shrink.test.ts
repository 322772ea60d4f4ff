/** What torture's failures are reduced by. */
import { assertEquals } from "@std/assert";
import { shrink, simplify } from "./shrink.ts";
import { test } from "../tests/support/support.ts";

test("shrink() leaves just what the failure needs, wherever that stands", [], async () => {
  const all = Array.from({ length: 20 }, (_, i) => i);
  for (const needed of [[0], [19], [3, 4], [0, 19], [2, 7, 8, 15]]) {
    let asked = 0;
    const fails = (list: readonly number[]) => {
      asked++;
      return Promise.resolve(needed.every((one) => list.includes(one)));
    };
    assertEquals(await shrink(all, fails), needed);
    assertEquals(asked < 150, true, `${asked} attempts`);
  }
});

test("simplify() takes the first simpler element with which it still fails", [], async () => {
  const fails = (list: readonly string[]) => Promise.resolve(list.join("").includes("b"));
  assertEquals(await simplify(["ab", "ab"], (one) => [one[0], one[1]], fails), ["a", "b"]);
});
