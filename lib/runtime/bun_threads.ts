/**
 * Bun's Workers.
 *
 * @module
 */
import type { PlainStep } from "./contract.ts";
import type { ThreadsOf } from "./threads.ts";
import {
  type StartedWorker,
  type Syscall,
  type WorkerMessage,
  type WorkerScope,
  workerThreads,
} from "./workers.ts";

/** The globals of a Worker, as far as they are used. */
interface Globals {
  onmessage: (event: { data: readonly PlainStep[] }) => void;
  postMessage(message: WorkerMessage): void;
}

/** Runs in the Worker, which gets its source text: refers to nothing outside itself. */
async function scope(): Promise<WorkerScope> {
  const { dlopen, read } = await import("bun:ffi");
  const { symbols: libc } = dlopen("libc.so.6", {
    __errno_location: { args: [], returns: "ptr" },
    syscall: { args: ["i64", "i64", "i64", "i64", "i64", "i64"], returns: "i32" },
  });
  // Each thread has an errno of its own.
  const errno = libc.__errno_location()!;
  const globals = self as unknown as Globals;
  return {
    syscall: (number, a = 0, b = 0, c = 0, d = 0, e = 0) => {
      const result = libc.syscall(number, a, b, c, d, e);
      return result < 0 ? -read.i32(errno, 0) : result;
    },
    receive: (callback) => globals.onmessage = ({ data }) => callback(data),
    send: (message) => globals.postMessage(message),
  };
}

let url: string | undefined;

/** `syscall`: makes a call on this thread. */
export function bunThreads(syscall: Syscall): ThreadsOf {
  return workerThreads({
    scope,
    syscall,
    start(program, { sent, died }) {
      url ??= URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
      const worker = new Worker(url);
      worker.onmessage = ({ data }: { data: WorkerMessage }) => sent(data);
      worker.onerror = ({ message }) => died(message);
      // Bun's have ref() and unref(), which others lack.
      return worker as Worker & StartedWorker;
    },
  });
}
