import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type Heard, ofUse, Tally } from "../tools/race_check/partition_events.ts";
import { drawSvg, drawText, spans, type Timeline } from "../tools/race_check/timeline.ts";
import {
  bound,
  onThisRuntime,
  output,
  ROOT,
  run,
  scratch,
  test,
  until,
  withoutCapability,
  withStaticDev,
} from "./support/support.ts";

const RACE_CHECK = join(ROOT, "tools/race_check/race_check.ts");
const OPENER = join(ROOT, "tools/race_check/opener.ts");

/** p1 flickers once; p2 comes later and stays. */
const FLICKER: Timeline = {
  title: "Linux <6> & one-step",
  events: [
    { at: 2, partition: 1, action: "add" },
    { at: 4, partition: 1, action: "remove" },
    { at: 5, partition: 2, action: "add" },
    { at: 7, partition: 1, action: "add" },
  ],
  end: 10,
};

/** The image that race_check.ts says it works on. Another one may run beside it, with its own. */
function imageOf(printed: string): string | undefined {
  return /^image: {5}(\/tmp\/loopdev-race-check-[0-9a-f]{8}\.img)$/m.exec(printed)?.[1];
}

/** The image and its device, as far as they are still there. */
function leftovers(image: string): string[] {
  const images = [image].filter((path) => existsSync(path));
  return [...images, ...bound((path) => path.startsWith(image))];
}

