/**
 * What a verb says: lines on stdout, and errors on stderr.
 *
 * @module
 */
import { isRefusal, type LoopError } from "../../lib/losetup/list.ts";
import { Failure, messagesOf, partsOf } from "../failure.ts";
import { type Output, terminalWidth, writeError, writeWarning } from "../output.ts";
import type { Runtime, Signal } from "../runtime.ts";
import { encodeControls } from "../text.ts";
import { inOurWords } from "../words.ts";
import { abortOn } from "./interrupt.ts";

/** stdout and stderr of a verb. */
export class Console {
  /** 1 after an error. */
  exitCode = 0;
  readonly output: Output;
  /** The image that is worked on: errors name it instead of its loop device, which goes with the error. */
  subject: string | undefined;
  readonly #runtime: Runtime;
  #hasStatus = false;
  readonly #names: [theirs: string, ours: string][] = [];

  constructor(runtime: Runtime, output: Output) {
    this.#runtime = runtime;
    this.output = output;
  }

  /** Aborts at a signal that `counts`; no signal ends the program by itself any more. */
  abortOn(counts: (signal: Signal) => boolean = () => true): AbortSignal {
    return abortOn(this.#runtime, counts);
  }

  /** For a last step that takes no time, and must not be done by half. */
  ignoreSignals(): void {
    this.#runtime.onSignal(() => {});
  }

  /** Reports an error, of which the exit code tells. */
  complain(error: unknown): void {
    this.exitCode = 1;
    for (const part of partsOf(error)) {
      if (isRefusal(part)) this.say(...wordsOf(part, this.subject));
      else if (part instanceof Failure) this.say(part.message);
      else for (const message of messagesOf(part)) this.say(inOurWords(message));
    }
  }

  /** What is said of `path` from now on says `name` instead: nobody knows where we mount an image. */
  callPath(path: string, name: string): void {
    this.#names.push([path, name]);
  }

  /** Says it on stderr, and `lines` below it. */
  say(message: string, ...lines: string[]): void {
    this.status("");
    const said = this.#names.reduce((text, [path, name]) => text.replaceAll(path, name), message);
    this.#try(() => {
      writeWarning(this.#runtime, "loopdev", said);
      for (const line of lines) writeError(this.#runtime, `${line}\n`);
    });
  }

  /** Says how to learn more of a verb. */
  pointToHelp(verb: string): void {
    const line = `Try 'loopdev ${verb} --help' for more information.\n`;
    this.#try(() => writeError(this.#runtime, line));
  }

  /** A name for stdout: a terminal obeys what stands in it, and programs want its bytes. */
  shown(name: string): string {
    return this.output.terminal === undefined ? name : encodeControls(name);
  }

  /** Shows a line on the terminal, if stderr is one, instead of the one before; "" shows none. */
  status(line: string): void {
    if (line === "" && !this.#hasStatus) return;
    const width = terminalWidth("stderr");
    if (width === undefined) return;
    this.#hasStatus = line !== "";
    this.#try(() => writeError(this.#runtime, `\r\x1b[K${line.slice(0, width - 1)}`));
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
function wordsOf(error: LoopError, subject?: string): [message: string, ...lines: string[]] {
  const { message, path, reason } = error;
  const [head, ...lines] = error.withHint("").message.split("\n");
  const end = lines.map((line) => line.length + 1).reduce((sum, length) => sum + length, 0);
  const hint = message.slice(head.length, message.length - end).replace(/^ \((.*)\)$/s, "$1");
  const [, device, partition] = /^(\/dev\/loop\d+)(?:p(\d+))?$/.exec(path) ?? [];
  const isGone = subject !== undefined && device !== undefined && subject !== path;
  const ours = partition === undefined ? subject : `${subject}: partition ${partition}`;
  const name = isGone ? ours : path;
  const remedy = isGone ? withoutDevice(hint, device, subject) : hint;
  const said = [name, reason, remedy].filter((part) => part !== "").join(": ");
  return [inOurWords(said), ...lines];
}

/** Advice without the node of a device that is about to go: the next image may get its number. */
export function withoutDevice(advice: string, device: string, image: string): string {
  const said = advice.replaceAll(new RegExp(`${device}(?!\\d)`, "g"), "DEVICE");
  return said === advice ? said : `${said}, where loopdev -fP --show ${image} prints DEVICE`;
}
