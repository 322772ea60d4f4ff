/**
 * Part "faults": each system call of each scenario fails, with each error that it can give: once, and from
 * then on. Where that makes the library undo what it did, each call of the undo fails as well. The result
 * must be success, or a LoopError that names the first call that failed; nothing may be left but what the
 * error names, and no device of anybody else may be changed. Which calls there are is learnt from a run
 * without faults, and what an undo calls from the run with the first fault alone.
 */
import { isDeepStrictEqual } from "node:util";
import { progress, say } from "../dev/terminal.ts";
import { Random } from "../tests/cases/random.ts";
import { devicesOf, type Part, type Request, type Row, tally } from "./common.ts";
import { ERRORS, RUNTIME_FILES, UNFAITHFUL } from "./errors.ts";
import { AND_THEN, type Fault, injections, pairs, plan, type Shot } from "./fault_plan.ts";
import { hidesFirst, isLie, isLoss, names, saysLoss, wordsOf } from "./fault_rules.ts";
import { keepersOf, recordsOf } from "../tests/support/keepers.ts";
import { damageOfTable } from "./grow_ends.ts";
import { boundBy, leftovers, takeAway, touched } from "./leftovers.ts";
import { endOf, mountsOfImages, nextMount } from "./mount_ends.ts";
import { foreignChanges, inheritable } from "./rules.ts";
import { isMount, type RuntimeName, RUNTIMES, type ScenarioName, WARM_UPS } from "./scenarios.ts";
import { beginTrace, between, type Call, signature } from "./strace.ts";
import { type Reply, Subject } from "./subject_process.ts";

/** Threads that a runtime's own pool may add while it is used: Deno's grows with the calls under way. */
const POOL_THREADS = 64;
/** Others take devices meanwhile, and a runtime's own calls shift what `when=` counts: then again. */
const TRIES = 8;
/** The same of pairs: what an undo asks of other processes is asked not each time. */
const PAIR_TRIES = 3;
/** Of an experiment's violations. */
const MOST_SHOWN = 20;
/** Of the faults, how many may not hit the call they are meant for. */
const MOST_MISSED = 0.05;
/** What other processes have open decides which of these calls is made, and when: they do not count. */
const OF_OTHERS = / \/proc\/\d+\//;
/** At ci size all experiments have so many seconds, by the scale. */
const CI_SECONDS = 280;

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
const comparable = (reply: Reply): unknown =>
  JSON.parse(
    JSON.stringify({ ...reply, warned: undefined }).replaceAll(/\/dev\/loop\d+/g, "/dev/loopN"),
  );

/** Where the kernel cannot be asked whether it has let go of the device, "deferred" is the answer. */
const deferred = (reply: Reply): Reply =>
  JSON.parse(JSON.stringify(reply).replaceAll(/"(detached|unmounted)":"\1"/g, '"$1":"deferred"'));

/** What decides which faults are tried. */
interface Drawn extends Request {
  /** Whole numbers. */
  random(): number;
}

/** What came of a fault. */
interface Outcome {
  readonly reply: Reply;
  /** The calls that it made fail. */
  readonly hits: readonly Call[];
  /** What was called after the first of them. */
  readonly after: readonly Call[];
}

class Experiment {
  readonly #violations: string[] = [];
  readonly #outcomes: string[] = [];
  /** Faults that did not hit their call. */
  readonly #missed: string[] = [];
  /** Pairs of which the second call was not made again. */
  #strays = 0;
  #tried = 0;
  /** What came of a fault that stays the only one, by its name. */
  readonly #alone = new Map<string, Reply>();
  /** What the library has been seen to call after a fault. */
  readonly #undone = new Set<string>();
  /** All that errors have said is left. */
  #said = "";
  #baseline: Reply = {};
  #descriptors: string[] = [];
  #threads = 0;
  /** What strace made fail, which need not be the call that was meant. */
  #given = "";
  #subject!: Subject;

  readonly runtime: RuntimeName;
  readonly scenario: ScenarioName;
  readonly request: Drawn;

  constructor(runtime: RuntimeName, scenario: ScenarioName, request: Drawn) {
    this.runtime = runtime;
    this.scenario = scenario;
    this.request = request;
  }

