/**
 * Node's Workers.
 *
 * Chains and answers lie in memory that both threads share, and Atomics says when. Messages would have to be
 * copied twice, and a thread that sleeps in its event loop takes several times as long to begin as one
 * that sleeps in Atomics.wait(), which terminate() and the end of the process wake, too. Messages carry what
 * does not fit.
 *
 * @module
 */
import type { PlainStep } from "./contract.ts";
import type { ThreadsOf } from "./threads.ts";
import { type Syscall, type WorkerScope, workerThreads } from "./workers.ts";

/** The memory that a Worker shares with the thread that started it. */
interface Shared {
  /**
   * 0: how many steps have been sent; −1: they are a message. 1: how many results are there; −1: the answer is
   * a message. 0: nothing.
   */
  readonly bells: Int32Array<SharedArrayBuffer>;
  /** Of each step its number, `on` or −1, and five arguments. */
  readonly steps: BigInt64Array<SharedArrayBuffer>;
  readonly results: Int32Array<SharedArrayBuffer>;
}

/** So many lie in shared memory. */
const MOST_STEPS = 256;
const WORDS = 7;

function newShared(): Shared {
  return {
    bells: new Int32Array(new SharedArrayBuffer(8)),
    steps: new BigInt64Array(new SharedArrayBuffer(MOST_STEPS * WORDS * 8)),
    results: new Int32Array(new SharedArrayBuffer(MOST_STEPS * 4)),
  };
}

/** Runs in the Worker, which gets its source text: refers to nothing outside itself. */
async function scope(): Promise<WorkerScope> {
  const { dlopen, getInt32 } = await import("node:ffi");
  const { functions: libc } = dlopen("libc.so.6", {
    __errno_location: { arguments: [], return: "pointer" },
    syscall: { arguments: ["i64", "i64", "i64", "i64", "i64", "i64", "i64"], return: "i32" },
  });
  // Each thread has an errno of its own.
  const errnoPointer = libc.__errno_location();
  const threads = process.getBuiltinModule("node:worker_threads");
  const port = threads.parentPort!;
  const { bells, steps: words, results }: Shared = threads.workerData;
  const take = (count: number): PlainStep[] => {
    const steps: PlainStep[] = [];
    for (let at = 0; steps.length < count; at += 7) {
      const on = Number(words[at + 1]);
      steps.push({
        number: Number(words[at]),
        on: on < 0 ? undefined : on,
        args: [words[at + 2], words[at + 3], words[at + 4], words[at + 5], words[at + 6]],
      });
    }
    return steps;
  };
  let isMessage = true;
  return {
    syscall: (number, a = 0, b = 0, c = 0, d = 0, e = 0) => {
      const A = BigInt(a);
      const B = BigInt(b);
      const C = BigInt(c);
      const result = libc.syscall(BigInt(number), A, B, C, BigInt(d), BigInt(e), 0n);
      const errno = getInt32(errnoPointer);
      return result < 0 ? -errno : result;
    },
    receive(callback) {
      for (;;) {
        Atomics.wait(bells, 0, 0);
        const count = Atomics.exchange(bells, 0, 0);
        isMessage = count < 0;
        if (count !== 0) {
          callback(isMessage ? threads.receiveMessageOnPort(port)!.message : take(count));
        }
      }
    },
    send(message) {
      if (isMessage) return port.postMessage(message);
      const isShared = Array.isArray(message);
      if (isShared) results.set(message);
      // Before the message: after it, the next chain may be there.
      Atomics.store(bells, 1, isShared ? message.length : -1);
      Atomics.notify(bells, 1);
      if (!isShared) port.postMessage(message);
    },
  };
}

/** Writes steps into shared memory; whether they are what it can take. */
function put(steps: readonly PlainStep[], { steps: words }: Shared): boolean {
  if (steps.length === 0 || steps.length > MOST_STEPS) return false;
  try {
    let at = 0;
    for (const { number, on = -1, args } of steps) {
      words[at++] = BigInt(number);
      words[at++] = BigInt(on);
      for (let i = 0; i < WORDS - 2; i++) words[at++] = BigInt(args[i] ?? 0);
    }
    return true;
  } catch {
    // The Worker says what is wrong with an argument that is no integer.
    return false;
  }
}

/**
 * The Worker gets neither NODE_OPTIONS nor the process's own options: they may load code of the user's.
 * Before 26.10 it needs one of them. The main thread has printed node:ffi's warning. A function, since this
 * module is loaded before node.ts can say that this is no Node.
 */
const options = () => ({
  eval: true,
  env: {},
  execArgv: [
    "--no-warnings",
    .../^26\.\d\./.test(process.versions.node) ? ["--experimental-ffi"] : [],
  ],
});

/** `syscall`: makes a call on this thread. `exit`: _exit(2). */
export function nodeThreads(syscall: Syscall, exit: (code: number) => void): ThreadsOf {
  const threads = process.getBuiltinModule("node:worker_threads");
  const busy = new Set<object>();
  // Node waits for its Workers even in process.exit(), and a Worker does not end during a system call.
  if (threads.isMainThread) {
    process.on("exit", (code) => {
      if (busy.size > 0) exit(Number(process.exitCode ?? code));
    });
  }
  return workerThreads({
    scope,
    syscall,
    start(program, { sent, died }) {
      const shared = newShared();
      const { bells, results } = shared;
      const worker = new threads.Worker(program, { ...options(), workerData: shared });
      worker.on("message", (message) => {
        busy.delete(worker);
        sent(message);
      });
      worker.on("error", (error) => died(String(error)));
      const ring = (count: number) => {
        Atomics.store(bells, 0, count);
        Atomics.notify(bells, 0);
      };
      const takeAnswer = () => {
        const count = Atomics.load(bells, 1);
        if (count < 0) return;
        busy.delete(worker);
        sent(Array.from(results.subarray(0, count)));
      };
      return {
        postMessage(steps) {
          busy.add(worker);
          if (!put(steps, shared)) {
            worker.postMessage(steps);
            return ring(-1);
          }
          Atomics.store(bells, 1, 0);
          const answered = Atomics.waitAsync(bells, 1, 0).value;
          ring(steps.length);
          Promise.resolve(answered).then(takeAnswer);
        },
        ref: () => worker.ref(),
        unref: () => worker.unref(),
        terminate: () => worker.terminate(),
      };
    },
  });
}
