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

  /** For a last step that takes no time, and must not be done by half. */
  ignoreSignals(): void {
    this.#runtime.onSignal(() => {});
  }

  /** Reports an error, of which the exit code tells. */
  complain(error: unknown): void {
    this.exitCode = 1;
    if (isRefusal(error)) return this.say(...wordsOf(error));
    for (const message of messagesOf(error)) this.say(message);
  }

  /** Says it on stderr, and `lines` below it. */
  say(message: string, ...lines: string[]): void {
    this.#try(() => {
      writeWarning(this.#runtime, "loopdev", message);
      for (const line of lines) writeError(this.#runtime, `${line}\n`);
    });
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

/** "/dev/loop-control: permission denied: attaching loop devices needs root", and lines below it. */
function wordsOf(error: LoopError): [message: string, ...lines: string[]] {
  const { message, path, reason } = error;
  const [head, ...lines] = error.withHint("").message.split("\n");
  const end = lines.map((line) => line.length + 1).reduce((sum, length) => sum + length, 0);
  const hint = message.slice(head.length, message.length - end).replace(/^ \((.*)\)$/s, "$1");
  const said = [path, reason, hint].filter((part) => part !== "").join(": ");
  return [inOurWords(said), ...lines];
}
