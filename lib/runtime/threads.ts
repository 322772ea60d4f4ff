/**
 * Chains of system calls by other threads, whatever makes a thread: each takes one chain at a time. A
 * chain that finds no thread waits in a queue, and can be taken back from there. One that a thread has
 * begun with cannot be stopped.
 *
 * A call that hangs, on a sick disk or a dead network, keeps its thread. Threads that have been at one
 * chain for long are replaced, so that those who wait for other disks are served.
 */
import type { PlainStep } from "./contract.ts";

/** What the calls returned, or why one could not be made. */
export type Answer = number[] | string;

/** A thread, as its runtime has it. */
export interface Thread {
  /** Whether it takes chains yet. If not, {@linkcode ThreadEvents.ready} tells. */
  readonly isReady: boolean;
  send(steps: readonly PlainStep[]): void;
  /** The process does not end before it. */
  ref(): void;
  /** It keeps no process from ending. */
  unref(): void;
  /** It has nothing to do. */
  end(): void;
}

/** Whom a thread tells. */
export interface ThreadEvents {
  ready(): void;
  answered(answer: Answer): void;
  died(message: string): void;
}

/** What a runtime must bring. */
export interface ThreadsOf {
  /** Starts one; throws where none can be started (RLIMIT_NPROC, say). */
  start(events: ThreadEvents): Thread;
  /** So many work at the same time: as many waits as overlap. */
  readonly usual: number;
  /** So many there are with those that hang. */
  readonly most: number;
  /** Makes the calls here and now, for where no thread can be started. */
  here(steps: readonly PlainStep[]): number[];
}

/** A thread that has been at one chain for so long is not counted among those that work. */
const HANGING_MS = 100;

/** Calls to be made, and whom to tell. Threads share the memory that addresses among them mean. */
interface Job {
  readonly steps: readonly PlainStep[];
  resolve(results: number[]): void;
  reject(error: unknown): void;
  /** Whether nobody keeps the process for it any more. */
  isGivenUp: boolean;
}

interface Member {
  readonly thread: Thread;
  isReady: boolean;
  job: Job | undefined;
  since: number;
}

/** As few threads as there are chains at once, up to a bound. */
export class Threads {
  readonly #of: ThreadsOf;
  readonly #members = new Set<Member>();
  readonly #queue: Job[] = [];
  #isWatching = false;
  /** One has died before it could do anything: others would, too. Each new chain tries again. */
  #isRefused = false;

  constructor(of: ThreadsOf) {
    this.#of = of;
  }

  /** Whether one stands ready, or will at once. */
  get available(): boolean {
    return this.#members.size > 0;
  }

  /** Begins to start one, if there is none. */
  start(): void {
    if (!this.available) this.#add();
  }

  /** When `signal` comes while it waits for a thread, it is taken back and rejects with the reason. */
  chain(steps: readonly PlainStep[], signal?: AbortSignal): Promise<number[]> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const { promise, resolve, reject } = Promise.withResolvers<number[]>();
    const job: Job = { steps, resolve, reject, isGivenUp: false };
    this.#queue.push(job);
    this.#isRefused = false;
    this.#deal();
    if (!signal) return promise;
    const giveUp = () => this.#giveUp(job, signal.reason);
    signal.addEventListener("abort", giveUp);
    return promise.finally(() => signal.removeEventListener("abort", giveUp));
  }

  #giveUp(job: Job, reason: unknown): void {
    job.isGivenUp = true;
    const place = this.#queue.indexOf(job);
    if (place >= 0) {
      this.#queue.splice(place, 1);
      job.reject(reason);
    }
    this.#deal();
  }

  /** Whether it was started, or could not be. */
  #add(): boolean {
    if (this.#isRefused) return false;
    const end = (member: Member) => {
      const { job } = member;
      member.job = undefined;
      return job;
    };
    const events: ThreadEvents = {
      ready: () => {
        member.isReady = true;
        this.#deal();
      },
      answered: (answer) => {
        const job = end(member);
        if (typeof answer === "string") job?.reject(new Error(`a call of loopdev's: ${answer}`));
        else job?.resolve(answer);
        this.#deal();
      },
      died: (message) => {
        this.#members.delete(member);
        this.#isRefused ||= !member.isReady;
        end(member)?.reject(new Error(`a thread of loopdev's died: ${message}`));
        this.#deal();
      },
    };
    let thread: Thread;
    try {
      thread = this.#of.start(events);
    } catch {
      return false;
    }
    const member: Member = { thread, isReady: thread.isReady, job: undefined, since: 0 };
    this.#members.add(member);
    return true;
  }

  /** Gives waiting chains to threads. Only a thread that somebody waits for is ref()ed. */
  #deal(): void {
    this.#hand();
    this.#grow();
    this.#hand();
    for (const member of this.#members) {
      const { thread, isReady, job } = member;
      const isIdle = isReady && !job && this.#queue.length === 0;
      if (isIdle && this.#members.size > this.#of.usual) {
        this.#members.delete(member);
        thread.end();
      } else if (job ? !job.isGivenUp : !isReady && this.#queue.length > 0) thread.ref();
      else thread.unref();
    }
    if (this.available) return;
    for (const { steps, resolve } of this.#queue.splice(0)) resolve(this.#of.here(steps));
  }

  #hand(): void {
    for (const member of this.#members) {
      if (!member.isReady || member.job || this.#queue.length === 0) continue;
      member.job = this.#queue.shift()!;
      member.since = performance.now();
      member.thread.send(member.job.steps);
    }
  }

  /** Starts threads for those that wait, beside the ones that hang. */
  #grow(): void {
    const { usual, most } = this.#of;
    const members = [...this.#members];
    let waiting = this.#queue.length - members.filter(({ isReady }) => !isReady).length;
    const hangs = ({ job, since }: Member) => job && performance.now() - since >= HANGING_MS;
    let working = members.filter((member) => !hangs(member)).length;
    while (waiting > 0 && working < usual && this.#members.size < most && this.#add()) {
      waiting--;
      working++;
    }
    if (waiting > 0) this.#watch();
  }

  /** Looks again when a thread may have been found to hang. */
  #watch(): void {
    if (this.#isWatching || this.#members.size >= this.#of.most || !this.available) return;
    this.#isWatching = true;
    setTimeout(() => {
      this.#isWatching = false;
      this.#deal();
    }, HANGING_MS);
  }
}
