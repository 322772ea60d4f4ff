/**
 * The program: a command line in, lines and an exit code out.
 *
 * @module
 */
import { FROZEN } from "../lib/bind.ts";
import { O_RDONLY, O_RDWR, open, type OpenFile } from "../lib/file.ts";
import {
  loopClrFd,
  loopCtlGetFree,
  loopSetBlockSize,
  loopSetCapacity,
  loopSetDirectIo,
} from "../lib/loop.ts";
import { report } from "../lib/report.ts";
import { retry } from "../lib/retry.ts";
import { type Command, parseCommand } from "./command.ts";
import { detachDevice, removeDevice } from "./detach.ts";
import { boundDevices, namedDevice } from "./device.ts";
import { Failure } from "./failure.ts";
import { UsageError } from "./getopt.ts";
import { helpText } from "./help.ts";
import { givenArguments, LOSETUP_VERSION, programName, VERSION } from "./program.ts";
import type { Runtime } from "./runtime.ts";
import { setUp } from "./setup.ts";
import { Output, terminalWidth, writeError } from "./output.ts";
import { show, showOne } from "./show.ts";
import { encodeControls } from "./text.ts";

/** Runs the program; resolves to its exit code. */
export async function main(runtime: Runtime): Promise<number> {
  const program = new Program(runtime);
  let command: Command | undefined;
  try {
    command = parseCommand(givenArguments(runtime.args));
    program.verbose = command.verbose;
    await program.run(command);
  } catch (error) {
    program.complain(error);
  }
  return program.end();
}

class Program {
  exitCode = 0;
  verbose = false;
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
  end(): number {
    try {
      this.#output.flush();
    } catch (error) {
      this.complain(error);
    }
    return this.exitCode;
  }

  warn(message: string): void {
    // Names can contain what a terminal would obey.
    const safe = terminalWidth("stderr") === undefined ? message : encodeControls(message);
    this.#say(`${this.name}: ${safe}\n`);
  }

  /** Says what went wrong, and goes on. */
  complain(error: unknown): void {
    this.exitCode = 1;
    if (error instanceof Failure || error instanceof UsageError) {
      if (error.message !== "") this.warn(error.message);
      if (this.verbose && error.cause instanceof Error) this.warn(error.cause.message);
      if (error instanceof UsageError && error.tryHelp) {
        this.#say(`Try '${this.name} --help' for more information.\n`);
      }
    } else this.warn(error instanceof Error ? error.message : String(error));
  }

  #say(line: string): void {
    try {
      writeError(this.#runtime, line);
    } catch {
      // There is nowhere left to say it.
      this.exitCode = 1;
    }
  }

  async run(command: Command): Promise<void> {
    switch (command.action) {
      case "help":
        return this.#output.write([helpText(this.name)]);
      case "version":
        return this.#output.write([
          `${this.name} from loopdev ${VERSION}, compatible with util-linux ${LOSETUP_VERSION}\n`,
        ]);
      case "report":
        return this.#output.write([await formatReport(command.json)]);
      case "show":
        return this.#output.write(show(command, this.#output));
      case "show-one":
        return this.#output.write(showOne(command, this.#output));
      case "find":
        return this.#output.write([findUnused()]);
      case "create": {
        const { path, warning } = await setUp(command);
        if (command.show) this.#output.write([`${path}\n`]);
        if (warning !== undefined) this.warn(warning);
        return;
      }
      case "detach":
        return await this.#each(
          [command.device!, ...command.others],
          (path) => detachDevice(path, command),
        );
      case "detach-all": {
        const paths = [...boundDevices()].map(({ path }) => path);
        return await this.#each(paths, (path) => detachDevice(path, command));
      }
      case "remove":
        return await this.#each([command.device!, ...command.others], removeDevice);
      default:
        return await change(command);
    }
  }

  /** All of them, whatever becomes of the others. */
  async #each(paths: string[], act: (path: string) => void | Promise<void>): Promise<void> {
    for (const path of paths) {
      try {
        await act(path);
      } catch (error) {
        this.complain(error);
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

/** What changes an attached device. */
async function change({ action, device, directIo, sectorSize }: Command): Promise<void> {
  const [what, request] = changes(action, directIo === true, Number(sectorSize ?? 0));
  try {
    using opened = open(device!, O_RDONLY);
    await request(opened);
  } catch (error) {
    throw new Failure(`${device}: ${what} failed`, error);
  }
}

function changes(
  action: Command["action"],
  directIo: boolean,
  sectorSize: number,
): [what: string, request: (device: OpenFile) => void | Promise<void>] {
  // Dirty pages can be in the way for a moment.
  const patience = { ...FROZEN, codes: new Set(["EAGAIN"]) };
  switch (action) {
    case "set-capacity":
      return ["set capacity", (device) => retry(patience, () => loopSetCapacity(device))];
    case "direct-io":
      return [
        "set direct io",
        (device) => retry(patience, () => loopSetDirectIo(device, directIo)),
      ];
    case "sector-size":
      return [
        "set logical block size",
        (device) => retry(patience, () => loopSetBlockSize(device, sectorSize)),
      ];
    default:
      // With other openers this sets LO_FLAGS_AUTOCLEAR and no more, also where LOOP_FROZEN64
      // answers EBUSY while the device is mounted (from 6.19).
      return ["set autoclear", loopClrFd];
  }
}

async function formatReport(json: boolean): Promise<string> {
  const found = await report();
  if (json) return `${JSON.stringify({ report: found }, null, 3)}\n`;
  const { reasons, parsers, ...facts } = found;
  const read = Object.entries(parsers).filter(([, reads]) => reads).map(([name]) => name);
  const lines = Object.entries({ ...facts, parsers: read.join(" ") || "none" });
  return lines.map(([name, value]) => `${name.padEnd(10)}${value}\n`).join("") +
    reasons.map((reason) => `${reason}\n`).join("");
}