  /** A process can do it but once. */
  get #isNew(): boolean {
    return this.scenario in WARM_UPS;
  }

  get name(): string {
    return `${this.runtime} ${this.scenario}`;
  }

  /** `end`: when to try nothing more, as performance.now() has it. */
  async run(end: number): Promise<Row | undefined> {
    await this.#start();
    try {
      // Whose owner died with his keeper is taken away then, and not by what is looked at here.
      if (isMount(this.scenario)) await nextMount();
      const calls = await this.#learn();
      const faults = plan(calls, this.name, this.request);
      if (faults.length === 0 && this.#violations.length === 0) return undefined;
      const drawn = this.request.full ? faults : this.#shuffled(faults);
      const most = Math.ceil(this.request.scale);
      let found = 0;
      for (const [i, fault] of drawn.entries()) {
        if (performance.now() > end) break;
        progress(`${i}/${drawn.length} ${fault.name}`);
        const all = this.#pairsOf(fault, await this.#try(fault), calls);
        found += all.length;
        for (const pair of end === Infinity ? all : this.#shuffled(all).slice(0, most)) {
          progress(`${i}/${drawn.length} ${pair.name}`);
          await this.#try(pair);
        }
      }
      await this.#checkEnd();
      return this.#row(calls.length, faults.length, found);
    } finally {
      await this.#subject[Symbol.asyncDispose]();
    }
  }

  #shuffled<T>(all: readonly T[]): T[] {
    return all.map((one) => ({ one, at: this.request.random() })).sort((a, b) => a.at - b.at)
      .map(({ one }) => one);
  }

  /** Faults of what the library called because `fault` came, unless that has been seen to fail. */
  #pairsOf(fault: Fault, outcome: Outcome | undefined, calls: readonly Call[]): Fault[] {
    if (!outcome || fault.lasting) return [];
    const { reply, after } = outcome;
    const usual = new Set(calls.map(signature));
    const own = reply.error ? after : after.filter((call) => !usual.has(signature(call)));
    const key = own.map(signature).join("\n");
    if (this.#undone.has(key) && !this.request.only) return [];
    this.#undone.add(key);
    return pairs(fault, own, this.request.only);
  }

  /** Until it hits what is meant. What must hold, holds for each try. */
  async #try(fault: Fault): Promise<Outcome | undefined> {
    const { call, occurrence, then } = fault;
    const isAlike = (shot: Shot) => (call: Call) => signature(call) === signature(shot.call);
    let nths = [call.nth, then?.call.nth ?? 0];
    this.#tried++;
    for (let tries = then ? PAIR_TRIES : TRIES; tries > 0; tries--) {
      const outcome = await this.#inject(fault, nths);
      if (!outcome) return undefined;
      const { hits } = outcome;
      const isHit = (fault.lasting ? hits.length > 0 : hits.some(isAlike(fault))) &&
        (!then || hits.length > 1 && hits.some(isAlike(then)));
      if (isHit) {
        if (!then) this.#alone.set(fault.name, outcome.reply);
        return outcome;
      }
      const first = (await this.#trace()).calls.filter(isAlike(fault))[occurrence]?.nth;
      nths = [first ?? nths[0], nths[1]];
      if (!then) continue;
      const name = fault.name.split(AND_THEN)[0];
      const alone = await this.#inject({ ...fault, then: undefined, name }, nths);
      const second = alone?.after.filter(isAlike(then))[then.occurrence]?.nth;
      nths = [nths[0], second ?? nths[1]];
    }
    if (!then && !OF_OTHERS.test(fault.name)) this.#missed.push(fault.name);
    if (then) this.#strays++;
    return undefined;
  }

  /** What must hold when all is done. */
  async #checkEnd(): Promise<void> {
    const threads = this.#subject.threads().length;
    if (threads > this.#threads + POOL_THREADS) {
      this.#blame(this.name, `${this.#threads} threads at the begin, ${threads} at the end`);
    }
    const missed = this.#missed;
    if (missed.length > Math.max(3, MOST_MISSED * this.#tried)) {
      const problem = `${missed.length} of ${this.#tried} faults missed their call`;
      this.#blame(this.name, `${problem}: ${missed.join(", ")}`);
    }
    // After all these errors nothing may keep the process.
    const status = await this.#subject.leave();
    if (status !== 0) this.#blame(this.name, `the process ends with ${status ?? "nothing"}`);
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
    if (isMount(this.scenario) && !this.#isNew) await this.#checkMounts(this.name, [], reply);
    await this.#checkLeftovers(this.name, all, [], reply, prepared);
    return calls;
  }

  /** undefined: the process has died, or hangs. `nths`: which calls of their names they are in their threads. */
  async #inject(fault: Fault, nths: readonly number[]): Promise<Outcome | undefined> {
    const { name, code, then } = fault;
    const subject = this.#subject;
    await subject.prepare(this.scenario);
    const prepared = this.#prepared();
    const shots = [fault, ...then ? [then] : []].map((shot, i) => ({ ...shot, nth: nths[i] }));
    const trace = await beginTrace(subject.pid, { inject: injections(shots) });
    const reply = await subject.act(this.scenario).catch((error: Error) => error);
    const all = await trace.end();
    if (reply instanceof Error) return await this.#buried(fault, reply, all);
    this.#said += wordsOf(reply);
    const calls = between(all);
    const hits = calls.filter(({ injected }) => injected !== undefined);
    this.#given = hits.map((hit) => hit.text).slice(0, 4).join("; ");
    // Where strace hit another call than the one that was meant, it may have made that one lie, or have hit
    // one of a pipe, which is not looked at.
    const isStray = (one: Call) =>
      one.injected !== undefined && one.at > (calls[0]?.at ?? 0) && !hits.includes(one);
    const isLying = (hit: Call) => isLie(signature(hit), code);
    if (!hits.some(isLying) && !all.some(isStray)) this.#judge(fault, reply, hits);
    for (const problem of foreignChanges(calls, prepared)) this.#blame(name, problem);
    const failed = await subject.undo(this.scenario).catch((error: Error) => error);
    if (failed instanceof Error) return await this.#buried(fault, failed, all);
    const stays = hits.some((hit) => KEEPS.mounts.test(signature(hit)));
    if (failed && !stays) this.#blame(name, `could not be undone afterwards: ${failed}`);
    if (isMount(this.scenario)) await this.#checkMounts(name, hits, reply);
    if (this.scenario === "grow") {
      const damage = await damageOfTable(subject.grown).catch((error) => [error.message]);
      for (const problem of damage) this.#blame(name, problem);
    }
    await this.#checkLeftovers(name, all, hits, reply, prepared);
    if (this.#isNew) await this.#restart(all);
    const first = calls.indexOf(hits[0]);
    const after = first < 0 ? [] : calls.slice(first + 1).filter((call) => !hits.includes(call));
    return { reply, hits, after };
  }

  /** Goes on with another process. */
  async #buried(fault: Fault, { message }: Error, all: readonly Call[]): Promise<undefined> {
    const { name, lasting, then = fault } = fault;
    // Deno opens /proc/self/maps for itself, and Node and Deno read and write what wakes their threads, by as
    // manieth a call: they die where they cannot.
    const isOwnDeath = lasting && /has panicked/.test(message) ||
      [fault, then].some(({ call }) => /^(read|write)$/.test(call.name));
    if (isOwnDeath) this.#outcomes.push("died by itself");
    else this.#blame(name, message);
    await this.#restart(all);
    return undefined;
  }

  #judge({ name, call, lasting, then }: Fault, reply: Reply, hits: readonly Call[]): void {
    const { result, error } = reply;
    const lost = hits.filter(isLoss);
    if (!error) {
      this.#outcomes.push("success");
      const allowed = [this.#baseline, ...then || lasting ? [deferred(this.#baseline)] : []];
      const isAllowed = (one: Reply) => isDeepStrictEqual(comparable(reply), comparable(one));
      if (!allowed.some(isAllowed)) {
        this.#blame(name, `resolved to something else: ${JSON.stringify(result)}`);
      }
      for (const { text } of lost) this.#blame(name, `succeeds though bytes are lost: ${text}`);
      return;
    }
    this.#outcomes.push(`${error.name} ${error.code}`);
    const told = `rejected with ${error.name} ${wordsOf(reply)} ` +
      `[${error.syscall} ${error.request} ${error.path}]`;
    if (error.name !== "LoopError" || !hits.some((hit) => names(error, hit))) {
      return this.#blame(name, told);
    }
    if (lost.length > 0 && !saysLoss(reply)) this.#blame(name, `does not say the loss: ${told}`);
    const isFirst = hits.length > 0 && signature(hits[0]) === signature(call) &&
      (!then || hits.slice(1).every((hit) => signature(hit) === signature(then.call)));
    const alone = this.#alone.get(name.split(then ? AND_THEN : " from then on")[0]);
    if ((then || lasting) && isFirst && alone && hidesFirst(alone, reply)) {
      this.#blame(name, `hides the first error, ${alone.error!.message}: ${told}`);
    }
  }

  /** What its end takes away is taken away by that, and looked at. */
  async #checkMounts(name: string, hits: readonly Call[], reply: Reply): Promise<void> {
    const isMounted = reply.error === undefined;
    const { pid, images } = this.#subject;
    const mayStay = (what: RegExp) => hits.some((hit) => what.test(signature(hit)));
    const [mounts, records] = [mountsOfImages(images), recordsOf(pid)];
    const said = wordsOf(reply);
    for (const line of mounts) {
      const isSaid = mayStay(KEEPS.mounts) && said.includes(`umount ${line.split(" ")[4]}`);
      if (!isSaid) this.#blame(name, `${line} is left, and not said: ${said}`);
    }
    if (!mayStay(KEEPS.records)) {
      for (const path of records) {
        this.#blame(name, `${path} is left`);
      }
    }
    const isKept = this.scenario === "mount-detached" || keepersOf(pid).length > 0;
    if (isMounted && !isKept) this.#blame(name, "it mounts without a keeper");
    if (mounts.length + records.length > 0) await this.#restart([]);
  }

  async #checkLeftovers(
    name: string,
    all: readonly Call[],
    hits: readonly Call[],
    reply: Reply,
    prepared: readonly string[],
  ): Promise<void> {
    const mayLeave = (what: RegExp) => hits.some((hit) => what.test(signature(hit)));
    const said = wordsOf(reply);
    const isSaid = (what: string) => said.includes(what);
    const wait = !mayLeave(LEAVES.nodes) && (!mayLeave(LEAVES.partitions) || !!reply.error);
    const ours = [
      ...boundBy(all),
      ...prepared.map((path) => Number(path.slice("/dev/loop".length))),
    ];
    const left = await leftovers(this.#subject.images, touched(all), wait, ours);
    const wrong = [
      ...left.devices,
      ...mayLeave(LEAVES.partitions) && !reply.error ? [] : left.partitions,
      ...mayLeave(LEAVES.nodes) && !reply.error ? [] : left.nodes,
    ].filter((what) => !isSaid(what));
    for (const what of wrong) this.#blame(name, `${what} is left, and not said: ${said}`);
    takeAway(left);
    const count = (links: string[], link: string) => links.filter((other) => other === link).length;
    const descriptors = this.#subject.descriptors();
    const more = descriptors.filter((link) =>
      !RUNTIME_FILES.test(link) &&
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
      for (const problem of await endOf(pid, images, alone)) {
        const [what] = problem.split(" is left");
        if (!this.#said.includes(`${what} is left: rm`)) this.#blame(this.name, problem);
      }
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

  #row(calls: number, faults: number, found: number): Row {
    const bad = this.#violations;
    const detail = `${calls} calls, tried ${this.#tried} of ${faults} faults and ${found} pairs: ` +
      `${tally(this.#outcomes)}; ${this.#missed.length} missed, ${this.#strays} pairs ` +
      `not met again, ${bad.length} violations${
        bad.map((text) => ` | ${text}`).slice(0, 3).join("")
      }`;
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
  const seed = Math.floor(Math.random() * 2 ** 32);
  if (!request.full) say(`faults: drawn with seed ${seed}`);
  const numbers = new Random(seed);
  const random = () => numbers.u32();
  const turn = Math.floor(random() * RUNTIMES.length);
  const experiments = scenarios.flatMap((scenario, i) =>
    // At ci size each scenario has one of the runtimes, another one the next time.
    request.runtimes.filter((_, j) =>
      request.full || request.only || (i + turn + j) % request.runtimes.length === 0
    )
      .map((runtime) => new Experiment(runtime, scenario, { ...request, random }))
  );
  const rows: Row[] = [];
  // One after the other: two would take each other's free device, and shift what `when=` counts.
  const isAll = request.full || request.only;
  const end = performance.now() + (isAll ? Infinity : CI_SECONDS * request.scale * 1000);
  for (const [i, experiment] of experiments.entries()) {
    const now = performance.now();
    const row = await experiment.run(now + (end - now) / (experiments.length - i));
    if (!row) continue;
    rows.push(row);
    say(`faults: ${row.name}: ${row.detail}`);
  }
  return rows;
};