/** Each tag that opens is closed, in the right order. Enough for a document of ours. */
function assertWellFormed(xml: string): void {
  const open: string[] = [];
  for (const [, closes, name, rest] of xml.matchAll(/<(\/?)([a-z]+)((?:"[^"]*"|[^">])*)>/g)) {
    if (closes) assertEquals(name, open.pop());
    else if (!rest.endsWith("/")) open.push(name);
  }
  assertEquals(open, []);
  assertEquals(xml.replaceAll(/<(?:"[^"]*"|[^">])*>/g, "").match(/[<>]|&(?!#\d+;)/), null);
}

test("spans() tells dead from not yet there and from gone", [], () => {
  const gone = { ...FLICKER, events: [{ at: 1, partition: 3, action: "add" as const }] };
  gone.events.push({ at: 6, partition: 3, action: "remove" as never });
  assertEquals(spans(gone).get(3), [
    { state: "absent", from: 0, to: 1 },
    { state: "plugged", from: 1, to: 6 },
    { state: "absent", from: 6, to: 10 },
  ]);
  assertEquals(
    spans(FLICKER).get(1)!.map(({ state }) => state),
    ["absent", "plugged", "dead", "plugged"],
  );
});

test("drawText() draws a flicker to scale", [], () => {
  assertEquals(
    drawText(FLICKER, 20).split("\n"),
    [
      "Linux <6> & one-step",
      "",
      "    0   2   4   6   8  10 ms",
      "    ┬───┬───┬───┬───┬──┬",
      "p1  ····▔▔▔▔______▔▔▔▔▔▔  dead 3.00 ms",
      "p2  ··········▔▔▔▔▔▔▔▔▔▔",
      "",
      "    · not there    ▔ plugged    _ dead",
    ],
  );
});

test("drawText() shows the shortest gap, wherever it is", [], () => {
  for (const at of [0, 0.001, 500, 999, 999.9999]) {
    const events = (["add", "remove", "add"] as const).map((action, i) => ({
      at: at + i / 1e6,
      partition: 1,
      action,
    }));
    const line = drawText({ title: "", events, end: 1000 }, 40).split("\n")[4];
    assertMatch(line, /^p1 {2}·*▔+_+▔+ {2}dead < 0\.01 ms$/);
    assertEquals(line.indexOf("  dead"), 44);
  }
});

test("drawSvg() is well-formed, has a title and says what it shows", [], () => {
  const svg = drawSvg(FLICKER);
  assertWellFormed(svg);
  assertStringIncludes(svg, '<title id="title">Linux &#60;6&#62; &#38; one-step</title>');
  assertStringIncludes(svg, "p1: plugged, dead 3.00 ms, plugged. p2: plugged.</desc>");
  assertEquals(svg.match(/class="dead"/g)?.length, 1);
});

test("Tally counts what is beyond one add and one remove of each partition", [], () => {
  const events = (...actions: [string, number | undefined][]): Heard[] =>
    actions.map(([action, partition], i) => ({
      disk: "loop0",
      action,
      partition,
      use: "7",
      at: i,
      name: "",
    }));
  const tally = new Tally();
  const attach = events(["change", undefined], ["add", 1], ["add", 2]);
  tally.add(2, attach, events(["remove", 1], ["remove", 2]));
  assertEquals([tally.flickered, tally.spurious, tally.missing], [0, 0, 0]);
  assertEquals(tally.picture?.cycle, 1);

  const flicker = [...attach, ...events(["remove", 1], ["add", 1]).map((e) => ({ ...e, at: 9 }))];
  tally.add(2, flicker, events(["remove", 1], ["remove", 2]));
  assertEquals([tally.flickered, tally.spurious, tally.missing], [1, 2, 0]);
  assertEquals(tally.picture?.cycle, 2);
  assertEquals(tally.picture?.events[0], { at: 1, partition: 1, action: "add" });

  tally.add(2, events(["add", 1], ["add", 3]), events(["remove", 1]));
  assertEquals([tally.cycles, tally.flickered, tally.spurious, tally.missing], [3, 2, 3, 2]);
});

test("ofUse() leaves the events of a process out that has the device next", [], () => {
  const heard = (action: string, partition: number | undefined, use?: string): Heard => ({
    ...{ disk: "loop0", action, partition, use, at: 0, name: undefined },
  });
  const ours = [heard("change", undefined, "7"), heard("add", 1, "7"), heard("remove", 1, "8")];
  const theirs = [heard("add", 1, "9"), heard("add", 2, "9"), heard("remove", 1, "9")];
  const left = [heard("remove", 2, "10"), heard("remove", 2, "7")];
  assertEquals([...ours, ...theirs, ...left].filter(ofUse(7)), [...ours, left[1]]);
  // Before Linux 5.15.
  const unnumbered = [heard("add", 1), heard("remove", 1)];
  assertEquals(unnumbered.filter(ofUse(undefined)), unnumbered);
});

test(
  "race_check.ts counts cycles, says what they mean and draws them",
  ["quiet", "root"],
  async () => {
    const svg = scratch("flicker.svg");
    const printed = output(onThisRuntime(RACE_CHECK, "--cycles", "4", "--svg", svg), { cwd: ROOT });
    assertMatch(printed, /^kernel: {4}\S+, (affected|free) by its release, \w+ by the probe$/m);
    assertMatch(printed, /^parsers: {3}(the|this) kernel /m);
    assertMatch(printed, /^one-step: \d of 4 cycles flickered/m);
    assertMatch(printed, /^loopdev: {2}0 of 4 cycles flickered, strategy (one|two)-step$/m);
    assertMatch(printed, /^p1 {2}·*▔.*\np2 {2}·*▔/m);
    assertWellFormed(readFileSync(svg, "utf8"));
    // Whoever looks at all devices just then has the last close.
    await until(() => leftovers(imageOf(printed)!).length === 0, "all of it to go");
  },
);

test("race_check.ts gives the same as JSON, without the opener too", ["quiet", "root"], () => {
  const printed = output(
    onThisRuntime(RACE_CHECK, "--cycles=3", "--json", "--no-opener"),
    { cwd: ROOT },
  );
  const { loopdev, oneStep, opener, clean, timeline } = JSON.parse(printed);
  assertEquals(loopdev, { cycles: 3, flickered: 0, spurious: 0, missing: 0 });
  assertEquals([oneStep.cycles, opener, clean], [3, false, true]);
  assert(timeline.events.length >= 2);
});

test(
  "race_check.ts needs --allow-ffi and its own tree on Deno",
  ["root", "deno"],
  () => {
    const args = ["run", "--no-prompt", "--no-lock", "--allow-ffi", "--allow-read=."];
    const svg = scratch("deno.svg");
    output(["deno", ...args, "tools/race_check/race_check.ts", "--cycles=1", "--svg", svg], {
      cwd: ROOT,
    });
    assertWellFormed(readFileSync(svg, "utf8"));
  },
);

test("race_check.ts says what is wrong in one line", ["root"], () => {
  const control = "mknod -m 600 /dev/loop-control c 10 237 && chown 1 /dev/loop-control";
  const nobody = withoutCapability("all");
  const cases: [command: string[], message: RegExp][] = [
    [
      [...withStaticDev(control), ...nobody, ...onThisRuntime(RACE_CHECK)],
      /^race_check: EACCES: .* \(attaching loop devices needs root; .*\)\n$/,
    ],
    [onThisRuntime(RACE_CHECK, "--cycles=0"), /^race_check: --cycles takes a number from 1 on/],
    [onThisRuntime(RACE_CHECK, "-x"), /^race_check: unknown option '-x'; try --help\n$/],
    [onThisRuntime(RACE_CHECK, "--svg=/no/file"), /^race_check: ENOENT: .*'\/no\/file'\n$/],
  ];
  for (const [command, message] of cases) {
    const { status, stdout, stderr } = run(command, { cwd: ROOT });
    assertEquals([status, stdout], [1, ""]);
    assertMatch(stderr, message);
  }
  assertStringIncludes(output(onThisRuntime(RACE_CHECK, "--help")), "Usage: race_check.ts");
});

test(
  "race_check.ts leaves nothing behind when it is interrupted",
  ["root"],
  async () => {
    for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
      const [name, ...args] = onThisRuntime(RACE_CHECK, "--cycles=10000");
      const child = spawn(name, args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
      let printed = "";
      child.stdout.on("data", (data) => printed += data);
      const ended = new Promise((resolve) => child.on("exit", (code, by) => resolve(by ?? code)));
      await until(() => imageOf(printed) !== undefined, "race_check.ts to name its image");
      const image = imageOf(printed)!;
      await until(() => leftovers(image).length === 2, "race_check.ts to attach");
      process.kill(child.pid!, signal);
      assertEquals(await ended, code);
      assertEquals(existsSync(image), false);
      await until(() => leftovers(image).length === 0, "the device to be detached");
    }
  },
);

test("opener.ts refuses what is no loop device", [], () => {
  for (const args of [[], ["sda"], ["/etc/passwd"], ["loop0", "hammer"]]) {
    const { status, stderr } = run(onThisRuntime(OPENER, ...args));
    assertEquals(status, 1);
    assertMatch(stderr, /^Usage: opener\.ts DISK/);
  }
});
