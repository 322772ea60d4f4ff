/**
 * Workers as threads, for runtimes whose FFI makes no calls on other threads.
 *
 * @module
 */
import type { PlainStep } from "./contract.ts";
import { makeSteps } from "./steps.ts";
import type { Answer, Thread, ThreadEvents, ThreadsOf } from "./threads.ts";

/** Deno 2.7, which checks Bun's and Node's modules too, has no type for it. */
export const { setImmediate } = globalThis as unknown as {
  setImmediate(callback: () => void): { unref(): void };
};

/** A Worker takes 5 MB on Bun and 9 MB on Node. */
const USUAL_THREADS = 8;
const MOST_THREADS = 64;
/** A Worker takes 10 ms to start on Bun and 30 ms on Node, and that processor time; most chains take 1 ms. */
const PATIENCE_MS = 5;

/** In characters. */
const LONGEST_MESSAGE = 200;

/** `(number, a, b, c, d, e)`: what the kernel returns, or −errno. */
export type Syscall = (
  number: number,
  a?: number | bigint,
  b?: number | bigint,
  c?: number | bigint,
  d?: number | bigint,
  e?: number | bigint,
) => number;

/** Shared memory of one number: 1 while the Worker makes the calls of a chain, otherwise 0. */
type InCall = Int32Array<SharedArrayBuffer>;

/** What a Worker sends: first this memory, which says that calls can come, and then answers. */
export type WorkerMessage = InCall | Answer;

/** The runtime, as a Worker's program uses it. */
export interface WorkerScope {
  readonly syscall: Syscall;
  /** Called at last: it need not return. */
  receive(callback: (steps: readonly PlainStep[]) => void): void;
  send(message: WorkerMessage): void;
}

/** A Worker, for the thread that started it. */
export interface StartedWorker {
  postMessage(steps: readonly PlainStep[]): void;
  ref(): void;
  unref(): void;
  terminate(): unknown;
}

/** What a started Worker calls. */
export interface WorkerEvents {
  sent(message: WorkerMessage): void;
  died(message: string): void;
}

/** How a runtime makes Workers. */
export interface WorkersOf {
  /** Runs in the Worker, which gets its source text: it refers to nothing outside itself. */
  readonly scope: () => Promise<WorkerScope>;
  /** Starts a Worker that runs `program`. */
  start(program: string, events: WorkerEvents): StartedWorker;
  /** Makes a call on this thread. */
  readonly syscall: Syscall;
}

/**
 * The Worker's program. The Worker gets its source text, since a bundle or a compiled program would lack
 * a file of its own. So it refers to nothing outside itself.
 */
function serve(make: typeof makeSteps, { syscall, receive, send }: WorkerScope): void {
  const inCall: InCall = new Int32Array(new SharedArrayBuffer(4));
  const answer = (steps: readonly PlainStep[]): Answer => {
    Atomics.store(inCall, 0, 1);
    try {
      return make(steps, syscall);
    } catch (error) {
      return String(error);
    } finally {
      Atomics.store(inCall, 0, 0);
    }
  };
  send(inCall);
  receive((steps) => send(answer(steps)));
}

/** The line with the error: Bun puts source lines before it, and the stack behind it. */
function shortened(message: string): string {
  const line = /^\w*Error\b.*$/m.exec(message)?.[0] ?? message.trim().split("\n")[0];
  return line.slice(0, LONGEST_MESSAGE);
}

/** Threads that are Workers of `runtime`. */
export function workerThreads(runtime: WorkersOf): ThreadsOf {
  const program = `(${runtime.scope})().then((scope) => (${serve})(${makeSteps}, scope))`;
  const start = ({ ready, answered, died }: ThreadEvents): Thread => {
    let inCall: InCall | undefined;
    const worker = runtime.start(program, {
      sent(message) {
        if (inCall) return answered(message as Answer);
        inCall = message as InCall;
        ready();
      },
      died(message) {
        worker.terminate();
        died(shortened(message));
      },
    });
    worker.unref();
    return {
      isReady: false,
      isInCall: () => inCall !== undefined && Atomics.load(inCall, 0) === 1,
      send: (steps) => worker.postMessage(steps),
      ref: () => worker.ref(),
      unref: () => worker.unref(),
      end: () => worker.terminate(),
    };
  };
  const here = (steps: readonly PlainStep[]) => makeSteps(steps, runtime.syscall);
  return { start, usual: USUAL_THREADS, patienceMs: PATIENCE_MS, most: MOST_THREADS, here };
}
