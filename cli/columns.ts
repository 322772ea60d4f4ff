/**
 * The table's columns, and what stands in them.
 *
 * @module
 */
import { ifExists, readText } from "../lib/file.ts";
import { status as fileStatus } from "../lib/stat.ts";
import { loopNumber, type LoopStatus } from "../lib/status.ts";
import { UsageError } from "./getopt.ts";

/** A device to be shown: bound or not, there or not. */
export interface Shown {
  /** As it was named. */
  readonly path: string;
  /** Whether the kernel has it and /dev does not. */
  readonly lost: boolean;
  readonly status: LoopStatus | undefined;
}

/** A column of the table. */
export interface Column {
  readonly name: string;
  readonly help: string;
  /** Of its values in JSON. */
  readonly json: "string" | "number" | "boolean";
  /** Smallest width that its values get, if it is wider than the heading. */
  readonly width: number;
  /** Flush right. */
  readonly right: boolean;
  /** May become narrower on a terminal; what does not fit then breaks the line. */
  readonly shrinks?: boolean;
  /** The value as text; "" if it cannot be known. */
  value(shown: Shown, padded: boolean): string;
}

function text(name: string, width: number, help: string, value: Column["value"]): Column {
  return { name, help, json: "string", width, right: false, value };
}

function number(name: string, width: number, help: string, value: Column["value"]): Column {
  return { name, help, json: "number", width, right: true, value };
}

function flag(name: string, help: string, value: (shown: Shown) => boolean): Column {
  const digit = (shown: Shown) => value(shown) ? "1" : "0";
  return { name, help, json: "boolean", width: 1, right: true, value: digit };
}

const shown = (value: unknown) => value === undefined ? "" : String(value);

/** Two halves of a device number; in lists aligned at the colon. */
function pair(dev: string | undefined, before: number, after: number, padded: boolean): string {
  if (dev === undefined || !padded) return dev ?? "";
  const [major, minor] = dev.split(":");
  return `${major.padStart(before)}:${minor.padEnd(after)}`;
}

/** In losetup's order, which is that of --output-all. */
export const COLUMNS: readonly Column[] = [
  text("NAME", 0, "the device's node", ({ path, lost }) => lost ? `${path} (lost)` : path),
  flag("AUTOCLEAR", "goes with its last user", ({ status }) => status?.autoclear ?? false),
  {
    ...text("BACK-FILE", 0, "the file", ({ status }) => status?.backingFile ?? ""),
    shrinks: true,
  },
  number("BACK-INO", 4, "the file's inode", ({ status }) => shown(status?.backingInode)),
  text(
    "BACK-MAJ:MIN",
    6,
    "device number of the file's file system",
    ({ status }, padded) => pair(status?.backingDev, 8, 3, padded),
  ),
  text("BACK-MAJ", 6, "its major number", ({ status }) => shown(status?.backingDev?.split(":")[0])),
  text("BACK-MIN", 6, "its minor number", ({ status }) => shown(status?.backingDev?.split(":")[1])),
  text("MAJ:MIN", 3, "the device's number", (shown, padded) => pair(devOf(shown), 3, 3, padded)),
  number("MAJ", 1, "its major number", (device) => shown(devOf(device)?.split(":")[0])),
  number("MIN", 1, "its minor number", (device) => shown(devOf(device)?.split(":")[1])),
  number("OFFSET", 5, "where it begins in the file", ({ status }) => shown(status?.offset)),
  // Of an unbound device losetup says what the kernel could do.
  flag("PARTSCAN", "the kernel scans for partitions", ({ status }) => status?.partscan ?? true),
  text("REF", 0, "reference string", ({ status }) => status?.reference ?? ""),
  flag("RO", "read-only", (device) => device.status?.readOnly ?? attribute(device, "ro") === "1"),
  number(
    "SIZELIMIT",
    5,
    "the most bytes of the file, or 0",
    ({ status }) => shown(status?.sizelimit),
  ),
  flag("DIO", "direct I/O", ({ status }) => status?.directIo ?? false),
  number(
    "LOG-SEC",
    4,
    "logical sector size in bytes",
    (device) => shown(device.status?.sectorSize ?? attribute(device, "queue/logical_block_size")),
  ),
];

/** What --list prints if nothing else is asked for. */
export const DEFAULT_COLUMNS: readonly Column[] = [
  "NAME",
  "SIZELIMIT",
  "OFFSET",
  "AUTOCLEAR",
  "RO",
  "BACK-FILE",
  "DIO",
  "LOG-SEC",
].map(byName);

/** Device number of what is not bound, but there. */
function devOf({ path, status }: Shown): string | undefined {
  if (status) return status.dev;
  const node = ifExists(() => fileStatus(path));
  return node?.type === "block device" ? node.rdev : undefined;
}

/** A sysfs attribute of a device that is not bound. */
function attribute({ path }: Shown, name: string): string | undefined {
  return ifExists(() => readText(`/sys/block/loop${loopNumber(path)}/${name}`));
}

function byName(name: string): Column {
  return COLUMNS.find((column) => column.name === name)!;
}

/** More than these were never asked for in earnest. */
const MOST_COLUMNS = 2 * COLUMNS.length;

/**
 * The columns that --output names; +list adds to `known`. Where losetup fails without a word, so do
 * we: the message is empty then.
 */
export function parseColumns(list: string, known: readonly Column[]): Column[] {
  const add = list.startsWith("+");
  const names = add ? list.slice(1) : list;
  if (names === "") throw new UsageError("");
  const columns = add ? [...known] : [];
  for (let at = 0; at < names.length;) {
    const comma = names.indexOf(",", at);
    // A comma at the very end belongs to the name before it.
    const end = comma < 0 || comma === names.length - 1 ? names.length : comma;
    if (end === at || columns.length === MOST_COLUMNS) throw new UsageError("");
    const name = names.slice(at, end).toUpperCase();
    const column = COLUMNS.find((column) => column.name === name);
    if (!column) throw new UsageError(`unknown column: ${names.slice(at)}`);
    columns.push(column);
    at = end + 1;
  }
  return columns;
}
