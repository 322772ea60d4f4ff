/**
 * Threads for Bun, whose FFI has no asynchronous calls: Workers that make one libc call after
 * another. Started when there is something to do, unref()ed when there is not, so that they never
 * keep a process from ending.
 *
 * @module
 */

/** As many waits as overlap. Each Worker takes about 5 MB. */
const MOST_THREADS = 8;

/** What a Worker's program uses of its globals. */
interface WorkerScope {
  onmessage: (event: { data: [name: string, args: unknown[]] }) => void;
  postMessage(result: number): void;
}

/**
 * The whole program of a Worker; it gets here as its source text, since a file of its own would be
 * missing from a bundle or a compiled program. So it refers to nothing outside itself.
 */
async function serve(): Promise<void> {
  const { dlopen, read } = await import("bun:ffi");
  const { symbols: libc } = dlopen("libc.so.6", {
    __errno_location: { args: [], returns: "ptr" },
    open: { args: ["ptr", "i32", "u32"], returns: "i32" },
    close: { args: ["i32"], returns: "i32" },
    fsync: { args: ["i32"], returns: "i32" },
    ioctl: { args: ["i32", "u64", "u64"], returns: "i32" },
  });
  const { symbols: withBuffer } = dlopen("libc.so.6", {
    ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
  });
  // Each thread has an errno of its own.
  const errno = libc.__errno_location()!;
  const calls = { ...libc, ioctlBuffer: withBuffer.ioctl } as unknown as Record<
    string,
    (...args: unknown[]) => number
  >;
  const scope = self as unknown as WorkerScope;
  scope.onmessage = ({ data: [name, args] }) => {
    const result = calls[name](...args);
    scope.postMessage(result < 0 ? -read.i32(errno, 0) : result);
  };
  // The first message says that calls can come.
  scope.postMessage(0);
}

/** A call to be made, and whom to tell. */
interface Job {
  name: string;
  args: unknown[];
  resolve(result: number): void;
  reject(error: unknown): void;
}

/** Bun's Worker: elsewhere they have no ref() and unref(). */
type BunWorker = Worker & { ref(): void; unref(): void };

interface Thread {
  worker: BunWorker;
  ready: boolean;
  job: Job | undefined;
}

/** As few threads as there are calls at once, up to {@linkcode MOST_THREADS}. */
export class Threads {
  readonly #callHere: (name: string, args: unknown[]) => number;
  readonly #threads = new Set<Thread>();
  readonly #queue: Job[] = [];
  #program: string | undefined;

  /** `callHere`: makes a call where no thread can be started (RLIMIT_NPROC, say). */
  constructor(callHere: (name: string, args: unknown[]) => number) {
    this.#callHere = callHere;
  }

  /** Whether one stands ready, or will at once. */
  get available(): boolean {
    return this.#threads.size > 0;
  }

  /** Begins to start one, if there is none. */
  start(): void {
    if (!this.available) this.#add();
  }

  call(name: string, args: unknown[]): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ name, args, resolve, reject });
      const free = [...this.#threads].filter(({ job }) => !job).length;
      if (free < this.#queue.length && this.#threads.size < MOST_THREADS) this.#add();
      this.#deal();
    });
  }

  #add(): void {
    this.#program ??= URL.createObjectURL(
      new Blob([`(${serve})()`], { type: "text/javascript" }),
    );
    let worker: BunWorker;
    try {
      worker = new Worker(this.#program) as BunWorker;
    } catch {
      return;
    }
    const thread: Thread = { worker, ready: false, job: undefined };
    worker.unref();
    worker.onmessage = ({ data }) => {
      thread.job?.resolve(data);
      thread.job = undefined;
      thread.ready = true;
      this.#deal();
    };
    worker.onerror = ({ message }) => {
      this.#threads.delete(thread);
      worker.terminate();
      thread.job?.reject(new Error(`a thread of loopdev's died: ${message}`));
      this.#deal();
    };
    this.#threads.add(thread);
  }

  /** Gives waiting calls to threads that are free. Only a thread with something to do is ref()ed. */
  #deal(): void {
    for (const thread of this.#threads) {
      const { worker, ready } = thread;
      if (ready && !thread.job && this.#queue.length > 0) {
        thread.job = this.#queue.shift()!;
        worker.postMessage([thread.job.name, thread.job.args]);
      }
      if (thread.job || (!ready && this.#queue.length > 0)) worker.ref();
      else worker.unref();
    }
    if (this.available) return;
    for (const { name, args, resolve } of this.#queue.splice(0)) {
      resolve(this.#callHere(name, args));
    }
  }
}
