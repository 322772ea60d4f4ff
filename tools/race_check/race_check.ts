/**
 * Shows whether partitions flicker on this machine: attaches an image again and again, in one step as
 * everything else does and then as loopdev does, and counts how often each partition came and went.
 *
 *     bun tools/race_check/race_check.ts
 *     deno run --allow-ffi --allow-read=. tools/race_check/race_check.ts --svg flicker.svg
 *
 * It touches only devices that it attached itself. (Deno wants to read the code of its threads.)
 */
import process from "node:process";
import {
  attach,
  isAffected,
  type LoopDevice,
  LoopError,
  probePartscanRace,
  type Strategy,
} from "../../mod.ts";
import { makeImage, type PartitionSpec } from "../../examples/image.ts";
import { ifExists, O_CREAT, O_RDWR, open, unlink, writeAt } from "../../lib/kernel/file.ts";
import { kernelRelease } from "../../lib/kernel/release.ts";
import { isThere } from "../../lib/kernel/stat.ts";
import { sysfsDiskseq } from "../../lib/kernel/sysfs.ts";
import { OPENER_KINDS, startOpener } from "./opener.ts";
import { Listener, ofUse, Tally } from "./partition_events.ts";
import { parseOptions, print, runMain } from "../../examples/program.ts";
import { drawSvg, drawText, type Timeline } from "./timeline.ts";

const HELP = `Usage: race_check.ts [options]

Attaches a small image in one step, as losetup -P does, and as loopdev does, while another thread
opens the device at the worst moments; counts the partitions' add and remove events, and draws one
flicker. Needs root. Exit code 0 if loopdev is clean, 1 otherwise.

      --cycles N   how often each attaches and detaches (100)
      --svg FILE   writes the picture as SVG, too
      --json       prints the result as JSON
      --no-opener  leaves opening to what this machine runs: udevd, above all
  -h, --help       this text`;

function parse(args: string[]) {
  const { values: { cycles = "100", svg, json, "no-opener": noOpener, help }, operands: [other] } =
    parseOptions(args, {
      "cycles": { type: "string" },
      "svg": { type: "string" },
      "json": { type: "boolean" },
      "no-opener": { type: "boolean" },
      "help": { type: "boolean", short: "h" },
    });
  if (other !== undefined) throw new Error(`'${other}' is one too many; try --help`);
  if (!/^[1-9]\d{0,5}$/.test(cycles)) {
    throw new Error(`--cycles takes a number from 1 on, not '${cycles}'`);
  }
  if (svg === "") throw new Error("--svg takes a file");
  return { cycles: Number(cycles), svg, json, opener: !noOpener, help };
}

const LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4";
const PARTITIONS: PartitionSpec[] = ["one", "two"].map((name) => ({
  name,
  type: LINUX,
  mib: 1,
  content: name,
}));
/** Without an event for that long nobody is still busy with the device, udevd included. */
const QUIET_MS = 40;
const REMOVAL_MS = 5000;
const O_TRUNC = 0o1000;

const WAYS = { oneStep: { workaround: "never" }, loopdev: { workaround: "auto" } } as const;
type Way = keyof typeof WAYS;
const NAMES: Record<Way, string> = { oneStep: "one-step", loopdev: "loopdev" };

interface Measured extends Record<Way, Tally> {
  strategy: Strategy;
  /** Whether the kernel finds partitions by itself. */
  parsers: boolean;
}

