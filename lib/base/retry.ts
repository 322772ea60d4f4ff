/**
 * Waiting: for a while, for a condition, for several promises, for another try.
 *
 * @module
 */
import { type ErrorCode, isRefusal } from "./errors.ts";

/** Resolves after `ms` milliseconds; rejects with the signal's reason if that comes first. */
export function delay(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/**
 * Polls `condition` until it gives something other than undefined; undefined after `ms` milliseconds.
 * The first question is asked without delay; the pauses grow from 1 ms to `longestPause` ms.
 */
export async function poll<T>(
  condition: () => T | undefined | Promise<T | undefined>,
  ms: number,
  signal?: AbortSignal,
  longestPause = 50,
): Promise<T | undefined> {
  const deadline = performance.now() + ms;
  for (let pause = 1;; pause = Math.min(2 * pause, longestPause)) {
    const result = await condition();
    if (result !== undefined) return result;
    const left = deadline - performance.now();
    if (left <= 0) return undefined;
    await delay(Math.min(pause, left), signal);
  }
}

/** What `waiting` resolves to within `ms` milliseconds; `otherwise` if it takes longer. */
export async function within<T, Other>(
  waiting: Promise<T>,
  ms: number,
  otherwise: Other,
): Promise<T | Other> {
  // Not by delay() and an abort: making its reason takes longer than most answers.
  const { promise: late, resolve } = Promise.withResolvers<Other>();
  const timer = setTimeout(() => resolve(otherwise), ms);
  try {
    return await Promise.race([waiting, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Questions in flight, by name: a second caller of the same one gets the answer of the first. */
export class Shared<T> {
  readonly #inFlight = new Map<string, Promise<T>>();

  ask(name: string, question: () => Promise<T>): Promise<T> {
    let answer = this.#inFlight.get(name);
    if (!answer) {
      answer = question().finally(() => this.#inFlight.delete(name));
      this.#inFlight.set(name, answer);
    }
    return answer;
  }
}

/** Waits until all have ended. Rejects as the one that rejected, or with an AggregateError of several. */
export async function allEnded<T>(ends: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(ends);
  const errors = settled.flatMap((end) => end.status === "rejected" ? [end.reason] : []);
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) {
    throw new AggregateError(errors, errors.map((error) => error?.message ?? error).join("; "));
  }
  return await Promise.all(ends);
}

/** Gives undefined where `waiting` rejects because the signal aborted it. */
export async function unlessAborted<T>(
  waiting: Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T | undefined> {
  try {
    return await waiting;
  } catch (error) {
    if (!signal?.aborted) throw error;
  }
}

/** Rejects with the signal's reason once it aborts; what `waiting` stands for goes on. */
export function untilAborted<T>(waiting: Promise<T>, signal?: AbortSignal): Promise<T> {
  return signal ? endOrAbort(waiting, signal) : waiting;
}

async function endOrAbort<T>(waiting: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort);
  try {
    return await Promise.race([aborted, waiting]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** How long an aborted operation may take to undo what it did. */
const UNDOING_MS = 250;

/**
 * Waits for an operation that reacts to `signal` itself, undoing what it did. If one of its system calls
 * hangs, it cannot: then this rejects with the signal's reason UNDOING_MS after the abort, and `undo`
 * gets what the operation resolves to later.
 */
export function heeding<T>(
  operation: Promise<T>,
  signal: AbortSignal | undefined,
  undo?: (late: T) => unknown,
): Promise<T> {
  return signal ? endOrUndo(operation, signal, undo) : operation;
}

async function endOrUndo<T>(
  operation: Promise<T>,
  signal: AbortSignal,
  undo?: (late: T) => unknown,
): Promise<T> {
  try {
    return await endOrAbort(operation, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  const late = await within(operation.then((value) => ({ value })), UNDOING_MS, undefined);
  if (late) return late.value;
  operation.then(undo).catch(() => {});
  throw signal.reason;
}

/** For {@linkcode heeding}: ends what came too late. */
export const endLate = (late: AsyncDisposable): PromiseLike<void> => late[Symbol.asyncDispose]();

export interface RetryPolicy {
  /** What is worth another try; any other error is thrown at once. */
  readonly codes: readonly [ErrorCode, ...ErrorCode[]];
  readonly tries: number;
  /** Longest pause in ms; the n-th is random up to n × 4 ms, at most this. */
  readonly longestPause: number;
}

/** Calls `attempt` (with 1, 2, 3…) until it succeeds. Throws the first other error, or the last try's. */
export async function retry<T>(
  policy: RetryPolicy,
  attempt: (tries: number) => T | Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  for (let tries = 1;; tries++) {
    signal?.throwIfAborted();
    try {
      return await attempt(tries);
    } catch (error) {
      if (!isRefusal(error, ...policy.codes) || tries >= policy.tries) throw error;
    }
    await delay(Math.random() * Math.min(4 * tries, policy.longestPause), signal);
  }
}
