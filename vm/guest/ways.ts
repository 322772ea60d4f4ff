/**
 * Ways to attach with partitions on a kernel that has PARTSCAN_RACE, side by side under a real udevd
 * and a hostile opener: which of them flicker, how long until the partitions are there, until one can
 * be opened and read, and until LO_FLAGS_PARTSCAN is set; and what tools miss without the flag.
 *
 *     bun vm/guest/ways.ts 200
 */
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import process from "node:process";
import { OPENER_KINDS, startOpener } from "../../tools/race_check/opener.ts";
import { UeventSocket } from "../../tools/race_check/uevents.ts";
import { bindFreeDevice } from "../../lib/binding/bind.ts";
import { changeFlags } from "../../lib/binding/change.ts";
import { blkpgAddPartition, blkSszGet } from "../../lib/kernel/block.ts";
import type { LoopError } from "../../lib/base/errors.ts";
import {
  ifExists,
  memoryFile,
  O_RDONLY,
  O_RDWR,
  open,
  type OpenFile,
  readAt,
} from "../../lib/kernel/file.ts";
import { LO_FLAGS_AUTOCLEAR, LO_FLAGS_PARTSCAN, loopConfigure } from "../../lib/kernel/loop.ts";
import { readTable } from "../../lib/binding/image_table.ts";
import { removePartitions } from "../../lib/binding/removal.ts";
import { drain, scanOnce } from "../../lib/binding/partscan_race.ts";
import { poll, retry, type RetryPolicy } from "../../lib/base/retry.ts";
import {
  sysfsBackingFile,
  sysfsDev,
  type SysfsPartition,
  sysfsPartitions,
} from "../../lib/kernel/sysfs.ts";
import { openOwnNode } from "../../lib/udev/close_write_race.ts";
import { PartitionCounter } from "./cycles.ts";
import { progress, report } from "./report.ts";

const cycles = Number(process.argv[2] ?? 200);
const number = 0;
const disk = `loop${number}`;
const node = `/dev/${disk}`;
const image = "/tmp/ways.img";
const PARTITIONS = 2;
const DUMMY = { number: 255, start: 4096, size: 4096 };
const ONCE = {
  event: "result",
  ...{ cycles: 1, adds: 0, removes: 0, spurious: 0, missing: 0, flickered: 0 },
};
/** The last opener to close a device may be on its way out still. */
const FREED: RetryPolicy = { codes: ["EBUSY", "ENXIO", "ENOENT"], tries: 64, longestPause: 50 };

/** An attached device; `flag` resolves when LO_FLAGS_PARTSCAN is set, and is absent if it never is. */
interface Attached {
  device: OpenFile;
  flag?: Promise<void>;
  /** Without the flag they outlive the device, until somebody opens it. */
  added?: SysfsPartition[];
  /** The way did not work this time, and another one was taken. */
  fellBack?: boolean;
}

function run(command: string[], input?: string): string {
  const [name, ...args] = command;
  const { stdout, stderr } = spawnSync(name, args, { input, encoding: "utf8" });
  return (stdout + stderr).trim();
}

const done = Promise.resolve();
const withFlag = (lo_flags: number) => lo_flags | LO_FLAGS_PARTSCAN;
const CONFIG = { lo_flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN };

async function bind(partscan: boolean): Promise<OpenFile> {
  using backing = open(image, O_RDWR);
  const binding = { backing, readOnly: false, partscan, number };
  const bound = await retry(FREED, () => bindFreeDevice(binding));
  bound.backing?.close();
  return bound.device;
}

/** Bound without the flag; the partitions of its table added by us. */
async function bindAndAdd(): Promise<OpenFile> {
  const device = await bind(false);
  drain(device);
  for (const partition of (await readTable(device, blkSszGet(device))).partitions) {
    blkpgAddPartition(device, partition);
  }
  return device;
}

const oneStep = async (): Promise<Attached> => ({ device: await bind(true), flag: done });

async function twoStep(): Promise<Attached> {
  const device = await bind(false);
  await scanOnce(device);
  return { device, flag: done };
}

async function userspace(): Promise<Attached> {
  const device = await bindAndAdd();
  return { device, added: sysfsPartitions(number) };
}

/** The flag afterwards. A partition is open all the while, so that its scan is EBUSY. */
async function held(): Promise<Attached> {
  const device = await bindAndAdd();
  const holder = open(`${node}p1`, O_RDONLY);
  return { device, flag: changeFlags(device, withFlag).finally(() => holder.close()) };
}

/** An open partition on a free device, where the kernel takes one: 6.1 does, 6.12 does not. */
async function dummyOnFree(): Promise<OpenFile> {
  using device = openOwnNode(node, sysfsDev(number), O_RDWR)!;
  await retry(FREED, () => blkpgAddPartition(device, DUMMY));
  return open(`${node}p${DUMMY.number}`, O_RDONLY);
}

/** One that an earlier bind has left behind: opening it drops it, and yet it counts as open. */
async function dummyLeftBehind(): Promise<OpenFile | undefined> {
  using scratch = memoryFile("ways", 1 << 20);
  const binding = { backing: scratch, readOnly: true, partscan: false, number };
  {
    using device = (await retry(FREED, () => bindFreeDevice(binding))).device;
    drain(device);
    blkpgAddPartition(device, DUMMY);
  }
  const dummy = ifExists(() => open(`${node}p${DUMMY.number}`, O_RDONLY));
  if (sysfsBackingFile(number) === undefined) return dummy;
  // Somebody has opened the device meanwhile, and so kept it bound.
  dummy?.close();
}

