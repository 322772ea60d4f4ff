/**
 * What loopdev does in this guest: do gate and probe agree, and does a partition ever flicker, under
 * a real udevd and a hostile opener, with each strategy, when the device is left behind, and when the
 * process exits. Beside it mutants, which lack one thing each and must flicker where it matters.
 *
 *     bun vm/guest/loopdev.ts 200
 */
import process from "node:process";
import { attach, type AttachOptions, isAffected, probePartscanRace } from "../../mod.ts";
import { bindFreeDevice } from "../../lib/binding/bind.ts";
import { changeFlags } from "../../lib/binding/change.ts";
import { O_RDONLY, O_RDWR, open } from "../../lib/kernel/file.ts";
import { kernelRelease } from "../../lib/kernel/release.ts";
import { LO_FLAGS_AUTOCLEAR, LO_FLAGS_PARTSCAN, loopConfigure } from "../../lib/kernel/loop.ts";
import { UeventSocket } from "../../tools/race_check/uevents.ts";
import { PartitionCounter } from "./cycles.ts";
import { makeImage, PARTITIONS, run } from "./image.ts";
import { progress, report } from "./report.ts";
import type { OpenerKind } from "../../tools/race_check/opener.ts";
import { startOpener } from "./start_opener.ts";

const cycles = Number(process.argv[2] ?? 200);
const mutants = process.argv[3] === "mutants";
const disk = "loop0";
const image = "/tmp/loopdev.img";

/**
 * One attach and detach, with a look at the attached device in between. Where the hostile opener was
 * the last to close loop0, it may still be on its way out, and loop1 the next free device.
 */
type Cycle = (attached: (path: string) => void) => Promise<void>;

/**
 * Detaches what was left behind, through a read-only descriptor: closing that is no IN_CLOSE_WRITE.
 * Not LOOP_CLR_FD, which on older kernels leaves partitions behind that udevd has open just then.
 */
async function clear(path: string): Promise<void> {
  using device = open(path, O_RDONLY);
  await changeFlags(device, (lo_flags) => lo_flags | LO_FLAGS_AUTOCLEAR);
}

const whole = (options: AttachOptions): Cycle => async (attached) => {
  await using loop = await attach(image, options);
  attached(loop.path);
};

/** The probe, each time, and whatever it advises. */
const probing: Cycle = async (attached) => {
  await probe();
  await whole({ partscan: true, workaround: "probe" })(attached);
};

const persistent = (options: AttachOptions): Cycle => async (attached) => {
  await using loop = await attach(image, options);
  await loop.persist();
  attached(loop.path);
  await clear(loop.path);
};

/** Another process attaches, leaves the device behind, and exits. */
const exiting: Cycle = async (attached) => {
  const script = new URL("./attach_and_exit.ts", import.meta.url).pathname;
  const deno = ["run", "-A", "--no-check", "--no-config", "--no-lock"];
  const path = run([process.execPath, ..."Deno" in globalThis ? deno : [], script, image]);
  attached(path);
  await clear(path);
};

/** The two steps without the drain between them. */
const withoutDrain: Cycle = async (attached) => {
  using backing = open(image, O_RDWR);
  const { device, backing: kept } = await bindFreeDevice({
    ...{ backing, readOnly: false, partscan: false },
  });
  kept?.close();
  using _ = device;
  await changeFlags(device, (lo_flags) => lo_flags | LO_FLAGS_PARTSCAN);
  attached(device.path);
};

/** One step, bound through the node that udevd watches, and closed while the device is in use. */
const watched: Cycle = async (attached) => {
  const path = `/dev/${disk}`;
  using backing = open(image, O_RDWR);
  {
    using device = open(path, O_RDWR);
    loopConfigure(device, backing, { info: { lo_flags: LO_FLAGS_PARTSCAN } });
  }
  attached(path);
  await clear(path);
};

async function measure(name: string, cycle: Cycle, opener: "none" | OpenerKind, times = cycles) {
  await using _opener = opener === "none" ? undefined : await startOpener(disk, opener);
  using socket = new UeventSocket();
  const counter = new PartitionCounter(socket, PARTITIONS);
  counter.quiet(200);
  let absent = 0;
  let left = 0;
  const start = Date.now();
  for (let done = 0; done < times; done++) {
    // Now and then long enough for the slowest reaction of udevd to strike while it is attached.
    const hold = done % 10 === 0 || mutants ? 80 : 8;
    let used = disk;
    await cycle((path) => {
      used = path.slice("/dev/".length);
      if (!counter.present(used, 0)) absent++;
      counter.quiet(hold);
    });
    if (!counter.detached(used, 5000)) left++;
    counter.quiet(hold / 4);
    counter.endCycle();
    progress(done + 1, times);
  }
  report({
    event: "result",
    case: opener === "none" ? name : `${name} + opener ${opener}`,
    kind: name.startsWith("mutant") ? "mutant" : "loopdev",
    opener,
    ...counter.row(),
    absent,
    left,
    milliseconds: Date.now() - start,
  });
}

/** How often each verdict was given. */
const probes: Record<string, number> = {};
let probingMilliseconds = 0;

async function probe(): Promise<void> {
  const start = performance.now();
  const verdict = await probePartscanRace();
  probingMilliseconds += performance.now() - start;
  probes[verdict] = (probes[verdict] ?? 0) + 1;
}

/** What gate and probe said, after all that were asked. */
function verdicts(): void {
  const gate = isAffected(kernelRelease()) ? "affected" : "fixed";
  const cycles = Object.values(probes).reduce((sum, n) => sum + n, 0);
  const milliseconds = probingMilliseconds / cycles;
  report({ event: "result", case: "verdict", kind: "verdict", gate, probes, cycles, milliseconds });
}

makeImage(image);

if (mutants) {
  const few = Math.max(20, Math.ceil(cycles / 8));
  await measure("mutant without drain", withoutDrain, "react", few);
  await measure("mutant without drain", withoutDrain, "spin", few);
  await measure("mutant one-step", whole({ partscan: true, workaround: "never" }), "react", few);
  await measure("mutant one-step", whole({ partscan: true, workaround: "never" }), "spin", few);
  await measure("mutant on the watched node", watched, "none", few);
} else {
  await measure("probe", probing, "react", Math.ceil(cycles / 2));
  await measure("probe", probing, "spin", Math.ceil(cycles / 2));
  verdicts();
  await measure("auto", whole({ partscan: true }), "react", Math.ceil(cycles / 2));
  await measure("auto", whole({ partscan: true }), "spin", Math.ceil(cycles / 2));
  await measure("two-step", whole({ partscan: true, workaround: "always" }), "spin");
  await measure("userspace", whole({ partscan: "userspace" }), "spin");
  await measure("auto, left behind", persistent({ partscan: true }), "react");
  await measure("auto, process exits", exiting, "none", Math.ceil(cycles / 20));
}
