/**
 * Part "faults": each system call of each scenario fails once, with each error that it can give. The
 * result must be success, or a LoopError that names the call; nothing may be left, and no device of
 * anybody else may be changed. Which calls there are is learnt from a run without faults.
 */
import { isDeepStrictEqual } from "node:util";
import { progress, say } from "../dev/terminal.ts";
import { devicesOf, type Part, type Request, type Row, tally } from "./common.ts";
import { ERRORS, UNFAITHFUL } from "./errors.ts";
import { type Fault, isLie, names, plan } from "./fault_plan.ts";
import { keepersOf, recordsOf } from "../tests/support/keepers.ts";
import { damageOfTable } from "./grow_ends.ts";
import { leftovers, takeAway, touched } from "./leftovers.ts";
import { endOf, mountsOfImages, nextMount } from "./mount_ends.ts";
import { foreignChanges, inheritable } from "./rules.ts";
import { isMount, type RuntimeName, RUNTIMES, type ScenarioName, WARM_UPS } from "./scenarios.ts";
import { beginTrace, between, type Call, signature } from "./strace.ts";
import { type Reply, Subject } from "./subject_process.ts";

/** Threads that a runtime's own pool may add while it is used. */
const POOL_THREADS = 8;
/** Others take devices meanwhile, and a runtime's own calls shift what `when=` counts: then again. */
const TRIES = 8;
/** Of an experiment's violations. */
const MOST_SHOWN = 20;
/** Of the faults, how many may not hit the call they are meant for. */
const MOST_MISSED = 0.02;
/** What other processes have open decides which of these calls is made, and when: they do not count. */
const OF_OTHERS = / \/proc\/\d+\//;

/** What stays if just this call fails: the next attach() takes it over. */
const LEAVES = {
  nodes: /^unlink/,
  partitions: /^ioctl BLKPG_DEL_PARTITION/,
};

/** What stays until the process ends, if just this call fails. */
const KEEPS = {
  mounts: /^umount2/,
  records: /^(umount2|unlinkat|readlinkat \/proc\/self\/fd)/,
};

/** What a reply says, without the number of the device, which is whichever was free. */
function comparable(reply: Reply): unknown {
  return JSON.parse(JSON.stringify(reply).replaceAll(/\/dev\/loop\d+/g, "/dev/loopN"));
}

class Experiment {
  readonly #violations: string[] = [];
  readonly #outcomes: string[] = [];
  /** Faults that did not hit their call. */
  readonly #missed: string[] = [];
  #baseline: Reply = {};
  #descriptors: string[] = [];
  #threads = 0;
  /** What strace made fail, which need not be the call that was meant. */
  #given = "";
  #subject!: Subject;

  readonly runtime: RuntimeName;
  readonly scenario: ScenarioName;
  readonly request: Request;
  readonly turn: number;

  constructor(runtime: RuntimeName, scenario: ScenarioName, request: Request, turn: number) {
    this.runtime = runtime;
    this.scenario = scenario;
    this.request = request;
    this.turn = turn;
  }

