/**
 * Threads for runtimes whose FFI has no asynchronous calls: Workers that make one chain of system calls
 * after another. unref()ed when there is nothing to do, so that they never keep a process from ending.
 */
import type { PlainStep } from "./contract.ts";
import { makeSteps } from "./steps.ts";
import type { Answer, Thread, ThreadEvents, ThreadsOf } from "./threads.ts";

/** Deno 2.7, which checks Bun's and Node's modules too, has no type for it. */
export const { setImmediate } = globalThis as unknown as {
  setImmediate(callback: () => void): { unref(): void };
};

/** As many waits as overlap. Each Worker takes 5 MB on Bun, 10 MB on Node. */
const USUAL_THREADS = 8;
/** With those that hang. */
const MOST_THREADS = 64;

/** Characters of what a dead Worker says. */
const LONGEST_MESSAGE = 200;

/** `(number, a, b, c, d, e)`: what the kernel returns, or −errno. */
export type Syscall = (...args: (number | bigint)[]) => number;

/** What a Worker's program has of its runtime. */
export interface WorkerScope {
  readonly syscall: Syscall;
  receive(callback: (steps: readonly PlainStep[]) => void): void;
  send(answer: Answer): void;
}

/** A Worker, as who started it has it. */
export interface StartedWorker {
  postMessage(steps: readonly PlainStep[]): void;
  ref(): void;
  unref(): void;
  terminate(): unknown;
}

/** Whom a Worker tells. */
export interface WorkerEvents {
  answered(answer: Answer): void;
  died(message: string): void;
}

/** What a runtime must bring. */
export interface WorkersOf {
  /** Runs in the Worker. It gets there as its source text: it refers to nothing outside itself. */
  readonly scope: () => Promise<WorkerScope>;
  /** Starts a Worker that runs `program`. */
  start(program: string, events: WorkerEvents): StartedWorker;
  /** Makes a call here. */
  readonly syscall: Syscall;
}

/**
 * The Worker's program; it gets there as its source text, since a file of its own would be missing from
 * a bundle or a compiled program. So it refers to nothing outside itself.
 */
function serve(make: typeof makeSteps, { syscall, receive, send }: WorkerScope): void {
  const answer = (steps: readonly PlainStep[]): Answer => {
    try {
      return make(steps, syscall);
    } catch (error) {
      return String(error);
    }
  };
  receive((steps) => send(answer(steps)));
  // The first message says that calls can come.
  send([]);
}

/** Bun puts the source before the error, and its stack behind it. */
function shortened(message: string): string {
  const line = /^\w*Error\b.*$/m.exec(message)?.[0] ?? message.trim().split("\n")[0];
  return line.slice(0, LONGEST_MESSAGE);
}

/** Threads that are Workers of `runtime`. */
export function workerThreads(runtime: WorkersOf): ThreadsOf {
  const program = `(${runtime.scope})().then((scope) => (${serve})(${makeSteps}, scope))`;
  const start = ({ ready, answered, died }: ThreadEvents): Thread => {
    let isReady = false;
    const worker = runtime.start(program, {
      answered(answer) {
        if (isReady) return answered(answer);
        isReady = true;
        ready();
      },
      died(message) {
        worker.terminate();
        died(shortened(message));
      },
    });
    worker.unref();
    return {
      isReady,
      send: (steps) => worker.postMessage(steps),
      ref: () => worker.ref(),
      unref: () => worker.unref(),
      end: () => worker.terminate(),
    };
  };
  const here = (steps: readonly PlainStep[]) => makeSteps(steps, runtime.syscall);
  return { start, usual: USUAL_THREADS, most: MOST_THREADS, here };
}
