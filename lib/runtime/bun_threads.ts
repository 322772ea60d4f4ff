/**
 * Threads for Bun, whose FFI has no asynchronous calls: Workers that make one chain of
 * system calls after another. Started when there is something to do, unref()ed when there is not, so
 * that they never keep a process from ending.
 *
 * @module
 */
import type { PlainStep } from "./contract.ts";
import { makeSteps } from "./steps.ts";

/** As many waits as overlap. Each Worker takes about 5 MB. */
const MOST_THREADS = 8;

/** Of what a dead Worker says. */
const MOST_CHARACTERS = 200;

/** `(number, a, b, c, d, e)`: what the kernel returns, or −errno. */
export type Syscall = (...args: (number | bigint)[]) => number;

/** What a Worker's program uses of its globals. */
interface WorkerScope {
  onmessage: (event: { data: readonly PlainStep[] }) => void;
  postMessage(answer: Answer): void;
}

/** What the calls returned, or why one could not be made. */
type Answer = number[] | string;

/**
 * The whole program of a Worker; it gets here as its source text, since a file of its own would be
 * missing from a bundle or a compiled program. So it refers to nothing outside itself.
 */
async function serve(make: typeof makeSteps): Promise<void> {
  const { dlopen, read } = await import("bun:ffi");
  const { symbols: libc } = dlopen("libc.so.6", {
    __errno_location: { args: [], returns: "ptr" },
    syscall: { args: ["i64", "i64", "i64", "i64", "i64", "i64"], returns: "i32" },
  });
  // Each thread has an errno of its own.
  const errno = libc.__errno_location()!;
  const scope = self as unknown as WorkerScope;
  const syscall: Syscall = (number, a = 0, b = 0, c = 0, d = 0, e = 0) => {
    const result = libc.syscall(number, a, b, c, d, e);
    return result < 0 ? -read.i32(errno, 0) : result;
  };
  const answer = (steps: readonly PlainStep[]): Answer => {
    try {
      return make(steps, syscall);
    } catch (error) {
      return String(error);
    }
  };
  scope.onmessage = ({ data }) => scope.postMessage(answer(data));
  // The first message says that calls can come.
  scope.postMessage([]);
}

/** Calls to be made, and whom to tell. Threads share the memory that addresses among them mean. */
interface Job {
  steps: readonly PlainStep[];
  resolve(results: number[]): void;
  reject(error: unknown): void;
}

/** Bun's Worker: elsewhere they have no ref() and unref(). */
type BunWorker = Worker & { ref(): void; unref(): void };

interface Thread {
  worker: BunWorker;
  ready: boolean;
  job: Job | undefined;
}

/** Bun puts the source before the error, and its stack behind it. */
function shortened(message: string): string {
  const line = /^\w*Error\b.*$/m.exec(message)?.[0] ?? message.trim().split("\n")[0];
  return line.slice(0, MOST_CHARACTERS);
}

/** As few threads as there are chains at once, up to {@linkcode MOST_THREADS}. */
export class Threads {
  readonly #syscall: Syscall;
  readonly #threads = new Set<Thread>();
  readonly #queue: Job[] = [];
  #program: string | undefined;

  /** `syscall`: makes a call where no thread can be started (RLIMIT_NPROC, say). */
  constructor(syscall: Syscall) {
    this.#syscall = syscall;
  }

  /** Whether one stands ready, or will at once. */
  get available(): boolean {
    return this.#threads.size > 0;
  }

  /** Begins to start one, if there is none. */
  start(): void {
    if (!this.available) this.#add();
  }

  chain(steps: readonly PlainStep[]): Promise<number[]> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ steps, resolve, reject });
      const free = [...this.#threads].filter(({ job }) => !job).length;
      if (free < this.#queue.length && this.#threads.size < MOST_THREADS) this.#add();
      this.#deal();
    });
  }

  #add(): void {
    this.#program ??= URL.createObjectURL(
      new Blob([`(${serve})(${makeSteps})`], { type: "text/javascript" }),
    );
    let worker: BunWorker;
    try {
      worker = new Worker(this.#program) as BunWorker;
    } catch {
      return;
    }
    const thread: Thread = { worker, ready: false, job: undefined };
    worker.unref();
    worker.onmessage = ({ data }: { data: Answer }) => {
      if (typeof data === "string") thread.job?.reject(new Error(`a call of loopdev's: ${data}`));
      else thread.job?.resolve(data);
      thread.job = undefined;
      thread.ready = true;
      this.#deal();
    };
    worker.onerror = ({ message }) => {
      this.#threads.delete(thread);
      worker.terminate();
      thread.job?.reject(new Error(`a thread of loopdev's died: ${shortened(message)}`));
      this.#deal();
    };
    this.#threads.add(thread);
  }

  /** Gives waiting chains to threads that are free. Only a thread with something to do is ref()ed. */
  #deal(): void {
    for (const thread of this.#threads) {
      const { worker, ready } = thread;
      if (ready && !thread.job && this.#queue.length > 0) {
        thread.job = this.#queue.shift()!;
        worker.postMessage(thread.job.steps);
      }
      if (thread.job || (!ready && this.#queue.length > 0)) worker.ref();
      else worker.unref();
    }
    if (this.available) return;
    for (const { steps, resolve } of this.#queue.splice(0)) {
      resolve(makeSteps(steps, this.#syscall));
    }
  }
}
