/**
 * Lists devices: as lines, an aligned table, a raw one, or JSON.
 *
 * @module
 */
import {
  type FileStatus,
  fileStatus,
  isRefusal,
  O_RDONLY,
  open,
  readLink,
} from "../lib/losetup/list.ts";
import type { Command } from "./command.ts";
import { boundDevices, type Device, namedDevice } from "./device.ts";
import { Failure } from "./failure.ts";
import { type JsonLayout, jsonTable, listTable, rawTable } from "./table.ts";
import { encodeControls } from "./text.ts";

/** Where the lists go. */
export interface Screen {
  /** Its width; undefined: it is no terminal. */
  readonly terminal: number | undefined;
  /** How JSON is laid out. */
  readonly jsonLayout: JsonLayout;
}

/** Lists all devices, or those that `command.file` is attached to. Piece by piece. */
export function* show(command: Command, screen: Screen): Generator<string> {
  const { file, offset, table } = command;
  const isWanted = file === undefined ? () => true : isAssociated(file, offset);
  // Others may have detached it since it was found.
  const ofWanted = <T>(format: (device: Device) => T) => {
    const read = (device: Device) =>
      device.isBound && isWanted(device) ? format(device) : undefined;
    // Of those that are not wanted nothing is told, so nothing more is read.
    return (device: Device) => isWanted(device) ? device.inOneUse(read) : undefined;
  };
  if (table) {
    const rows = Array.from(boundDevices(), ofWanted(rowFormat(command)));
    yield* formatTable(rows.filter((row) => row !== undefined), command, screen);
  } else {
    const read = ofWanted((device) => formatLine(device, screen));
    for (const device of boundDevices()) yield read(device) ?? "";
  }
}

/** Lists one device. */
export function* showOne(command: Command, screen: Screen): Generator<string> {
  const device = namedDevice(command.device!);
  if (command.table) {
    const row = device.inOneUse(rowFormat(command));
    return yield* formatTable([row], command, screen);
  }
  const line = device.inOneUse((device) => formatLine(device, screen));
  // A line lacks the name of a bound file only where that is too long for the kernel to tell.
  const why = device.isBound ? "File name too long" : "No such file or directory";
  if (line === undefined) throw new Failure(`${device.path}: ${why}`);
  yield line;
}

/** By inode; by name if the file does not exist, or the device's inode cannot be known. */
function isAssociated(file: string, offset: bigint | undefined): (device: Device) => boolean {
  let identity: FileStatus | undefined;
  try {
    identity = fileStatus(file);
  } catch (error) {
    if (!isRefusal(error)) throw error;
  }
  const names = [file, canonicalPath(file)];
  return (device) => {
    const same = identity && device.isBackedBy(identity);
    const isNamed = () => {
      const { backingFile } = device;
      return backingFile !== undefined && names.includes(backingFile);
    };
    if (!(same ?? isNamed())) return false;
    return offset === undefined || device.attribute("loop/offset") === String(offset);
  };
}

/** The kernel's path of the file, without links and dots; the given one if it cannot be opened. */
export function canonicalPath(file: string): string {
  try {
    using found = open(file, O_PATH | O_RDONLY);
    return found.call((fd) => readLink(`/proc/self/fd/${fd}`));
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return file;
  }
}

/** Opens just the name: nothing is read, and nothing is waited for. */
const O_PATH = 0o10000000;

type Row = readonly string[];

function rowFormat({ columns, json, raw }: Command): (device: Device) => Row {
  const padded = !json && !raw;
  return (device) => columns.map((column) => column.value(device, padded) ?? "");
}

function formatTable(
  rows: readonly Row[],
  { columns, json, raw, headings }: Command,
  { terminal, jsonLayout }: Screen,
): Iterable<string> {
  if (json) return jsonTable(columns, rows, jsonLayout);
  if (raw) return rawTable(columns, rows, headings);
  return listTable(columns, rows, { headings, terminal });
}

/**
 * "/dev/loop0: [2049]:12 (/path), offset 512"; without permission the brackets are empty. Undefined
 * without a file. Programs read these lines, so names are encoded on a terminal only.
 */
function formatLine(device: Device, { terminal }: Screen): string | undefined {
  const { path, lost, backingFile } = device;
  if (backingFile === undefined) return undefined;
  const { backingDev, backingInode } = device;
  const safe = terminal === undefined ? (name: string) => name : encodeControls;
  const identity = backingDev === undefined
    ? "[]: "
    : `[${String(backingDev).padStart(4, "0")}]:${backingInode} `;
  const numbers = ["offset", "sizelimit"].map((name) => {
    const value = device.attribute(`loop/${name}`) ?? "0";
    return value === "0" ? "" : `, ${name} ${value}`;
  });
  return `${safe(path)}${lost ? " (lost)" : ""}: ${identity}(${safe(backingFile)})` +
    numbers.join("") + "\n";
}
