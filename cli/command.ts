/**
 * From arguments to a command, in losetup's order and with its errors.
 *
 * @module
 */
import { type Column, COLUMNS, DEFAULT_COLUMNS, parseColumns } from "./columns.ts";
import { getopt, UsageError } from "./getopt.ts";
import { EXCLUSIVE } from "./options.ts";
import { parseSize } from "./size.ts";

/** What one run of the program does. */
export type Action =
  | "help"
  | "version"
  | "report"
  | "create"
  | "detach"
  | "detach-all"
  | "remove"
  | "find"
  | "show"
  | "show-one"
  | "set-capacity"
  | "direct-io"
  | "sector-size"
  | "autoclear";

/** A command line that was parsed. */
export interface Command {
  action: Action;
  /** The first device named, as a path. */
  device?: string;
  /** The devices behind it. */
  others: string[];
  /** The file to attach, or to look for. */
  file?: string;
  offset?: bigint;
  sizelimit?: bigint;
  sectorSize?: bigint;
  partscan: boolean | "userspace";
  readOnly: boolean;
  /** undefined: not given. */
  directIo?: boolean;
  reference?: string;
  nooverlap: boolean;
  show: boolean;
  autoclear: boolean;
  wait: boolean;
  workaround: "auto" | "probe" | "always" | "never";
  timeout: number;
  verbose: boolean;
  /** Table instead of lines. */
  table: boolean;
  json: boolean;
  raw: boolean;
  headings: boolean;
  columns: readonly Column[];
}

const WORKAROUNDS = ["auto", "probe", "always", "never"] as const;

/** Parses the arguments; throws {@linkcode UsageError}. */
export function parseCommand(args: readonly string[]): Command {
  const command: Command = {
    action: "create",
    others: [],
    partscan: false,
    readOnly: false,
    nooverlap: false,
    show: false,
    autoclear: false,
    wait: false,
    workaround: "auto",
    timeout: 10_000,
    verbose: false,
    table: false,
    json: false,
    raw: false,
    headings: true,
    columns: [],
  };
  const operands: string[] = [];
  const given: Given = { first: EXCLUSIVE.map(() => undefined) };
  for (const { option, value } of getopt(args, operands)) {
    refuseExclusive(option.long, given.first);
    take(command, given, option.long, value);
    if (given.action === "help" || given.action === "version") {
      return { ...command, action: given.action };
    }
  }
  // Without arguments, or with a format alone: all devices, as a table.
  if (args.length === 0 || args.length === 1 && (command.raw || command.json)) {
    given.action ??= "show";
    command.table = true;
  }
  if (command.table && command.columns.length === 0) command.columns = DEFAULT_COLUMNS;
  command.action = chooseAction(command, given, operands);
  checkContext(command);
  if (given.columns !== undefined) {
    command.columns = parseColumns(given.columns, command.columns);
  }
  return command;
}

/** What only parsing needs. */
interface Given {
  action?: Action;
  columns?: string;
  /** Of each group of {@linkcode EXCLUSIVE} the option that came first. */
  readonly first: (string | undefined)[];
}

function refuseExclusive(long: string, first: (string | undefined)[]): void {
  for (const [i, group] of EXCLUSIVE.entries()) {
    if (!group.includes(long)) continue;
    const other = first[i] ??= long;
    if (other !== long) throw new UsageError(`options --${other} and --${long} cannot be combined`);
  }
}

function take(command: Command, given: Given, long: string, value: string | undefined): void {
  switch (long) {
    case "all":
      given.action = "show";
      break;
    case "associated":
      given.action = "show";
      command.file = value;
      break;
    case "detach":
    case "detach-all":
    case "find":
    case "help":
    case "remove":
    case "report":
    case "set-capacity":
    case "version":
      given.action = long;
      break;
    case "offset":
      command.offset = parseSize(value!, "offset");
      break;
    case "sizelimit":
      command.sizelimit = parseSize(value!, "size");
      break;
    case "sector-size":
      command.sectorSize = parseSize(value!, "logical block size");
      break;
    case "partscan":
      if (value !== undefined && value !== "userspace") throw unsupported(value);
      command.partscan = value ?? true;
      break;
    case "read-only":
      command.readOnly = true;
      break;
    case "direct-io":
      if (value !== undefined && value !== "on" && value !== "off") throw unsupported(value);
      command.directIo = value !== "off";
      break;
    case "loop-ref":
      command.reference = value;
      break;
    case "list":
      command.table = true;
      break;
    case "output":
      given.columns = value;
      command.table = true;
      break;
    case "output-all":
      command.columns = COLUMNS;
      command.table = true;
      break;
    case "noheadings":
      command.headings = false;
      break;
    case "workaround":
      if (!WORKAROUNDS.includes(value as Command["workaround"])) throw unsupported(value!);
      command.workaround = value as Command["workaround"];
      break;
    case "timeout":
      if (!/^\d{1,9}$/.test(value!)) throw new UsageError(`failed to parse timeout: '${value}'`);
      command.timeout = Number(value);
      break;
    case "json":
    case "raw":
    case "show":
    case "nooverlap":
    case "autoclear":
    case "wait":
    case "verbose":
      command[long] = true;
  }
}

function unsupported(value: string): UsageError {
  return new UsageError(`unsupported argument: ${value}`);
}

/** Takes device and file from the operands, and returns the action that they mean. */
function chooseAction(command: Command, given: Given, operands: string[]): Action {
  const device = () => {
    const name = operands.shift();
    if (name === undefined) throw new UsageError("no loop device specified");
    // A name without a slash at its beginning is a node in /dev.
    return name.startsWith("/") ? name : `/dev/${name}`;
  };
  const { action } = given;
  if (action === "find" && operands.length > 0) {
    command.file = operands.shift();
    if (operands.length > 0) throw new UsageError("unexpected arguments");
    return "create";
  }
  if (action === "detach" || action === "remove" || action === "set-capacity") {
    command.device = device();
    while (operands.length > 0) command.others.push(device());
    return action;
  }
  if (action !== undefined) return action;
  if (command.table && operands.length === 0) return "show";
  const alone = operands.length === 1;
  command.device = device();
  if (!alone) {
    command.file = operands.shift();
    return "create";
  }
  if (command.directIo !== undefined) return "direct-io";
  if (command.sectorSize !== undefined) return "sector-size";
  return command.autoclear ? "autoclear" : "show-one";
}

/** Throws if an option has no meaning with the action. */
function checkContext(command: Command): void {
  const { action, file } = command;
  if (action === "create") return;
  const directIo = command.directIo === true && action !== "direct-io";
  const setup = command.partscan !== false || command.readOnly || command.show || directIo;
  if (setup || (command.sizelimit ?? 0n) !== 0n) {
    throw new UsageError(
      "the options --{sizelimit,partscan,read-only,show} are allowed during loop device setup only",
    );
  }
  if (command.offset !== undefined && (action !== "show" || file === undefined)) {
    throw new UsageError("the option --offset is not allowed in this context");
  }
  if (command.autoclear && action !== "autoclear") {
    throw new UsageError("the option --autoclear is not allowed in this context");
  }
  if (command.wait && action !== "detach" && action !== "detach-all") {
    throw new UsageError("the option --wait is not allowed in this context");
  }
}
