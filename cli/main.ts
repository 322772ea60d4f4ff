/**
 * The program: a command line in, lines and an exit code out.
 *
 * @module
 */
import { isRefusal, loopCtlGetFree, O_RDWR, open } from "../lib/losetup/list.ts";
import { type Command, parseCommand } from "./command.ts";
import { boundDevices, namedDevice } from "./device.ts";
import { Failure, messagesOf } from "./failure.ts";
import { UsageError } from "./getopt.ts";
import { givenArguments, LOSETUP_VERSION, programName, VERSION } from "./program.ts";
import type { Runtime } from "./runtime.ts";
import { Output, terminalWidth, writeError } from "./output.ts";
import { show, showOne } from "./show.ts";
import { encodeControls } from "./text.ts";

/** Runs the program; resolves to its exit code. */
export async function main(runtime: Runtime): Promise<number> {
  const program = new Program(runtime);
  try {
    const command = parseCommand(givenArguments(runtime.args));
    await program.run(command);
  } catch (error) {
    await program.complain(error);
  }
  return await program.end();
}

class Program {
  exitCode = 0;
  #command: Command | undefined;
  readonly #runtime: Runtime;
  readonly #output: Output;
  #name: string | undefined;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
    this.#output = new Output(runtime);
  }

  get name(): string {
    return this.#name ??= programName(this.#runtime.args);
  }

  /** Writes what is still unwritten; gives the exit code. */
  async end(): Promise<number> {
    try {
      this.#output.flush();
    } catch (error) {
      await this.complain(error);
    }
    return this.exitCode;
  }

  warn(message: string): void {
    // A name can have control sequences, which a terminal obeys.
    const safe = terminalWidth("stderr") === undefined ? message : encodeControls(message);
    this.#say(`${this.name}: ${safe}\n`);
  }

  /** Reports an error; the program goes on. */
  async complain(error: unknown): Promise<void> {
    this.exitCode = 1;
    if (error instanceof Failure || error instanceof UsageError) {
      if (error.message !== "") this.warn(error.message);
      if (this.#command?.verbose) await this.#explain(this.#command, error.cause);
      if (error instanceof UsageError && error.tryHelp) {
        this.#say(`Try '${this.name} --help' for more information.\n`);
      }
    } else for (const message of messagesOf(error)) this.warn(message);
  }

  /** Prints the cause of an error, and what helps. */
  async #explain({ action, device = "" }: Command, cause: unknown): Promise<void> {
    const { explainFile, inOurWords } = await import("./words.ts");
    const given = action === "create" ? "" : isRefusal(cause) ? cause.path : device;
    const ofFile = explainFile(given);
    const why = ofFile === undefined ? messagesOf(cause).map(inOurWords) : [ofFile];
    for (const message of why) this.warn(message);
  }

  #say(line: string): void {
    try {
      writeError(this.#runtime, line);
    } catch {
      // stderr cannot be written: the exit code is all that is left.
      this.exitCode = 1;
    }
  }

  /** Loads the modules of the action only: the start counts, and most actions need few of them. */
  async run(command: Command): Promise<void> {
    this.#command = command;
    switch (command.action) {
      case "help": {
        const { helpText } = await import("./help.ts");
        return this.#output.write([helpText(this.name)]);
      }
      case "version":
        return this.#output.write([
          // Scripts take the fourth word for losetup's version.
          `${this.name} from util-linux ${LOSETUP_VERSION} (loopdev ${VERSION})\n`,
        ]);
      case "report": {
        const { formatReport } = await import("./host.ts");
        return this.#output.write([await formatReport(command.json)]);
      }
      case "show":
        return this.#output.write(show(command, this.#output));
      case "show-one":
        return this.#output.write(showOne(command, this.#output));
      case "find":
        return this.#output.write([findUnused()]);
      case "create": {
        const { setUp } = await import("./setup.ts");
        const { path, warning } = await setUp(command);
        if (command.show) this.#output.write([`${path}\n`]);
        if (warning !== undefined) this.warn(warning);
        return;
      }
      case "detach":
      case "detach-all": {
        const { detachDevice } = await import("./detach.ts");
        const paths = command.action === "detach"
          ? [command.device!, ...command.others]
          : Array.from(boundDevices(), ({ path }) => path);
        return await this.#each(paths, (path) => detachDevice(path, command));
      }
      case "remove": {
        const { removeDevice } = await import("./detach.ts");
        return await this.#each([command.device!, ...command.others], removeDevice);
      }
      default: {
        const { change } = await import("./change.ts");
        return await change(command);
      }
    }
  }

  /** Acts on each path, also after one has failed. */
  async #each(paths: string[], act: (path: string) => void | Promise<void>): Promise<void> {
    for (const path of paths) {
      try {
        await act(path);
      } catch (error) {
        await this.complain(error);
      }
    }
  }
}

function findUnused(): string {
  try {
    using control = open("/dev/loop-control", O_RDWR);
    const path = `/dev/loop${loopCtlGetFree(control)}`;
    return `${path}${namedDevice(path).lost ? " (lost)" : ""}\n`;
  } catch (error) {
    throw new Failure("cannot find an unused loop device", error);
  }
}
