/**
 * Queues of this process: for the operations of a handle, and for the attaches of a file.
 *
 * @module
 */
import { untilAborted } from "./retry.ts";

/** Lets operations run one after another, in the order of their begin() calls. */
export class Turns {
  /** The end of the last turn; undefined when none is under way. */
  #last: Promise<void> | undefined;

  /**
   * Waits for the earlier turns; disposing the result ends this one. Rejects with the signal's reason if
   * that comes first; those behind it still wait for those before it. The caller runs its operation in its
   * own function, since a stack trace would not lead back through a queue.
   */
  async begin(signal?: AbortSignal): Promise<Disposable> {
    signal?.throwIfAborted();
    const before = this.#last;
    const { promise, resolve: end } = Promise.withResolvers<void>();
    this.#last = promise;
    const stop = () => {
      if (this.#last === promise) this.#last = undefined;
      end();
    };
    if (before) {
      try {
        await untilAborted(before, signal);
      } catch (error) {
        before.then(stop);
        throw error;
      }
    }
    return { [Symbol.dispose]: stop };
  }
}

/** The uses of a file by this process. */
interface Uses {
  /** The end of the last exclusive one, if that is under way. */
  exclusive: Promise<void> | undefined;
  /** The ends of the shared ones after it. */
  readonly shared: Set<Promise<void>>;
  count: number;
}

const usesByFile = new Map<string, Uses>();

/**
 * Runs `operation` after all earlier exclusive uses of `file`; an exclusive one after all earlier uses.
 * Rejects with the signal's reason if that comes first.
 */
export async function withFile<T>(
  file: string,
  use: "shared" | "exclusive",
  operation: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  signal?.throwIfAborted();
  let uses = usesByFile.get(file);
  if (!uses) {
    uses = { exclusive: undefined, shared: new Set(), count: 0 };
    usesByFile.set(file, uses);
  }
  const { exclusive, shared } = uses;
  const earlier = use === "exclusive" ? [...shared] : [];
  if (exclusive) earlier.push(exclusive);
  const before = earlier.length > 0 ? Promise.all(earlier) : undefined;
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  uses.count++;
  if (use === "shared") shared.add(ended);
  else uses.exclusive = ended;
  const end = () => {
    resolve();
    shared.delete(ended);
    if (uses.exclusive === ended) uses.exclusive = undefined;
    if (--uses.count === 0) usesByFile.delete(file);
  };
  try {
    if (before) await untilAborted(before, signal);
    return await operation();
  } finally {
    // An aborted use ends only after those before it, which those behind it still wait for.
    if (before) before.then(end);
    else end();
  }
}
