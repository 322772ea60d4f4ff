/**
 * Threads for Bun, whose FFI has no asynchronous calls: Workers that make one chain of system calls
 * after another. unref()ed when there is nothing to do, so that they never keep a process from ending.
 *
 * @module
 */
import type { PlainStep } from "./contract.ts";
import { makeSteps } from "./steps.ts";
import type { Answer, Thread, ThreadEvents, ThreadsOf } from "./threads.ts";

/** As many waits as overlap. Each Worker takes about 5 MB. */
const USUAL_THREADS = 8;
/** With those that hang. */
const MOST_THREADS = 64;

/** Of what a dead Worker says. */
const MOST_CHARACTERS = 200;

/** `(number, a, b, c, d, e)`: what the kernel returns, or −errno. */
export type Syscall = (...args: (number | bigint)[]) => number;

/** What a Worker's program uses of its globals. */
interface WorkerScope {
  onmessage: (event: { data: readonly PlainStep[] }) => void;
  postMessage(answer: Answer): void;
}

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

/** Bun puts the source before the error, and its stack behind it. */
function shortened(message: string): string {
  const line = /^\w*Error\b.*$/m.exec(message)?.[0] ?? message.trim().split("\n")[0];
  return line.slice(0, MOST_CHARACTERS);
}

/** Bun's Worker: elsewhere they have no ref() and unref(). */
type BunWorker = Worker & { ref(): void; unref(): void };

let program: string | undefined;

function start({ ready, answered, died }: ThreadEvents): Thread {
  program ??= URL.createObjectURL(
    new Blob([`(${serve})(${makeSteps})`], { type: "text/javascript" }),
  );
  const worker = new Worker(program) as BunWorker;
  worker.unref();
  let isReady = false;
  worker.onmessage = ({ data }: { data: Answer }) => {
    if (isReady) return answered(data);
    isReady = true;
    ready();
  };
  worker.onerror = ({ message }) => {
    worker.terminate();
    died(shortened(message));
  };
  return {
    isReady,
    send: (steps) => worker.postMessage(steps),
    ref: () => worker.ref(),
    unref: () => worker.unref(),
    end: () => worker.terminate(),
  };
}

/** `syscall`: makes a call here. */
export function bunThreads(syscall: Syscall): ThreadsOf {
  const here = (steps: readonly PlainStep[]) => makeSteps(steps, syscall);
  return { start, usual: USUAL_THREADS, most: MOST_THREADS, here };
}
