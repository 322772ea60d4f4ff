/**
 * The table's columns, and what stands in them.
 *
 * @module
 */
import { decodeDev } from "../lib/losetup/list.ts";
import type { Device } from "./device.ts";
import { UsageError } from "./getopt.ts";

/** A column of the table. */
export interface Column {
  readonly name: string;
  readonly help: string;
  /** Of its values in JSON. */
  readonly json: "string" | "number" | "boolean";
  /** Smallest width for its values, if they are wider than the heading. */
  readonly width: number;
  /** Flush right. */
  readonly right: boolean;
  /** May become narrower on a terminal; a value that does not fit then breaks the line. */
  readonly shrinks?: boolean;
  /** The value as text; undefined if it cannot be known. */
  value(device: Device, padded: boolean): string | undefined;
}

function text(name: string, width: number, help: string, value: Column["value"]): Column {
  return { name, help, json: "string", width, right: false, value };
}

function number(name: string, width: number, help: string, value: Column["value"]): Column {
  return { name, help, json: "number", width, right: true, value };
}

/** `otherwise`: what losetup says where the kernel does not. */
function flag(name: string, help: string, attribute: string, otherwise = "0"): Column {
  const value = (device: Device) => device.attribute(attribute) ?? otherwise;
  return { name, help, json: "boolean", width: 1, right: true, value };
}

/** Two halves of a device number; in lists aligned at the colon. */
function pair(dev: string | undefined, before: number, after: number, padded: boolean) {
  if (dev === undefined || !padded) return dev;
  const [major, minor] = dev.split(":");
  return `${major.padStart(before)}:${minor.padEnd(after)}`;
}

const half = (dev: string | undefined, which: 0 | 1) => dev?.split(":")[which];

function backingDev({ backingDev }: Device): string | undefined {
  return backingDev === undefined ? undefined : decodeDev(backingDev);
}

/** In losetup's order, which is that of --output-all. */
export const COLUMNS: readonly Column[] = [
  text("NAME", 0, "the device's node", ({ path, lost }) => lost ? `${path} (lost)` : path),
  flag("AUTOCLEAR", "detached after its last user", "loop/autoclear"),
  { ...text("BACK-FILE", 0, "the file", ({ backingFile }) => backingFile), shrinks: true },
  number("BACK-INO", 4, "the file's inode", ({ backingInode }) => backingInode?.toString()),
  text(
    "BACK-MAJ:MIN",
    6,
    "device number of the file's file system",
    (device, padded) => pair(backingDev(device), 8, 3, padded),
  ),
  text("BACK-MAJ", 6, "its major number", (device) => half(backingDev(device), 0)),
  text("BACK-MIN", 6, "its minor number", (device) => half(backingDev(device), 1)),
  text("MAJ:MIN", 3, "the device's number", ({ dev }, padded) => pair(dev, 3, 3, padded)),
  number("MAJ", 1, "its major number", ({ dev }) => half(dev, 0)),
  number("MIN", 1, "its minor number", ({ dev }) => half(dev, 1)),
  number("OFFSET", 5, "where it begins in the file", (device) => device.attribute("loop/offset")),
  // Of an unbound device losetup says what the kernel could do.
  flag("PARTSCAN", "the kernel scans for partitions", "loop/partscan", "1"),
  text("REF", 0, "reference string", ({ reference }) => reference),
  flag("RO", "read-only", "ro"),
  number(
    "SIZELIMIT",
    5,
    "the most bytes of the file, or 0",
    (device) => device.attribute("loop/sizelimit"),
  ),
  flag("DIO", "direct I/O", "loop/dio"),
  number("LOG-SEC", 4, "logical sector size in bytes", ({ sectorSize }) => sectorSize),
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

function byName(name: string): Column {
  return COLUMNS.find((column) => column.name === name)!;
}

/** More columns than a user can mean: losetup fails there, too. */
const MOST_COLUMNS = 2 * COLUMNS.length;

/**
 * The columns that --output names; +list adds to `known`. Where losetup fails without a message, the
 * error's message is empty.
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
