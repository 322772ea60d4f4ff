/** cli.ts beside the machine's losetup, on many command lines. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { report } from "../mod.ts";
import { Beside, cliDevices, env, IS_238, OURS } from "./support/cli_beside.ts";
import { LINES } from "./cases/cli_cases.ts";
import { DIFFERENCES } from "./cases/cli_differences.ts";
import { randomCases } from "./cases/cli_random.ts";
import { type Case, MANGLED, type STATES } from "./cases/cli_states.ts";
import { output, run, scratch, shareOf, test, testsOf } from "./support/support.ts";

const withLosetup = testsOf("cli.ts does what losetup does", ["losetup"]);

/** So many at a time, that a test's time is enough on a busy machine. */
const GROUP = 40;
const BY_HAND = Object.entries(LINES).flatMap(([state, lines]) =>
  lines.trim().split(/\n */).map((line): Case => ({ state: state as keyof typeof STATES, line }))
);
const RANDOM = randomCases(240);

for (const [what, cases] of Object.entries({ "by hand": BY_HAND, "at random": RANDOM })) {
  for (let first = 0; first < cases.length; first += GROUP) {
    const group = cases.slice(first, first + GROUP);
    const numbers = `${first + 1} to ${first + group.length}`;
    withLosetup(`cli.ts does what losetup does, of command lines ${numbers} ${what}`, [
      "root",
      "losetup",
      "sfdisk",
      "unshare",
    ], async () => {
      const { parsers } = await report();
      await using devices = cliDevices();
      await new Beside(devices, parsers.gpt).compare(shareOf(group));
    });
  }
}

test("cli.ts is compared with losetup on more than 400 command lines", [], () => {
  assert(BY_HAND.length + RANDOM.length >= 400);
  const lines = BY_HAND.map(({ line }) => line);
  assertEquals(DIFFERENCES.flatMap(({ lines }) => lines).filter((l) => !lines.includes(l)), []);
  assertEquals(new Set(RANDOM.map(({ line }) => line)).size, RANDOM.length);
});

withLosetup("cli.ts fills a terminal as losetup does, and sends no control characters to it", [
  "root",
  "losetup",
], async () => {
  const folder = scratch("");
  const long = "a-rather-long-name-".repeat(4) + ".img";
  for (const name of [MANGLED, long]) output(["truncate", "-s", "1M", scratch(name)]);
  await using devices = cliDevices();
  const { D, E } = devices;
  output(["losetup", D, MANGLED], { cwd: folder });
  output(["losetup", E, long], { cwd: folder });
  // Where a line is too long 2.38 takes from NAME too, which 2.40 leaves alone.
  for (const columns of IS_238 ? [250] : [50, 90, 160, 250]) {
    for (const options of ["-l", "-lO BACK-FILE,NAME", "-lO NAME,BACK-FILE"]) {
      const on = (tool: string[]) => {
        const command = `stty cols ${columns}; ${tool.join(" ")} ${options} -j`;
        const both = [MANGLED, long].map((name) =>
          output(["script", "-qec", `${command} "$NAME"`, "/dev/null"], {
            cwd: folder,
            env: { ...env, NAME: name },
          })
        );
        return both.join("");
      };
      assertEquals(on(OURS), on(["losetup"]), `${columns} ${options}`);
    }
  }
  // The name in a line, and in an error.
  const commands = `${OURS.join(" ")} ${D}; ${OURS.join(" ")} "$NAME"`;
  const { stdout: typed } = run(["script", "-qec", commands, "/dev/null"], {
    env: { ...env, NAME: MANGLED },
  });
  assert(!typed.includes("\x1b") && !typed.includes("\t"), typed);
  assertStringIncludes(typed, "c\\x1b[31m ü");
});
