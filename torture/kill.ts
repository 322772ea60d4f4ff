/**
 * Part "kill": SIGKILL at each system call of each scenario. Within a second no device is left; after
 * persist() just the persisted one, whole. What a killed process may leave, a node of its own between
 * two system calls and partitions on a free device, the next attach() takes over.
 */
import { existsSync } from "node:fs";
import { progress, say } from "../dev/terminal.ts";
import { attach } from "../mod.ts";
import { output } from "../tests/support.ts";
import { devicesOf, isBound, type Part, partitionsOf, type Row } from "./common.ts";
import { within } from "./common.ts";
import { touched } from "./leftovers.ts";
import { MARKS, type RuntimeName, type ScenarioName } from "./scenarios.ts";
import { beginTrace, between, type Call, signature } from "./strace.ts";
import { makeImages, Subject } from "./subject_process.ts";

/** LO_FLAGS_AUTOCLEAR takes effect when the kernel has closed what the process had open. */
const DETACH_MS = 1000;
/** At ci size so many kills a scenario and runtime, spread evenly. */
const CI_KILLS = 8;
/** Of the kills, how many may not come, because a runtime's own calls shift what `when=` counts. */
const MOST_SURVIVED = 0.1;

/** What the kills of one runtime in one scenario came to. */
interface Tally {
  kills: number;
  /** The call meant was not made again: the process lived on. */
  survived: number;
  persisted: number;
  nodes: number;
  partitions: number;
  violations: string[];
}

/** The calls at which to kill; the mark behind the last one stands for "when all is done". */
async function learn(subject: Subject, scenario: ScenarioName): Promise<Call[]> {
  await subject.prepare(scenario);
  const trace = await beginTrace(subject.pid);
  await subject.act(scenario);
  const all = await trace.end();
  await subject.undo(scenario);
  return [...between(all), all.find(({ text }) => text.includes(MARKS.end))!];
}

/** The next user of a device finds neither our node nor our partitions there. */
async function takeOver(number: number, image: string): Promise<string | undefined> {
  if (isBound(number)) return undefined;
  try {
    const loop = await attach(image, { number });
    const node = `/dev/.loopdev-loop${number}`;
    const problem = existsSync(node)
      ? `the next attach() leaves ${node}`
      : partitionsOf(number).length > 0
      ? `the next attach() leaves partitions on /dev/loop${number}`
      : undefined;
    await loop.detach();
    return problem;
  } catch (error) {
    // Somebody else was faster, and takes over instead.
    if ((error as { code?: string }).code === "EBUSY") return undefined;
    return `the next attach() fails: ${(error as Error).message}`;
  }
}

async function kill(
  runtime: RuntimeName,
  scenario: ScenarioName,
  images: readonly string[],
  index: number,
  tally: Tally,
): Promise<void> {
  await using subject = await Subject.start(runtime, scenario, images);
  // Learnt from this very process: threads and ordinals are its own.
  const calls = await learn(subject, scenario);
  const call = calls[Math.min(index, calls.length - 1)];
  const name = `${runtime} ${scenario} ${signature(call)}`;
  const blame = (problem: string) => {
    tally.violations.push(`${name}: ${problem}`);
    say(
      `VIOLATION ${name}\n  ${problem}\n  again: deno task torture --part kill --size full ` +
        `--runtime ${runtime} --scenario ${scenario} --only '${name.replaceAll(/[^\w ]/g, ".")}'`,
    );
  };
  await subject.prepare(scenario);
  const trace = await beginTrace(subject.pid, {
    inject: `${call.name}:signal=KILL:when=${call.nth}`,
    threads: call.thread === String(subject.pid)
      ? [String(subject.pid)]
      : subject.threads().filter((thread) => thread !== String(subject.pid)),
  });
  const survived = await subject.act(scenario).then(() => true, () => false);
  const all = await trace.end();
  tally.kills++;
  if (survived) {
    tally.survived++;
    await subject.undo(scenario);
    return;
  }
  const kept = () => images.flatMap(devicesOf);
  await within(DETACH_MS, () => kept().every(({ autoclear }) => !autoclear));
  const wasPersisted = all.some(({ text }) => text.includes(MARKS.persisted));
  const mayPersist = scenario === "persist" || scenario === "detach-other";
  const devices = kept();
  for (const { number, autoclear } of devices) {
    if (autoclear || !mayPersist) blame(`/dev/loop${number} is left`);
  }
  if (devices.length > 1) blame(`${devices.length} devices are left`);
  if (wasPersisted && devices.length === 0) blame("the persisted device is gone");
  tally.persisted += devices.length;
  for (const { number } of devices) output(["losetup", "--detach", `/dev/loop${number}`]);
  for (const number of touched(all)) {
    if (isBound(number)) continue;
    const node = existsSync(`/dev/.loopdev-loop${number}`);
    const partitions = partitionsOf(number).length > 0;
    if (node) tally.nodes++;
    if (partitions) tally.partitions++;
    if (!node && !partitions) continue;
    const problem = await takeOver(number, images[0]);
    if (problem) blame(problem);
  }
}

export const kills: Part = async ({ full, scale, runtimes, scenarios, only }) => {
  const rows: Row[] = [];
  for (const scenario of scenarios) {
    for (const runtime of runtimes) {
      const images = makeImages();
      const tally: Tally = {
        ...{ kills: 0, survived: 0, persisted: 0, nodes: 0, partitions: 0 },
        violations: [],
      };
      await using subject = await Subject.start(runtime, scenario, images);
      const calls = await learn(subject, scenario);
      const step = full ? 1 : Math.max(1, calls.length / (CI_KILLS * scale));
      for (let at = calls.length - 1; at >= 0; at -= step) {
        const index = Math.floor(at);
        const name = `${runtime} ${scenario} ${signature(calls[index])}`;
        if (only && !only.test(name)) continue;
        progress(`${index}/${calls.length} ${name}`);
        await kill(runtime, scenario, images, index, tally);
      }
      if (tally.kills === 0) continue;
      if (tally.survived > Math.max(1, MOST_SURVIVED * tally.kills)) {
        tally.violations.push(`${tally.survived} of ${tally.kills} kills did not come`);
      }
      const bad = tally.violations;
      const detail = `${calls.length} calls, ${tally.kills} kills: ${tally.survived} survived, ` +
        `${tally.persisted} devices persisted, taken over: ${tally.nodes} nodes, ` +
        `${tally.partitions} devices with partitions; ${bad.length} violations` +
        bad.map((text) => ` | ${text}`).slice(0, 3).join("");
      const outcome = bad.length === 0 ? "pass" : "fail";
      rows.push({ part: "kill", name: `${runtime} ${scenario}`, outcome, detail });
      say(`kill: ${runtime} ${scenario}: ${detail}`);
    }
  }
  return rows;
};
