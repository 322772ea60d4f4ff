/**
 * Table readers as generators, which stop at each read. Their caller decides who reads: this thread, or
 * another while the event loop goes on. The readers know neither files nor threads.
 *
 * @module
 */
import type { Image } from "./disk.ts";

/** The bytes that a reader needs next. None: it has computed for long, and lets the event loop turn. */
export interface Wanted {
  readonly offset: number;
  readonly length: number;
}

/** Yields what it wants, is given the bytes, and returns what it found. */
export type Steps<T> = Generator<Wanted, T, Uint8Array>;

/** A disk whose reads are steps. */
export interface SteppedDisk {
  /** Bytes. */
  readonly size: number;
  /** Logical sector size in bytes. */
  readonly sectorSize: number;
  /** `length` bytes from `offset`. */
  read(offset: number, length: number): Steps<Uint8Array>;
  /** The same if they have been read already: a step fewer, and most sectors are looked at often. */
  kept?(offset: number, length: number): Uint8Array | undefined;
}

export function* wanted(offset: number, length: number): Steps<Uint8Array> {
  return yield { offset, length };
}

/** Runs a reader, and answers from its first read what lies in that. */
export function* keepingFirst<T>(steps: Steps<T>): Steps<T> {
  let first: { offset: number; bytes: Uint8Array } | undefined;
  let step = steps.next();
  while (!step.done) {
    const { offset, length } = step.value;
    const from = first ? offset - first.offset : -1;
    if (first && length > 0 && from >= 0 && from + length <= first.bytes.length) {
      step = steps.next(first.bytes.subarray(from, from + length));
    } else {
      const bytes = yield step.value;
      first ??= { offset, bytes };
      step = steps.next(bytes);
    }
  }
  return step.value;
}

/** Lets the event loop turn, if the caller does. */
export function* pause(): Steps<void> {
  yield { offset: 0, length: 0 };
}

/** Runs a reader to its end, with reads by this thread. */
export function runSteps<T>(steps: Steps<T>, read: Image["read"]): T {
  let step = steps.next();
  while (!step.done) {
    const { offset, length } = step.value;
    step = steps.next(length > 0 ? read(offset, length) : NOTHING);
  }
  return step.value;
}

const NOTHING = new Uint8Array();

/** So many steps of which `read` had the bytes take less than a ms. */
const QUICK_STEPS = 8;

/**
 * The same with reads by another thread. `rest` lets the event loop turn, or throws: after each step that
 * waited, and after some whose bytes `read` had.
 */
export async function runStepsOnThread<T>(
  steps: Steps<T>,
  read: (offset: number, length: number) => Uint8Array | Promise<Uint8Array>,
  rest: () => Promise<void>,
): Promise<T> {
  let quick = 0;
  let step = steps.next();
  while (!step.done) {
    const { offset, length } = step.value;
    const bytes = length > 0 ? read(offset, length) : Promise.resolve(NOTHING);
    if (bytes instanceof Uint8Array && ++quick % QUICK_STEPS > 0) step = steps.next(bytes);
    else {
      const late = await bytes;
      await rest();
      step = steps.next(late);
    }
  }
  return step.value;
}
