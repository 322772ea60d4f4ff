/**
 * Part "kill": SIGKILL at each system call of each scenario. Within a second no device is left; after
 * persist() just the persisted one, whole. What a killed process may leave, a node of its own between
 * two system calls and partitions on a free device, the next attach() takes over.
 *
 * Of a scenario that mounts, the keeper is killed as well: it alone, and both of them. Its process
 * stops at the call meanwhile. Where both are dead, the next mount() takes away what is left.
 */
import { existsSync } from "node:fs";
import process from "node:process";
import { progress, say } from "../dev/terminal.ts";
import { attach } from "../mod.ts";
import { output } from "../tests/support/support.ts";
import { devicesOf, isBound, type Part, partitionsOf, type Request, type Row } from "./common.ts";
import { within } from "./common.ts";
import { touched } from "./leftovers.ts";
import { keepersOf, killAll } from "../tests/support/keepers.ts";
import { damageOfTable } from "./grow_ends.ts";
import { damageOf, endOf, isStopped, leftOf } from "./mount_ends.ts";
import {
  isMount,
  MARKS,
  NOT_KILLED,
  type RuntimeName,
  type ScenarioName,
  WARM_UPS,
} from "./scenarios.ts";
import { beginTrace, between, type Call, signature, withoutChildren } from "./strace.ts";
import { makeImages, Subject } from "./subject_process.ts";

/** LO_FLAGS_AUTOCLEAR takes effect when the kernel has closed what the process had open. */
const DETACH_MS = 1000;
/** Longer than a scenario takes under strace. */
const STOP_MS = 30_000;
/** At ci size so many kills a scenario and runtime, spread evenly. */
const CI_KILLS = 8;
/** Of the kills, how many may not come, because a runtime's own calls shift what `when=` counts. */
const MOST_SURVIVED = 0.1;

/** Who is killed. */
const VICTIMS = ["process", "keeper", "both"] as const;
type Victim = typeof VICTIMS[number];

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
  return [...withoutChildren(between(all)), all.find(({ text }) => text.includes(MARKS.end))!];
}

/** Of a process of its own, if the act is one that a process can do but once. */
async function learnElsewhere(
  runtime: RuntimeName,
  scenario: ScenarioName,
  images: readonly string[],
): Promise<Call[]> {
  await using subject = await Subject.start(runtime, scenario, images);
  return await learn(subject, scenario);
}

/**
 * Kills the keeper, and perhaps its process after it, when the process has stopped at the call meant.
 * Resolves to whether it has; what is wrong goes to `blame`.
 */