/** One step, but with a partition open before it: all scans are EBUSY until that is closed. */
async function dummy(): Promise<Attached> {
  const held = await (takesPartitions ? dummyOnFree() : dummyLeftBehind());
  if (held === undefined) return { ...await twoStep(), fellBack: true };
  using backing = open(image, O_RDWR);
  const device = openOwnNode(node, sysfsDev(number), O_RDWR)!;
  loopConfigure(device, backing, { info: CONFIG });
  held.close();
  // One scan, by whoever opens the device first; udevd may have the dummy open still.
  await poll(() => {
    drain(device);
    return sysfsPartitions(number).length === PARTITIONS || undefined;
  }, 1000);
  return { device, flag: done };
}

const median = (values: number[]) =>
  values.length === 0 ? null : +values.sort((a, b) => a - b)[values.length >> 1].toFixed(2);

async function measure(
  name: string,
  attach: () => Promise<Attached>,
  { kind = "way", times = cycles, partitions = PARTITIONS } = {},
): Promise<void> {
  using socket = new UeventSocket();
  const counter = new PartitionCounter(socket, partitions);
  counter.quiet(200);
  run(["dmesg", "-C"]);
  const took = { ready: [] as number[], read: [] as number[], flag: [] as number[] };
  const seen = { absent: 0, left: 0, unset: 0, fellBack: 0 };
  for (let cycle = 0; cycle < times; cycle++) {
    // Every third cycle without the opener: these give the times.
    const opener = [...OPENER_KINDS, undefined][cycle % 3];
    if (opener) await hostile.open(number, opener);
    else await hostile.rest();
    const start = performance.now();
    const { device, flag, added = [], fellBack } = await attach();
    const ready = performance.now();
    if (sysfsPartitions(number).length !== PARTITIONS) seen.absent++;
    // What a user does next; the pause lets our thread begin the request that sets the flag.
    await new Promise((resolve) => setTimeout(resolve, 2));
    const begin = performance.now();
    {
      using partition = open(`${node}p2`, O_RDONLY);
      readAt(partition, 0, 512);
    }
    const end = performance.now();
    await flag;
    if (!opener) {
      took.ready.push(ready - start);
      took.read.push(end - begin);
      if (flag) took.flag.push((flag === done ? ready : performance.now()) - start);
    }
    if (flag && readFileSync(`/sys/block/${disk}/loop/partscan`, "utf8") !== "1\n") seen.unset++;
    if (fellBack) seen.fellBack++;
    counter.quiet(cycle % 10 === 0 ? 80 : 8);
    await removePartitions(device, number, added);
    device.close();
    if (!counter.detached(disk, 5000)) seen.left++;
    counter.quiet(2);
    counter.endCycle();
    progress(cycle + 1, times);
  }
  await hostile.rest();
  const warnings = run(["dmesg"]).split("\n").filter((line) => line.includes("(rc=-16)"));
  report({
    event: "result",
    case: name,
    kind,
    ...counter.row(),
    ...seen,
    milliseconds: { ready: median(took.ready), read: median(took.read), flag: median(took.flag) },
    warnings: warnings.length,
  });
}

/** What tools make of a device, with the flag and without. */
async function tools(name: string, attach: () => Promise<Attached>): Promise<void> {
  makeImage();
  const { device } = await attach();
  using _ = device;
  let rereadpt: string;
  do { // udevd may have a partition open just now.
    rereadpt = run(["blockdev", "--rereadpt", node]).replace(/.*: /, "");
  } while (rereadpt.includes("busy"));
  run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", "--append", node], "size=1M\n");
  run(["partx", "-u", node]);
  const partx = sysfsPartitions(number).length === PARTITIONS + 1;
  const partscan = run(["losetup", "-n", "-l", "-O", "PARTSCAN", node]);
  report({
    ...ONCE,
    case: `tools, ${name}`,
    kind: "answers",
    answers: { partscan, rereadpt, partx },
  });
}

/** Whether a device that is not bound takes a partition. */
async function addToFree(): Promise<boolean> {
  using device = open(node, O_RDWR);
  let answers = "done";
  try {
    blkpgAddPartition(device, DUMMY);
    await removePartitions(device, number, [DUMMY]);
  } catch (error) {
    answers = (error as LoopError).code;
  }
  report({ ...ONCE, case: "BLKPG_ADD_PARTITION, not bound", kind: "answers", answers });
  return answers === "done";
}

function makeImage(): void {
  rmSync(image, { force: true });
  run(["truncate", "-s", "8M", image]);
  run(["sfdisk", "-q", image], "label: gpt\nsize=2M\nsize=2M\n");
}

makeImage();
const takesPartitions = await addToFree();
await using hostile = await startOpener();
await measure("one-step", oneStep, { kind: "control", times: Math.ceil(cycles / 4) });
await measure("two-step", twoStep);
await measure("held", held);
await measure("userspace", userspace);
await measure("dummy", dummy, { partitions: PARTITIONS + 1 });
await tools("two-step", twoStep);
await tools("userspace", userspace);
