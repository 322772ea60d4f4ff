/**
 * What users see of the race: systemd as PID 1, and a unit that is bound to a partition. udev starts
 * the unit when the partition appears; if the partition vanishes, if only for a moment, systemd stops
 * the unit or refuses to start it (result "dependency"), while the image stays attached.
 *
 *     bun vm/guest/symptom.ts 100
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { attach, type AttachOptions } from "../../mod.ts";
import { OPENER_KINDS, startOpener } from "../../tools/race_check/opener.ts";
import { UeventSocket } from "../../tools/race_check/uevents.ts";
import { PartitionCounter } from "./cycles.ts";
import { makeImage, PARTITIONS, run } from "./image.ts";
import { progress, report } from "./report.ts";

const cycles = Number(process.argv[2] ?? 100);
const number = 0;
const disk = `loop${number}`;
const image = "/tmp/symptom.img";
/** What the units write of themselves, a word a line: cheaper to read than to ask systemctl. */
const LOG = "/run/symptom.log";
const UNIT = "symptom.service";
const DEVICE = `dev-${disk}p1.device`;

const FILES = {
  // 1. The device unit becomes active; SYSTEMD_WANTS= makes systemd queue the start of ours.
  "/run/udev/rules.d/90-symptom.rules":
    `KERNEL=="${disk}p1", TAG+="systemd", ENV{SYSTEMD_WANTS}+="${UNIT}"\n`,
  // 2. BindsTo= stops ours when the device unit dies, and with After= fails a start job that runs
  //    in the gap. The start that the returning device wants is dropped while that stop is running.
  [`/run/systemd/system/${UNIT}`]: `[Unit]
BindsTo=${DEVICE}
After=${DEVICE}
OnFailure=symptom-failed.service
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sh -c 'echo start >>${LOG}; exec sleep infinity'
ExecStopPost=/bin/sh -c 'echo stop >>${LOG}'
`,
  // 3. OnFailure= is also triggered by a start job that ends with the result "dependency".
  "/run/systemd/system/symptom-failed.service": `[Unit]
StartLimitIntervalSec=0
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo failed >>${LOG}'
`,
};

/** What the units wrote since the last emptyLog(). */
const readLog = () => readFileSync(LOG, "utf8").split("\n").filter((line) => line !== "");
const emptyLog = () => writeFileSync(LOG, "");
const isRunning = () => readLog().findLast((line) => line !== "failed") === "start";

/** Whether systemd is done with both our unit and the device's. */
function isOver(): boolean {
  const states = run(["systemctl", "show", "--property=ActiveState", "--value", UNIT, DEVICE]);
  return states.split("\n").every((state) => ["", "inactive", "failed"].includes(state));
}

/** Waits for a condition while uevents are counted; false when the deadline passes first. */
function waitFor(counter: PartitionCounter, condition: () => boolean, milliseconds: number) {
  const deadline = Date.now() + milliseconds;
  while (!condition()) {
    if (Date.now() > deadline) return false;
    counter.socket.wait(10);
    counter.drain();
  }
  return true;
}

/** Waits until udevd has nothing to do, and neither kernel nor units have said anything since. */
function settled(counter: PartitionCounter): void {
  let lines: number;
  do {
    lines = readLog().length;
    waitFor(counter, () => !existsSync("/run/udev/queue"), 5000);
    counter.quiet(100);
  } while (existsSync("/run/udev/queue") || readLog().length !== lines);
}

/** One attach and detach, with a look at the unit in between. */
type Cycle = (attached: () => Promise<void>) => Promise<void>;

const losetup: Cycle = async (attached) => {
  run(["losetup", "-P", `/dev/${disk}`, image]);
  await attached();
  run(["losetup", "-d", `/dev/${disk}`]);
};

const whole = (options: AttachOptions): Cycle => async (attached) => {
  await using loop = await attach(image, options);
  if (loop.number !== number) throw new Error(`${loop.path} instead of ${disk}`);
  await attached();
};

async function measure(name: string, kind: "control" | "loopdev", cycle: Cycle, times: number) {
  using socket = new UeventSocket();
  const counter = new PartitionCounter(socket, PARTITIONS);
  settled(counter);
  // Cycles in which systemd stopped the unit, failed its start, or left it dead; and either of them.
  const seen = { stopped: 0, failed: 0, dead: 0, broken: 0, absent: 0, left: 0 };
  const start = Date.now();
  for (let done = 0; done < times; done++) {
    emptyLog();
    await opener.open(number, OPENER_KINDS[done % OPENER_KINDS.length]);
    await cycle(async () => {
      if (!counter.present(disk, 5000)) seen.absent++;
      counter.quiet(20);
      // The scans are over: it could only take the processor that systemd needs.
      await opener.rest();
      waitFor(counter, isRunning, 3000);
      settled(counter);
      const log = readLog();
      const faults = {
        stopped: log.includes("stop"),
        failed: log.includes("failed"),
        dead: !isRunning(),
      };
      for (const fault of ["stopped", "failed", "dead"] as const) seen[fault] += +faults[fault];
      seen.broken += +Object.values(faults).includes(true);
    });
    if (!counter.detached(disk, 5000)) seen.left++;
    // A stop that is still running would swallow the next start.
    if (!waitFor(counter, isOver, 5000)) seen.left++;
    settled(counter);
    counter.endCycle();
    progress(done + 1, times);
  }
  report({
    event: "result",
    case: `${name} + opener`,
    kind,
    ...counter.row(),
    ...seen,
    flickered: seen.broken,
    milliseconds: Date.now() - start,
  });
}

for (const [path, text] of Object.entries(FILES)) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
emptyLog();
run(["udevadm", "control", "--reload"]);
run(["systemctl", "daemon-reload"]);
makeImage(image);

const few = Math.ceil(cycles * 2 / 5);
await using opener = await startOpener();
await measure("losetup", "control", losetup, few);
await measure("one-step", "control", whole({ partscan: true, workaround: "never" }), few);
await measure("loopdev", "loopdev", whole({ partscan: true }), cycles);