async function measure(
  image: string,
  cycles: number,
  hostile: boolean,
  stop: AbortSignal,
): Promise<Measured> {
  using _ = { [Symbol.dispose]: () => ifExists(() => unlink(image)) };
  makeImage(image, PARTITIONS);
  await using listener = new Listener();
  await using opener = hostile ? await startOpener() : null;
  const measured: Measured = {
    oneStep: new Tally(),
    loopdev: new Tally(),
    strategy: "none",
    parsers: false,
  };

  let wanted: number | undefined;

  /** Resolves to false if another process took the device first: then nothing is counted. */
  async function cycle(way: Way, turn: number): Promise<boolean> {
    stop.throwIfAborted();
    // The opener must be at it before the device is bound, so we say which one it shall be.
    const number = wanted ??= await freeDevice(image);
    await listener.follow(`loop${number}`);
    await opener?.open(number, OPENER_KINDS[turn % OPENER_KINDS.length]);
    let loop: LoopDevice;
    try {
      loop = await attach(image, { partscan: true, number, ...WAYS[way], signal: stop });
    } catch (error) {
      await opener?.rest();
      if (!(error instanceof LoopError) || error.code !== "EBUSY") throw error;
      wanted = undefined;
      return false;
    }
    try {
      if (way === "loopdev") measured.strategy = loop.strategy;
      const isOurs = ofUse(sysfsDiskseq(number));
      const attaching = await listener.hearUntilQuiet(QUIET_MS);
      await opener?.rest();
      await loop.detach();
      // If udevd has the device open, it is its close that removes the partitions, a bit later.
      await untilBare(number, stop);
      const detaching = await listener.hear();
      measured[way].add(PARTITIONS.length, attaching.filter(isOurs), detaching.filter(isOurs));
      // The kernel's GPT parser knows names; BLKPG, with which loopdev adds the rest, does not.
      measured.parsers ||= attaching.some(({ name }) => name !== undefined);
      return true;
    } finally {
      await opener?.rest();
      await loop.detach();
    }
  }

  const bar = new ProgressBar(2 * cycles);
  try {
    // By turns, so that both meet the same weather.
    for (let turn = 0; turn < cycles; turn++) {
      for (const way of ["oneStep", "loopdev"] as const) {
        while (!await cycle(way, turn));
        bar.advance(`flickered: one-step ${measured.oneStep.flickered}, \
loopdev ${measured.loopdev.flickered}`);
      }
    }
  } finally {
    bar.clear();
  }
  if (measured.loopdev.missing === 4 * cycles) {
    throw new Error("no uevent of the partitions came through (a container?): cannot count them");
  }
  return measured;
}

/** The number of a device that was free a moment ago. */
async function freeDevice(image: string): Promise<number> {
  await using loop = await attach(image);
  return loop.number;
}

