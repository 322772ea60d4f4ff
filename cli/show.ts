/**
 * Listing: as lines, aligned, raw, JSON.
 *
 * @module
 */
import { ifExists, listDirectory, O_RDONLY, open, readLink } from "../lib/file.ts";
import { type FileStatus, status as fileStatus } from "../lib/stat.ts";
import { isBackedBy, list, type LoopStatus, status } from "../lib/status.ts";
import { LoopError } from "../lib/errors.ts";
import type { Shown } from "./columns.ts";
import type { Command } from "./command.ts";
import { Failure, isRefusal } from "./failure.ts";
import { jsonTable, listTable, rawTable } from "./table.ts";
import { encodeControls } from "./text.ts";

/** Prints what is attached: everything, or what `command.file` is attached to. */
export async function show(command: Command, terminal: number | undefined): Promise<string> {
  const order = ifExists(() => listDirectory("/sys/block")) ?? [];
  const rank = ({ number }: LoopStatus) => order.indexOf(`loop${number}`);
  // In the order of the directory, as losetup.
  const devices = (await list()).toSorted((a, b) => rank(a) - rank(b));
  const wanted = command.file === undefined
    ? devices
    : devices.filter(isAssociated(command.file, command.offset));
  const rows = wanted.map((status) => ({ path: status.path, lost: isLost(status.path), status }));
  if (command.table) return formatTable(rows, command, terminal);
  return rows.map((row) => formatLine(row, terminal)).join("");
}

/** Prints one device. */
export async function showOne(command: Command, terminal: number | undefined): Promise<string> {
  const path = command.device!;
  const found = await statusOf(path);
  const shown = { path, lost: found !== undefined && isLost(path), status: found };
  if (command.table) return formatTable([shown], command, terminal);
  if (!shown.status) throw new Failure(`${path}: No such file or directory`);
  return formatLine({ ...shown, status: shown.status }, terminal);
}

/** Whether the kernel's node is missing. */
export function isLost(path: string): boolean {
  return ifExists(() => fileStatus(path)) === undefined;
}

async function statusOf(path: string): Promise<LoopStatus | undefined> {
  try {
    return await status(path);
  } catch (error) {
    if (!isRefusal(error, "ENOENT", "ENOTDIR", "ENXIO", "ENOTBLK")) throw error;
  }
  // Without a node there is still what the kernel calls by that name.
  return (await list()).find((device) => device.path === path);
}

/** By inode; by name where there is no inode, or the device does not tell its own. */
function isAssociated(
  file: string,
  offset: bigint | undefined,
): (device: LoopStatus) => boolean {
  let identity: FileStatus | undefined;
  try {
    identity = fileStatus(file);
  } catch (error) {
    if (!(error instanceof LoopError)) throw error;
  }
  const names = [file, canonicalPath(file)];
  return (device) => {
    if (offset !== undefined && BigInt(device.offset) !== offset) return false;
    return identity && device.backingInode !== undefined
      ? isBackedBy(device, identity)
      : names.includes(device.backingFile);
  };
}

/** The path without links and dots, as the kernel knows it; as it is where that cannot be found. */
export function canonicalPath(file: string): string {
  try {
    using found = open(file, O_PATH | O_RDONLY);
    return found.call((fd) => readLink(`/proc/self/fd/${fd}`));
  } catch (error) {
    if (!(error instanceof LoopError)) throw error;
    return file;
  }
}

/** Neither reads nor waits: just the name. */
const O_PATH = 0o10000000;

function formatTable(shown: Shown[], command: Command, terminal: number | undefined): string {
  const { columns, json, raw, headings } = command;
  const padded = !json && !raw;
  const rows = shown.map((device) => columns.map((column) => column.value(device, padded)));
  if (json) return jsonTable(columns, rows);
  if (raw) return rawTable(columns, rows, headings);
  return listTable(columns, rows, { headings, terminal });
}

/**
 * "/dev/loop0: [2049]:12 (/path), offset 512"; without permission the brackets are empty. Names are
 * for programs to read, so only a terminal gets them encoded.
 */
function formatLine(
  { path, lost, status }: Shown & { status: LoopStatus },
  terminal: number | undefined,
): string {
  const { backingDev, backingInode, offset, sizelimit } = status;
  const safe = terminal === undefined ? (name: string) => name : encodeControls;
  const identity = backingDev === undefined
    ? "[]: "
    : `[${String(encodeDev(backingDev)).padStart(4, "0")}]:${backingInode} `;
  return `${safe(path)}${lost ? " (lost)" : ""}: ${identity}(${safe(status.backingFile)})` +
    (offset > 0 ? `, offset ${offset}` : "") +
    (sizelimit > 0 ? `, sizelimit ${sizelimit}` : "") + "\n";
}

/** One number of both, as stat(2) gives it. */
function encodeDev(dev: string): number {
  const [major, minor] = dev.split(":").map(Number);
  return minor % 0x100 + major * 0x100 + Math.floor(minor / 0x100) * 0x100000;
}
