/**
 * Errors as losetup words them: what failed, and strerror(3).
 *
 * @module
 */
import { isRefusal } from "../lib/losetup/list.ts";

/** Something failed: one line on stderr, and exit code 1. */
export class Failure extends Error {
  /** `what` with the system's words for `cause` behind it. */
  constructor(what: string, cause?: unknown) {
    super(cause === undefined ? what : `${what}: ${strerror(cause)}`, { cause });
  }
}

/** What an error holds that holds several; else it alone. */
export function partsOf(error: unknown): unknown[] {
  if (!(error instanceof Error)) return [error];
  const { error: later, suppressed, errors } = error as Partial<SuppressedError & AggregateError>;
  // A SuppressedError holds the end of a block that failed after its body.
  const parts = suppressed === undefined ? errors ?? [] : [suppressed, later];
  return parts.length > 0 ? parts.flatMap(partsOf) : [error];
}

/** The message of an error and of its causes; of an error that holds several, those of each. */
export function messagesOf(error: unknown): string[] {
  if (error === undefined) return [];
  return partsOf(error).flatMap((part) =>
    part instanceof Error ? [part.message || part.name, ...messagesOf(part.cause)] : [String(part)]
  );
}

/** What strerror(3) says. LoopError.reason has glibc's wording, in lower case. */
function strerror(error: unknown): string {
  if (!isRefusal(error)) return error instanceof Error ? error.message : String(error);
  if (error.code === "ETIMEDOUT") return "Connection timed out";
  return error.reason[0].toUpperCase() + error.reason.slice(1);
}
