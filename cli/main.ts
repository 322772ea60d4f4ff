/**
 * The program: a command line in, lines and an exit code out.
 *
 * @module
 */
import type { Detaching } from "../lib/losetup/change.ts";
import { isRefusal, loopCtlGetFree, O_RDWR, open, waitHere } from "../lib/losetup/list.ts";
import { type Command, parseCommand } from "./command.ts";
import { boundDevices, namedDevice } from "./device.ts";
import { Failure, messagesOf } from "./failure.ts";
import { UsageError } from "./getopt.ts";
import { givenArguments, LOSETUP_VERSION, programName, VERSION } from "./program.ts";
import type { Runtime } from "./runtime.ts";
import { Output, writeError, writeWarning } from "./output.ts";
import { show, showOne } from "./show.ts";

/** What is not losetup's. */
interface Verbs {
  /** Whether something goes on while it waits: another thread must make the calls that block. */
  needsThreads(name: string): boolean;
  /** Resolves to the exit code; to undefined if `args` begin with no verb. */
  runVerb(args: readonly string[], runtime: Runtime): Promise<number | undefined>;
}

/**
 * Runs the program; resolves to its exit code. `loadVerbs` is called only if the first argument can be a
 * verb: it has letters alone, and a device's name ends with a number. Under the name losetup there are none.
 */
export async function main(runtime: Runtime, loadVerbs: () => Promise<Verbs>): Promise<number> {
  const [first = ""] = runtime.args;
  const verbs = /^[a-z]+$/.test(first) ? await loadVerbs() : undefined;
  // Before the first call: for a program that waits, a thread would only take time to start.
  if (!verbs?.needsThreads(first)) waitHere();
  const program = new Program(runtime);
  try {
    const args = givenArguments(runtime.args);
    if (verbs && program.name !== "losetup") {
      const code = await verbs.runVerb(args, runtime);
      if (code !== undefined) return code;
    }
    await program.run(parseCommand(args));
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
    this.#try(() => writeWarning(this.#runtime, this.name, message));
  }

  /** Reports an error; the program goes on. */
  async complain(error: unknown): Promise<void> {
    this.exitCode = 1;
    if (error instanceof Failure || error instanceof UsageError) {
      if (error.message !== "") this.warn(error.message);
      if (this.#command?.verbose) await this.#explain(this.#command, error.cause);
      if (error instanceof UsageError && error.tryHelp) {
        const line = `Try '${this.name} --help' for more information.\n`;
        this.#try(() => writeError(this.#runtime, line));
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

  #try(write: () => void): void {
    try {
      write();
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
        return await this.#detach([command.device!, ...command.others], command);
      case "detach-all":
        return await this.#detach(devicePaths(), command);
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

  /** All are told before the first one is waited for: by then a name could be another device's. */
  async #detach(paths: Iterable<string>, { wait, timeout }: Command): Promise<void> {
    const { detachDevice, waitFor } = await import("./detach.ts");
    const detaching: Detaching[] = [];
    await this.#each(paths, async (path) => {
      const later = await detachDevice(path);
      if (later) detaching.push(later);
    });
    if (!wait) return;
    const end = performance.now() + timeout;
    await this.#each(detaching, async (one) => {
      const left = Math.max(0, end - performance.now());
      await waitFor(one, { timeout, left });
    });
  }

  /** Acts on each of them, also after one has failed. */
  async #each<T>(all: Iterable<T>, act: (one: T) => void | Promise<void>): Promise<void> {
    for (const one of all) {
      try {
        await act(one);
      } catch (error) {
        await this.complain(error);
      }
    }
  }
}

/** Each is looked at when its turn has come. */
function* devicePaths(): Generator<string> {
  for (const { path } of boundDevices()) yield path;
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
