/**
 * Readers of tables that stop at each read, so that whoever drives them decides who makes it: this
 * thread now, or another one while the event loop goes on. A reader knows neither files nor threads.
 *
 * @module
 */
import type { Disk } from "./disk.ts";

/** Bytes that a reader needs before it goes on. None: it has calculated for long. */
export interface Wanted {
  readonly offset: number;
  readonly length: number;
}

/** A reader at work: gives what it wants, is given the bytes, and ends with what it found. */
export type Steps<T> = Generator<Wanted, T, Uint8Array>;

/** A disk whose reads are steps. */
export interface SteppedDisk {
  /** Bytes. */
  readonly size: number;
  /** Logical sector size in bytes. */
  readonly sectorSize: number;
  /** `length` bytes from `offset`. */
  read(offset: number, length: number): Steps<Uint8Array>;
}

/** A read as a step. */
export function* wanted(offset: number, length: number): Steps<Uint8Array> {
  return yield { offset, length };
}

/** A place at which others may be let in. */
export function* pause(): Steps<void> {
  yield { offset: 0, length: 0 };
}

/** Runs a reader to its end in one go. */
export function runSteps<T>(steps: Steps<T>, read: Disk["read"]): T {
  let step = steps.next();
  while (!step.done) {
    const { offset, length } = step.value;
    step = steps.next(length > 0 ? read(offset, length) : NOTHING);
  }
  return step.value;
}

const NOTHING = new Uint8Array();

/** The same, where the bytes come later; after each step `rest` may let others in, or throw. */
export async function runStepsOnThread<T>(
  steps: Steps<T>,
  read: (offset: number, length: number) => Promise<Uint8Array>,
  rest: () => Promise<void>,
): Promise<T> {
  let step = steps.next();
  while (!step.done) {
    const { offset, length } = step.value;
    const bytes = length > 0 ? await read(offset, length) : NOTHING;
    await rest();
    step = steps.next(bytes);
  }
  return step.value;
}