async function killStopped(
  subject: Subject,
  scenario: ScenarioName,
  victim: Victim,
  blame: (problem: string) => void,
): Promise<boolean> {
  let isOver = false;
  const acting = subject.act(scenario).finally(() => isOver = true);
  acting.catch(() => {});
  const { pid } = subject;
  await within(STOP_MS, () => isOver || isStopped(pid));
  const stopped = !isOver;
  killAll(keepersOf(pid));
  if (victim === "both") return stopped;
  // Until it goes on: strace may hand its stop on only now.
  const goOn = () => isStopped(pid) && process.kill(pid, "SIGCONT");
  const waker = setInterval(goOn, 100);
  const { error } = await acting.catch((error: Error) => ({ error })).finally(() =>
    clearInterval(waker)
  );
  if (error && error.name !== "LoopError") blame(`rejected with ${error.name} ${error.message}`);
  const failed = await subject.undo(scenario).catch(({ message }) => message);
  // A neighbour may just look at the device.
  if (await within(DETACH_MS, () => leftOf(subject.images).length === 0)) return stopped;
  if (failed) blame(`could not be undone: ${failed}`);
  for (const what of leftOf(subject.images)) blame(`${what} is left`);
  return stopped;
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

/** One kill: of whom, where, and on which images. */
interface Plan {
  readonly runtime: RuntimeName;
  readonly scenario: ScenarioName;
  readonly victim: Victim;
  readonly images: readonly string[];
  readonly index: number;
}

const titleOf = ({ runtime, scenario, victim }: Omit<Plan, "images" | "index">, call: Call) =>
  `${runtime} ${scenario} ${victim === "process" ? "" : `(${victim}) `}${signature(call)}`;

async function kill(plan: Plan, tally: Tally): Promise<void> {
  const { runtime, scenario, victim, images, index } = plan;
  const known = scenario in WARM_UPS && await learnElsewhere(runtime, scenario, images);
  await using subject = await Subject.start(runtime, scenario, images);
  // Learnt from this very process: threads and ordinals are its own.
  const calls = known || await learn(subject, scenario);
  const call = calls[Math.min(index, calls.length - 1)];
  const isMain = known ? call.thread === known.at(-1)!.thread : call.thread === `${subject.pid}`;
  const name = titleOf(plan, call);
  const blame = (problem: string) => {
    tally.violations.push(`${name}: ${problem}`);
    say(
      `VIOLATION ${name}\n  ${problem}\n  again: deno task torture --part kill --size full ` +
        `--runtime ${runtime} --scenario ${scenario} --only '${name.replaceAll(/[^\w ]/g, ".")}'`,
    );
  };
  await subject.prepare(scenario);
  const trace = await beginTrace(subject.pid, {
    inject: [`${call.name}:signal=${victim === "process" ? "KILL" : "STOP"}:when=${call.nth}`],
    threads: isMain
      ? [String(subject.pid)]
      : subject.threads().filter((thread) => thread !== String(subject.pid)),
  });
  const hadKeeper = keepersOf(subject.pid).length > 0;
  const survived = victim === "process"
    ? await subject.act(scenario).then(() => true, () => false)
    : !await killStopped(subject, scenario, victim, blame);
  if (victim !== "process") await subject[Symbol.asyncDispose]();
  const all = await trace.end();
  tally.kills++;
  if (survived) {
    tally.survived++;
    if (victim === "process") await subject.undo(scenario);
  } else if (isMount(scenario)) {
    const alone = victim !== "process" || !hadKeeper;
    const problems = await endOf(subject.pid, images, alone);
    for (const problem of [...problems, ...damageOf(subject.mounted)]) blame(problem);
  } else {
    await checkDevices(plan, all, blame, tally);
    if (scenario === "grow") {
      for (const problem of await damageOfTable(subject.grown)) blame(problem);
    }
  }
}

/** What is left of a scenario that mounts nothing. */
async function checkDevices(
  { scenario, images }: Plan,
  all: readonly Call[],
  blame: (problem: string) => void,
  tally: Tally,
): Promise<void> {
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

/** All of one runtime in one scenario. */
async function killMany(
  runtime: RuntimeName,
  scenario: ScenarioName,
  { full, scale, only }: Request,
): Promise<Row | undefined> {
  const images = makeImages();
  const tally: Tally = {
    ...{ kills: 0, survived: 0, persisted: 0, nodes: 0, partitions: 0 },
    violations: [],
  };
  const calls = await learnElsewhere(runtime, scenario, images);
  const victims = isMount(scenario) && scenario !== "mount-detached"
    ? VICTIMS
    : ["process"] as const;
  const step = full ? 1 : Math.max(1, calls.length / (CI_KILLS * scale));
  for (let at = calls.length - 1, turn = 0; at >= 0; at -= step, turn++) {
    // Each of them at each call, or in turn.
    for (const victim of full ? victims : [victims[turn % victims.length]]) {
      const plan = { runtime, scenario, victim, images, index: Math.floor(at) };
      const name = titleOf(plan, calls[plan.index]);
      if (only && !only.test(name)) continue;
      progress(`${plan.index}/${calls.length} ${name}`);
      await kill(plan, tally);
    }
  }
  if (tally.kills === 0) return undefined;
  if (tally.survived > Math.max(1, MOST_SURVIVED * tally.kills)) {
    tally.violations.push(`${tally.survived} of ${tally.kills} kills did not come`);
  }
  const bad = tally.violations;
  const detail = `${calls.length} calls, ${tally.kills} kills: ${tally.survived} survived, ` +
    `${tally.persisted} devices persisted, taken over: ${tally.nodes} nodes, ` +
    `${tally.partitions} devices with partitions; ${bad.length} violations` +
    bad.map((text) => ` | ${text}`).slice(0, 3).join("");
  const outcome = bad.length === 0 ? "pass" : "fail";
  return { part: "kill", name: `${runtime} ${scenario}`, outcome, detail };
}

export const kills: Part = async (request) => {
  const rows: Row[] = [];
  for (const scenario of request.scenarios.filter((name) => !NOT_KILLED.includes(name))) {
    for (const runtime of request.runtimes) {
      const row = await killMany(runtime, scenario, request);
      if (!row) continue;
      rows.push(row);
      say(`kill: ${row.name}: ${row.detail}`);
    }
  }
  return rows;
};
