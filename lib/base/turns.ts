/**
 * Queues: the operations of a handle, and the attaches of a file.
 *
 * @module
 */
import { untilAborted } from "./retry.ts";

/** Operations one after another, in the order in which they were asked for. */
export class Turns {
  #last: Promise<void> = Promise.resolve();

  /**
   * Waits for the turns that were asked for before; the end of a `using` block ends this one. Rejects
   * with the signal's reason if that comes first, and lets nobody past those before it. Whoever
   * runs an operation in it does so in his own function: a stack does not lead back through a queue.
   */
  async begin(signal?: AbortSignal): Promise<Disposable> {
    const before = this.#last;
    let end = () => {};
    this.#last = new Promise((resolve) => end = resolve);
    try {
      await untilAborted(before, signal);
    } catch (error) {
      before.then(end);
      throw error;
    }
    return { [Symbol.dispose]: end };
  }
}

/** Who uses a file in this process: any number at once, or one alone. */
interface Line {
  /** The end of the last one that wanted it alone. */
  alone: Promise<void>;
  /** The ends of the others after that one. */
  readonly together: Set<Promise<void>>;
  waiting: number;
}

const lines = new Map<string, Line>();

/**
 * Runs `operation` when nobody before it uses `file` alone; with `alone`, when nobody before it uses
 * it at all. Rejects with the signal's reason if that comes first.
 */
export async function withFile<T>(
  file: string,
  alone: boolean,
  operation: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  let line = lines.get(file);
  if (!line) lines.set(file, line = { alone: Promise.resolve(), together: new Set(), waiting: 0 });
  const { together } = line;
  const before = Promise.all(alone ? [line.alone, ...together] : [line.alone]);
  let end = () => {};
  const ended = new Promise<void>((resolve) => end = resolve);
  line.waiting++;
  if (alone) line.alone = ended;
  else together.add(ended);
  try {
    await untilAborted(before, signal);
    return await operation();
  } finally {
    // One that gives up in the queue must not let others past those before it.
    before.then(() => {
      end();
      together.delete(ended);
      if (--line.waiting === 0) lines.delete(file);
    });
  }
}