  /** A process can do it but once. */
  get #isNew(): boolean {
    return this.scenario in WARM_UPS;
  }

  get name(): string {
    return `${this.runtime} ${this.scenario}`;
  }

  async run(): Promise<Row | undefined> {
    await this.#start();
    try {
      // Whose owner died with his keeper is taken away then, and not by what is looked at here.
      if (isMount(this.scenario)) await nextMount();
      const calls = await this.#learn();
      const faults = plan(calls, String(this.#subject.pid), this.name, this.request, this.turn);
      if (faults.length === 0 && this.#violations.length === 0) return undefined;
      for (const [i, fault] of faults.entries()) {
        progress(`${i}/${faults.length} ${fault.name}`);
        let { nth } = fault.call;
        let tries = 1;
        while (!await this.#inject(fault, nth) && tries < TRIES) {
          tries++;
          const alike = (call: Call) => signature(call) === signature(fault.call);
          nth = (await this.#trace()).calls.filter(alike)[fault.occurrence]?.nth ?? nth;
        }
        if (tries === TRIES && !OF_OTHERS.test(fault.name)) this.#missed.push(fault.name);
      }
      const threads = this.#subject.threads().length;
      if (threads > this.#threads + POOL_THREADS) {
        this.#blame(this.name, `${this.#threads} threads at the begin, ${threads} at the end`);
      }
      const missed = this.#missed;
      if (missed.length > Math.max(3, MOST_MISSED * faults.length)) {
        const problem = `${missed.length} of ${faults.length} faults missed their call`;
        this.#blame(this.name, `${problem}: ${missed.join(", ")}`);
      }
      return this.#row(faults);
    } finally {
      await this.#subject[Symbol.asyncDispose]();
    }
  }

  async #start(images?: readonly string[]): Promise<void> {
    this.#subject = await Subject.start(this.runtime, this.scenario, images);
    this.#descriptors = this.#subject.descriptors();
    this.#threads = this.#subject.threads().length;
  }

  /** The devices that the scenario bound before its act. */
  #prepared(): string[] {
    return this.#subject.images.flatMap(devicesOf).map(({ number }) => `/dev/loop${number}`);
  }

  /** One run without faults. */
  async #trace() {
    await this.#subject.prepare(this.scenario);
    const prepared = this.#prepared();
    const trace = await beginTrace(this.#subject.pid);
    const reply = await this.#subject.act(this.scenario);
    const all = await trace.end();
    await this.#subject.undo(this.scenario);
    if (this.#isNew) await this.#restart(all);
    return { reply, prepared, all, calls: between(all) };
  }

  /** What is called, what comes of it, and what must hold anyway. */
  async #learn(): Promise<Call[]> {
    const { reply, prepared, all, calls } = await this.#trace();
    this.#baseline = reply;
    for (const problem of [...foreignChanges(calls, prepared), ...inheritable(calls)]) {
      this.#blame(this.name, problem);
    }
    for (const name of new Set(calls.map(({ name }) => name))) {
      if (name in ERRORS || name in UNFAITHFUL) continue;
      this.#blame(this.name, `${name}() has no row in torture/errors.ts`);
    }
    if (isMount(this.scenario) && !this.#isNew) await this.#checkMounts(this.name, [], true);
    await this.#checkLeftovers(this.name, all, []);
    return calls;
  }

  /** Resolves to whether it was the call meant that failed; what must hold, holds for any. */
  async #inject({ call, code, lasting, name }: Fault, nth: number): Promise<boolean> {
    const subject = this.#subject;
    await subject.prepare(this.scenario);
    const prepared = this.#prepared();
    const inject = `${call.name}:error=${code}:when=${nth}${lasting ? "+" : ""}`;
    const trace = await beginTrace(subject.pid, { inject });
    const reply = await subject.act(this.scenario).catch((error: Error) => error);
    const all = await trace.end();
    if (reply instanceof Error) {
      this.#blame(name, reply.message);
      await this.#restart(all);
      return true;
    }
    const calls = between(all);
    const hits = calls.filter(({ injected }) => injected !== undefined);
    const isHit = hits.some((hit) => signature(hit) === signature(call));
    this.#given = hits.map((hit) => hit.text).join("; ");
    // Where strace hit another call than the one that was meant, it may have made that one lie.
    if (!hits.some((hit) => isLie(signature(hit), code))) this.#judge(name, reply, hits);
    for (const problem of foreignChanges(calls, prepared)) this.#blame(name, problem);
    const failed = await subject.undo(this.scenario);
    const stays = hits.some((hit) => KEEPS.mounts.test(signature(hit)));
    if (failed && !stays) this.#blame(name, `could not be undone afterwards: ${failed}`);
    if (isMount(this.scenario)) await this.#checkMounts(name, hits, reply.error === undefined);
    if (this.scenario === "grow") {
      for (const problem of await damageOfTable(subject.grown)) this.#blame(name, problem);
    }
    await this.#checkLeftovers(name, all, hits);
    if (this.#isNew) await this.#restart(all);
    return isHit;
  }

  #judge(name: string, reply: Reply, hits: readonly Call[]): void {
    const { result, error } = reply;
    if (!error) {
      this.#outcomes.push("success");
      if (!isDeepStrictEqual(comparable(reply), comparable(this.#baseline))) {
        this.#blame(name, `resolved to something else: ${JSON.stringify(result)}`);
      }
      return;
    }
    this.#outcomes.push(`${error.name} ${error.code}`);
    if (error.name === "LoopError" && hits.some((hit) => names(error, hit))) return;
    this.#blame(
      name,
      `rejected with ${error.name} ${error.message} ` +
        `[${error.syscall} ${error.request} ${error.path}]`,
    );
  }

  /** What its end takes away is taken away by that, and looked at. */
  async #checkMounts(name: string, hits: readonly Call[], isMounted: boolean): Promise<void> {
    const { pid, images } = this.#subject;
    const mayStay = (what: RegExp) => hits.some((hit) => what.test(signature(hit)));
    const [mounts, records] = [mountsOfImages(images), recordsOf(pid)];
    if (!mayStay(KEEPS.mounts)) { for (const line of mounts) this.#blame(name, `${line} is left`); }
    if (!mayStay(KEEPS.records)) {
      for (const path of records) {
        this.#blame(name, `${path} is left`);
      }
    }
    const isKept = this.scenario === "mount-detached" || keepersOf(pid).length > 0;
    if (isMounted && !isKept) this.#blame(name, "it mounts without a keeper");
    if (mounts.length + records.length > 0) await this.#restart([]);
  }

  async #checkLeftovers(name: string, all: readonly Call[], hits: readonly Call[]): Promise<void> {
    const mayLeave = (what: RegExp) => hits.some((hit) => what.test(signature(hit)));
    const wait = !Object.values(LEAVES).some(mayLeave);
    const left = await leftovers(this.#subject.images, touched(all), wait);
    const wrong = [
      ...left.devices,
      ...mayLeave(LEAVES.partitions) ? [] : left.partitions,
      ...mayLeave(LEAVES.nodes) ? [] : left.nodes,
    ];
    for (const what of wrong) this.#blame(name, `${what} is left`);
    takeAway(left);
    const count = (links: string[], link: string) => links.filter((other) => other === link).length;
    const descriptors = this.#subject.descriptors();
    const more = descriptors.filter((link) =>
      count(descriptors, link) > count(this.#descriptors, link)
    );
    if (more.length === 0) return;
    this.#blame(name, `descriptors are left open: ${[...new Set(more)].join(", ")}`);
    // The device would stay with it.
    await this.#restart(all);
  }

  async #restart(all: readonly Call[]): Promise<void> {
    const { pid, images } = this.#subject;
    const alone = keepersOf(pid).length === 0;
    await this.#subject[Symbol.asyncDispose]();
    if (isMount(this.scenario)) {
      for (const problem of await endOf(pid, images, alone)) this.#blame(this.name, problem);
    }
    takeAway(await leftovers(this.#subject.images, touched(all)));
    await this.#start(this.#subject.images);
  }

  #blame(name: string, problem: string): void {
    if (this.#violations.push(`${name}: ${problem}`) > MOST_SHOWN) return;
    const only = name.replaceAll(/[^\w ]/g, ".");
    const given = this.#given && `\n  after ${this.#given}`;
    say(
      `VIOLATION ${name}\n  ${problem}${given}\n  again: deno task torture --part faults --size full ` +
        `--runtime ${this.runtime} --scenario ${this.scenario} --only '${only}$'`,
    );
  }

  #row(faults: readonly Fault[]): Row {
    const bad = this.#violations;
    const detail = `${new Set(faults.map(({ call }) => call)).size} calls, ` +
      `${faults.length} faults: ${tally(this.#outcomes)}; ${this.#missed.length} missed, ` +
      `${bad.length} violations${bad.map((text) => ` | ${text}`).slice(0, 3).join("")}`;
    const outcome = bad.length === 0 ? "pass" : "fail";
    return { part: "faults", name: this.name, outcome, detail };
  }
}

export const faults: Part = async (request) => {
  for (const [call, why] of Object.entries(UNFAITHFUL)) {
    say(`faults: ${call}() is left out: ${why}`);
  }
  // A process for each fault takes a while.
  const scenarios = request.scenarios.filter((name) => request.full || !(name in WARM_UPS));
  const experiments = scenarios.flatMap((scenario, turn) =>
    request.runtimes.map((runtime) =>
      new Experiment(runtime, scenario, request, turn + RUNTIMES.indexOf(runtime))
    )
  );
  const rows: Row[] = [];
  // One after the other: two would take each other's free device, and shift what `when=` counts.
  for (const experiment of experiments) {
    const row = await experiment.run();
    if (!row) continue;
    rows.push(row);
    say(`faults: ${row.name}: ${row.detail}`);
  }
  return rows;
};
