/**
 * Node's Workers.
 *
 * @module
 */
import type { ThreadsOf } from "./threads.ts";
import { type Syscall, type WorkerScope, workerThreads } from "./workers.ts";

/** Runs in the Worker, which gets its source text: refers to nothing outside itself. */
async function scope(): Promise<WorkerScope> {
  const { dlopen, getInt32 } = await import("node:ffi");
  const { functions: libc } = dlopen("libc.so.6", {
    __errno_location: { arguments: [], return: "pointer" },
    syscall: { arguments: ["i64", "i64", "i64", "i64", "i64", "i64", "i64"], return: "i32" },
  });
  // Each thread has an errno of its own.
  const errnoPointer = libc.__errno_location();
  const port = process.getBuiltinModule("node:worker_threads").parentPort!;
  return {
    syscall: (number, a = 0, b = 0, c = 0, d = 0, e = 0) => {
      const A = BigInt(a);
      const B = BigInt(b);
      const C = BigInt(c);
      const result = libc.syscall(BigInt(number), A, B, C, BigInt(d), BigInt(e), 0n);
      const errno = getInt32(errnoPointer);
      return result < 0 ? -errno : result;
    },
    receive: (callback) => port.on("message", callback),
    send: (message) => port.postMessage(message),
  };
}

/**
 * The Worker gets neither NODE_OPTIONS nor the process's own options: they may load code of the user's.
 * Before 26.10 it needs one of them. The main thread has printed node:ffi's warning.
 */
const OPTIONS = {
  eval: true,
  env: {},
  execArgv: [
    "--no-warnings",
    .../^26\.\d\./.test(process.versions.node) ? ["--experimental-ffi"] : [],
  ],
};

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
      const worker = new threads.Worker(program, OPTIONS);
      worker.on("message", (message) => {
        busy.delete(worker);
        sent(message);
      });
      worker.on("error", (error) => died(String(error)));
      return {
        postMessage(steps) {
          busy.add(worker);
          worker.postMessage(steps);
        },
        ref: () => worker.ref(),
        unref: () => worker.unref(),
        terminate: () => worker.terminate(),
      };
    },
  });
}
