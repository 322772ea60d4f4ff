/**
 * What a verb says: lines on stdout, and errors on stderr.
 *
 * @module
 */
import { isRefusal, type LoopError } from "../../lib/losetup/list.ts";
import { messagesOf } from "../failure.ts";
import { type Output, writeError, writeWarning } from "../output.ts";
import type { Runtime } from "../runtime.ts";
import { inOurWords } from "../words.ts";

/** stdout and stderr of a verb. */
export class Console {
  /** 1 after an error. */
  exitCode = 0;
  readonly output: Output;
  readonly #runtime: Runtime;

  constructor(runtime: Runtime, output: Output) {
    this.#runtime = runtime;
    this.output = output;
  }

  /** Reports an error; `subject`: what it is about, if the error does not say that itself. */
  complain(error: unknown, subject?: string): void {
    this.exitCode = 1;
    for (const message of isRefusal(error) ? [wordsOf(error)] : messagesOf(error)) {
      this.say(subject === undefined ? message : `${subject}: ${message}`);
    }
  }

  /** Says it on stderr. */
  say(message: string): void {
    this.#try(() => writeWarning(this.#runtime, "loopdev", message));
  }

  /** Says how to learn more of a verb. */
  pointToHelp(verb: string): void {
    const line = `Try 'loopdev ${verb} --help' for more information.\n`;
    this.#try(() => writeError(this.#runtime, line));
  }

  #try(write: () => void): void {
    try {
      write();
    } catch {
      // stderr cannot be written: the exit code is all that is left.
      this.exitCode = 1;
    }
  }
}

/** "/dev/loop-control: permission denied: attaching loop devices needs root" */
export function wordsOf(error: LoopError): string {
  const { message, path, reason } = error;
  const hint = message.slice(error.withHint("").message.length).replace(/^ \((.*)\)$/s, "$1");
  return inOurWords([path, reason, hint].filter((part) => part !== "").join(": "));
}
