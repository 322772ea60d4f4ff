/**
 * A pool of threads that make chains of system calls; each thread makes one chain at a time. A chain
 * that finds no thread waits in a queue, and its signal can take it back from there. A chain that a
 * thread has begun cannot be stopped.
 *
 * A call may hang, on a broken disk or a dead network. A thread that stays in a call for long does not
 * count as one of the usual threads any more, and another one stands in for it: other disks are served.
 * On a busy machine a thread may also be late because it gets no processor. More threads would make that
 * worse. So the thread itself says whether it is in a call, and one thread starts after the other.
 *
 * @module
 */
import type { PlainStep } from "./contract.ts";

/** What the calls returned, or the message of an exception. */
export type Answer = number[] | string;

/** A thread of a runtime's. */
export interface Thread {
  /** Whether it takes chains yet; if not, it calls {@linkcode ThreadEvents.ready} later. */
  readonly isReady: boolean;
  /** Whether it has begun with the chain that was sent last, and has not ended it. */
  isInCall(): boolean;
  send(steps: readonly PlainStep[]): void;
  /** The process does not end before it. */
  ref(): void;
  /** It keeps no process from ending. */
  unref(): void;
  /** Called while it has nothing to do. */
  end(): void;
}

/** What a thread calls. */
export interface ThreadEvents {
  ready(): void;
  answered(answer: Answer): void;
  died(message: string): void;
}

/** How a runtime makes threads. */
export interface ThreadsOf {
  /** Starts one. Throws where the system allows no more, by RLIMIT_NPROC for example. */
  start(events: ThreadEvents): Thread;
  /** How many there are at most while none hangs. */
  readonly usual: number;
  /** A chain that all threads let wait for so many ms is worth another one. */
  readonly patienceMs: number;
  /** How many there are at most, with those that hang. */
  readonly most: number;
  /** Makes the calls on this thread: where no other can be started. */
  here(steps: readonly PlainStep[]): number[];
}

/** A thread that has been seen in one chain for so long counts as one that hangs. */
const HANGING_MS = 100;

/** A chain, and the promise of its results. */
interface Job {
  readonly steps: readonly PlainStep[];
  resolve(results: number[]): void;
  reject(error: unknown): void;
  /** Its signal has aborted: the process may end before it. */
  isGivenUp: boolean;
}

interface Member {
  readonly thread: Thread;
  isReady: boolean;
  job: Job | undefined;
  /** When it was first seen in a call of its chain. */
  since: number | undefined;
}

/** Whether it stays in a call. Each look counts: a thread that has no processor yet is in none. */
function hangs(member: Member): boolean {
  if (!member.job || !member.thread.isInCall()) return false;
  member.since ??= performance.now();
  return performance.now() - member.since >= HANGING_MS;
}

/** No more threads than there are chains at the same time. */
export class Threads {
  readonly #of: ThreadsOf;
  readonly #members = new Set<Member>();
  readonly #queue: Job[] = [];
  /** Since when a chain has waited though no thread was starting. */
  #shortSince: number | undefined;
  #watching: { timer: ReturnType<typeof setTimeout>; ms: number } | undefined;
  /** One died before it was ready, and others would. Each new chain tries again. */
  #isRefused = false;

  constructor(of: ThreadsOf) {
    this.#of = of;
  }

  /** Whether one has been started. */
  get available(): boolean {
    return this.#members.size > 0;
  }

  /** Begins to start one if there is none. */
  start(): void {
    if (!this.available) this.#add();
  }

  /** If `signal` aborts before a thread has begun, rejects with its reason, and no call is made. */
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

  /** Starts a thread; false if none can be started. */
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
    const member: Member = { thread, isReady: thread.isReady, job: undefined, since: undefined };
    this.#members.add(member);
    return true;
  }

  /** Gives waiting chains to threads. A thread is ref()ed while somebody waits for it, and only then. */
  #deal(): void {
    this.#hand();
    this.#grow();
    this.#hand();
    if (this.#queue.length === 0) this.#stopWatching();
    const { usual } = this.#of;
    for (const member of this.#members) {
      const { thread, isReady, job } = member;
      const isIdle = isReady && !job && this.#queue.length === 0;
      if (isIdle && this.#members.size >= usual && this.#working > usual) {
        this.#members.delete(member);
        thread.end();
      } else if (job ? !job.isGivenUp : !isReady && this.#queue.length > 0) thread.ref();
      else thread.unref();
    }
    if (this.available) return;
    for (const { steps, resolve } of this.#queue.splice(0)) resolve(this.#of.here(steps));
  }

  #hand(): void {
    if (this.#queue.length === 0) return;
    for (const member of this.#members) {
      if (!member.isReady || member.job) continue;
      member.job = this.#queue.shift()!;
      member.since = undefined;
      member.thread.send(member.job.steps);
      if (this.#queue.length === 0) return;
    }
  }

  /**
   * Starts a thread if chains wait, the bounds allow it, and no other thread is starting: at once for more
   * chains than one for each thread, otherwise after a while, since most chains end before a thread has started.
   */
  #grow(): void {
    const { usual, patienceMs } = this.#of;
    while (this.#isShort && !this.#isStarting && this.#working < usual) {
      this.#shortSince ??= performance.now();
      const isPatient = this.#queue.length <= this.#working &&
        performance.now() - this.#shortSince < patienceMs;
      if (isPatient) return this.#watch(patienceMs);
      this.#shortSince = undefined;
      if (!this.#add()) break;
    }
    if (this.#isShort) this.#watch(HANGING_MS);
    else this.#shortSince = undefined;
  }

  /** Whether more chains wait than threads are free, and the bounds allow another thread. */
  get #isShort(): boolean {
    if (this.#members.size >= this.#of.most) return false;
    let free = 0;
    for (const { job } of this.#members) if (!job) free++;
    return this.#queue.length > free;
  }

  get #isStarting(): boolean {
    for (const { isReady } of this.#members) if (!isReady) return true;
    return false;
  }

  /** How many do not hang. */
  get #working(): number {
    let working = 0;
    for (const member of this.#members) if (!hangs(member)) working++;
    return working;
  }

  /** Looks again when another thread may be worth it, or one may count as one that hangs. */
  #watch(ms: number): void {
    if (this.#watching?.ms === ms || !this.available) return;
    this.#stopWatching();
    const timer = setTimeout(() => {
      this.#watching = undefined;
      this.#deal();
    }, ms);
    this.#watching = { timer, ms };
  }

  /** For a timer that nobody needs, the process would not end. */
  #stopWatching(): void {
    clearTimeout(this.#watching?.timer);
    this.#watching = undefined;
  }
}