/** Until the device has no partition any more, as long as that can take. */
async function untilBare(number: number, stop: AbortSignal): Promise<void> {
  const disk = `/sys/block/loop${number}`;
  const deadline = performance.now() + REMOVAL_MS;
  const isLeft = (_: unknown, i: number) => isThere(`${disk}/loop${number}p${i + 1}`);
  while (PARTITIONS.some(isLeft) && performance.now() < deadline) {
    stop.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** On stderr, if somebody looks. */
class ProgressBar {
  #done = 0;
  readonly total: number;

  constructor(total: number) {
    this.total = total;
  }

  advance(text: string): void {
    const filled = Math.round(++this.#done / this.total * 30);
    this.#write(`\r${"█".repeat(filled)}${"░".repeat(30 - filled)} ${text}\x1b[K`);
  }

  clear(): void {
    this.#write("\r\x1b[K");
  }

  #write(text: string): void {
    if (process.stderr.isTTY) process.stderr.write(text);
  }
}

/** One flicker, the longest; without any, loopdev's attach. */
function picture({ oneStep, loopdev }: Measured, release: string): Timeline {
  const way = oneStep.flickered > 0 ? "oneStep" : "loopdev";
  const { flickered, picture } = way === "oneStep" ? oneStep : loopdev;
  const events = picture?.events ?? [];
  const what = flickered > 0
    ? `the longest of ${flickered} flicker${flickered > 1 ? "s" : ""}`
    : "no flicker";
  return {
    title: `Linux ${release}, ${NAMES[way]}, cycle ${picture?.cycle}: ${what}`,
    events,
    end: Math.max(1, 1.3 * (events.at(-1)?.at ?? 0)),
  };
}

interface Verdicts {
  release: string;
  gate: "affected" | "free";
  probe: "affected" | "fixed" | "inconclusive";
}

/** What to do, in one sentence. */
function advice({ gate, probe }: Verdicts, { oneStep, loopdev, parsers, strategy }: Measured) {
  const losetup = "losetup -P and other one-step tools";
  if (loopdev.spurious + loopdev.missing > 0) {
    return probe === "affected" && strategy === "one-step"
      ? 'Attach with { workaround: "always" }, and report this: the release hides an affected kernel.'
      : "Please report this, with the output of --json.";
  }
  if (oneStep.flickered > 0) {
    return `Keep loopdev's default, and do not use ${losetup} where anything depends on a partition.`;
  }
  if (!parsers) return "Nothing to do on this kernel.";
  if (probe === "affected") {
    return `Keep loopdev's default and avoid ${losetup}: the kernel is affected, though nothing ` +
      "flickered this time; --cycles 1000 may show it.";
  }
  if (probe === "fixed" && gate === "affected") {
    return 'This kernel has the fix, though its release does not prove it: { workaround: "probe" } ' +
      "finds that out and attaches in one step, which is faster.";
  }
  return "Nothing to do: this machine does not flicker.";
}

function line(way: Way, { cycles, flickered, spurious, missing }: Tally): string {
  const events = spurious > 0 ? ` (spurious: ${spurious} add or remove events)` : "";
  const lost = missing > 0 ? `; ${missing} events that were due never came` : "";
  return `${`${NAMES[way]}:`.padEnd(10)}${flickered} of ${cycles} cycles flickered${events}${lost}`;
}

async function main(args: string[], stop: AbortSignal): Promise<number> {
  const { cycles, svg, json, opener, help } = parse(args);
  if (help) {
    print(HELP);
    return 0;
  }
  const release = kernelRelease();
  const gate = isAffected(release) ? "affected" : "free";
  const verdicts: Verdicts = { release, gate, probe: await probePartscanRace() };
  // Before the work: a mistake in the name shall not cost the result.
  using file = svg === undefined ? null : open(svg, O_RDWR | O_CREAT | O_TRUNC, 0o644);
  const say = (label: string, text: string) => json || print(label.padEnd(11) + text);
  say("kernel:", `${release}, ${gate} by its release, ${verdicts.probe} by the probe`);
  const image = `/tmp/loopdev-race-check-${crypto.randomUUID().slice(0, 8)}.img`;
  say("image:", image);
  const measured = await measure(image, cycles, opener, stop);

  const { oneStep, loopdev, strategy, parsers } = measured;
  const clean = loopdev.spurious + loopdev.missing === 0;
  const timeline = picture(measured, release);
  const todo = advice(verdicts, measured);
  if (file) writeAt(file, 0, new TextEncoder().encode(drawSvg(timeline)));
  if (json) {
    const counts = ({ picture: _, ...counts }: Tally) => counts;
    const result = { ...verdicts, parsers, opener, strategy, clean, advice: todo, timeline };
    print(
      JSON.stringify({ ...result, oneStep: counts(oneStep), loopdev: counts(loopdev) }, null, 2),
    );
  } else {
    say(
      "parsers:",
      parsers
        ? "the kernel finds partitions by itself"
        : "this kernel has no partition parser: the kernel cannot flicker here; only what loopdev " +
          "adds itself is measured",
    );
    print(`\n${line("oneStep", oneStep)}\n${line("loopdev", loopdev)}, strategy ${strategy}`);
    if (oneStep.flickered + loopdev.flickered === 0) {
      print("\nNo flicker was seen. This is loopdev's attach:");
    }
    print(`\n${drawText(timeline)}\n    (when heard, some µs after it happened)\n\n${todo}`);
  }
  if (!clean) console.error(`race_check: ${line("loopdev", loopdev)}`);
  return clean ? 0 : 1;
}

await runMain("race_check", main);
