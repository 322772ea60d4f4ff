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
  if (table) {
    yield* formatTable([...boundDevices()].filter(isWanted), command, screen);
  } else {
    for (const device of boundDevices()) {
      if (isWanted(device)) yield formatLine(device, screen) ?? "";
    }
  }
}

/** Lists one device. */
export function* showOne(command: Command, screen: Screen): Generator<string> {
  const device = namedDevice(command.device!);
  if (command.table) return yield* formatTable([device], command, screen);
  const line = formatLine(device, screen);
  if (line === undefined) throw new Failure(`${device.path}: No such file or directory`);
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
    if (!(same ?? names.includes(device.backingFile ?? ""))) return false;
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

function formatTable(
  devices: Device[],
  { columns, json, raw, headings }: Command,
  { terminal, jsonLayout }: Screen,
): Iterable<string> {
  const padded = !json && !raw;
  const rows = devices.map((device) => columns.map((column) => column.value(device, padded) ?? ""));
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
