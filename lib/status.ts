/**
 * What is attached on this machine, by anyone: `losetup --list` as values.
 *
 * @module
 */
import { checkByteCount, checkPath } from "./base/checks.ts";
import { checkAgainst } from "./base/options.ts";
import { isRefusal, LoopError, unlessRefused } from "./base/errors.ts";
import { byteCount, type LoopStatus } from "./binding/facts.ts";
import {
  absolutePath,
  decodeDev,
  ifExists,
  listDirectory,
  O_RDONLY,
  open,
  type OpenFile,
  readText,
} from "./kernel/file.ts";
import { loop_info64, loopGetStatus64 } from "./kernel/loop.ts";
import { decodeName } from "./base/names.ts";
import { readSteadily } from "./base/steady.ts";
import { type FileStatus, fileStatus } from "./kernel/stat.ts";
import { sysfsBackingFile, sysfsDev, sysfsDiskseq, sysfsIsBound } from "./kernel/sysfs.ts";
import { openOwnNode } from "./udev/close_write_race.ts";
import { yieldToEventLoop } from "./runtime/event_loop.ts";

/**
 * Every bound loop device of this machine, by number.
 *
 * @example
 * ```ts
 * import { list } from "@loopdev/loopdev";
 * for (const { path, backingFile, offset } of await list()) console.log(path, backingFile, offset);
 * ```
 */
export async function list(): Promise<LoopStatus[]> {
  const numbers = listDirectory("/sys/block").flatMap((name) =>
    /^loop(\d+)$/.exec(name)?.[1] ?? []
  );
  const all: LoopStatus[] = [];
  for (const number of numbers.map(Number).sort((a, b) => a - b)) {
    await yieldToEventLoop();
    if (!sysfsIsBound(number)) continue;
    const status = readStatus(number);
    if (status) all.push(status);
  }
  return all;
}

/**
 * The loop device at `path`. Rejects with {@linkcode LoopError}, code ENXIO if no file is bound to it,
 * ENOTBLK if it is no loop device.
 *
 * @example
 * ```ts
 * import { attach, status } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 * const image = "/tmp/loopdev-example.img";
 * writeFileSync(image, new Uint8Array(2 ** 20));
 * await using loop = await attach(image);
 * console.log((await status(loop.path)).backingFile); // /tmp/loopdev-example.img
 * ```
 */
export async function status(path: string | URL): Promise<LoopStatus> {
  const node = absolutePath(checkPath("path", path));
  await yieldToEventLoop();
  const found = readStatus(loopNumber(node));
  if (found) return { ...found, path: node };
  const hint = "no file is bound to it";
  throw new LoopError({ code: "ENXIO", path: node, hint });
}

const RANGE = { offset: { check: checkByteCount }, sizelimit: { check: checkByteCount } };

/**
 * The devices that `file` is attached to: the file itself, by device and inode, whatever its name.
 * With `offset` or `sizelimit` only those with just these; bytes. What they are by the time that the
 * promise resolves is for {@linkcode openLoop} to say.
 *
 * Rejects with {@linkcode LoopError}: ENOENT if there is no such file, EACCES if a device may not be
 * asked for its file.
 *
 * @example
 * ```ts
 * import { attach, find } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 * const image = "/tmp/loopdev-example.img";
 * writeFileSync(image, new Uint8Array(2 ** 20));
 * await using loop = await attach(image);
 * console.log((await find(image)).map(({ path }) => path), loop.path);
 * ```
 */
export async function find(
  file: string | URL,
  options: { offset?: number; sizelimit?: number } = {},
): Promise<LoopStatus[]> {
  const path = checkPath("file", file);
  const { offset, sizelimit } = checkAgainst(options, RANGE);
  return (await findBackedBy(fileStatus(path))).filter((device) =>
    (offset ?? device.offset) === device.offset &&
    (sizelimit ?? device.sizelimit) === device.sizelimit
  );
}

/** Which part of a file a device covers; bytes, `sizelimit` 0: up to the end. */
interface Range<Count extends number | bigint> {
  readonly offset: Count;
  readonly sizelimit: Count;
}

/** Whether two ranges of the same file have a byte in common. */
export function overlaps<Count extends number | bigint>(a: Range<Count>, b: Range<Count>): boolean {
  return a.offset < endOf(b) && b.offset < endOf(a);
}

function endOf({ offset, sizelimit }: Range<number | bigint>): number | bigint {
  return sizelimit ? (offset as bigint) + (sizelimit as bigint) : Infinity;
}

/** The devices whose backing file is this one. */
export async function findBackedBy(file: FileStatus): Promise<LoopStatus[]> {
  return (await list()).map(identify).filter((device) => isBackedBy(device, file));
}

/** The device with its file's identity, as far as that can be known. */
function identify(device: LoopStatus): LoopStatus {
  if (device.backingInode !== undefined) return device;
  // Without permission to ask that device nobody can say that the file is not attached to it.
  if (ifExists(() => fileStatus(device.path))?.rdev === device.dev) {
    ifExists(() => open(device.path, O_RDONLY).close());
  }
  return { ...device, ...identityWithoutNode(device) };
}

/**
 * A container's /dev may have no node for a device, or that of another one. Then the device is asked by a
 * node of our own; where none can be made, the name in sysfs still leads to most files.
 */
function identityWithoutNode(
  { path, number, dev, backingFile }: LoopStatus,
): Partial<Identity> | undefined {
  using device = openOwnNode(path, dev, O_RDONLY);
  const identity = device && ifExists(() => identityOf(device, number));
  if (identity) return identity;
  const named = unlessRefused(() => fileStatus(backingFile));
  return named && { backingDev: named.dev, backingInode: named.inode };
}

/** Whether the device's backing file is this file: the inode, not the name. */
export function isBackedBy(device: LoopStatus, { dev, inode }: FileStatus): boolean {
  return device.backingInode === inode && device.backingDev === dev;
}

/** The number of the loop device that a node is, whatever its name: by its device number. */
export function loopNumber(path: string): number {
  const file = fileStatus(path);
  const { number, partition } = loopOf(file);
  if (number !== undefined && partition === undefined) return Number(number);
  const what = number !== undefined
    ? `a partition of /dev/loop${number}`
    : file.type === "block device"
    ? `device ${file.rdev}`
    : `a ${file.type}`;
  throw new LoopError({ code: "ENOTBLK", path, hint: `it is ${what}, not a loop device` });
}

/** The numbers of a file that is the node of a loop device, or of a partition of one. */
export function loopOf(
  { type, rdev }: FileStatus,
): { number?: string; partition?: string } {
  const link = type === "block device"
    ? ifExists(() => readText(`/sys/dev/block/${rdev}/uevent`))
    : undefined;
  return /^DEVNAME=loop(?<number>\d+)(?:p(?<partition>\d+))?$/m.exec(link ?? "")?.groups ?? {};
}

/** All of one use: others detach the device, and attach another file, while it is being read. */
function readStatus(number: number): LoopStatus | undefined {
  return readSteadily(() => useOf(number), () => readOnce(number));
}

/** Tells one use from the next: by its number, or before Linux 5.15 by its file. Undefined: unbound. */
function useOf(number: number): number | string | undefined {
  return sysfsIsBound(number) ? sysfsDiskseq(number) ?? sysfsBackingFile(number) : undefined;
}

function readOnce(number: number): LoopStatus | undefined {
  const disk = `/sys/block/loop${number}`;
  const backingFile = sysfsBackingFile(number);
  if (backingFile === undefined) return undefined;
  // Undefined for a device that is removed meanwhile.
  return ifExists(() => ({
    path: `/dev/loop${number}`,
    number,
    dev: sysfsDev(number),
    backingFile,
    ...readIdentity(number),
    offset: byteCount(readText(`${disk}/loop/offset`)),
    sizelimit: byteCount(readText(`${disk}/loop/sizelimit`)),
    size: Number(readText(`${disk}/size`)) * 512,
    sectorSize: Number(readText(`${disk}/queue/logical_block_size`)),
    autoclear: readText(`${disk}/loop/autoclear`) === "1",
    partscan: readText(`${disk}/loop/partscan`) === "1",
    readOnly: readText(`${disk}/ro`) === "1",
    directIo: ifExists(() => readText(`${disk}/loop/dio`)) === "1",
    diskseq: sysfsDiskseq(number),
  }));
}

type Identity = Pick<LoopStatus, "backingDev" | "backingInode" | "reference">;

/** What only the ioctl tells; a user without permission still gets the rest. */
function readIdentity(number: number): Identity {
  const unknown = { backingDev: undefined, backingInode: undefined, reference: undefined };
  try {
    using device = open(`/dev/loop${number}`, O_RDONLY);
    return identityOf(device, number) ?? unknown;
  } catch (error) {
    if (!isRefusal(error, "EACCES", "EPERM", "ENOENT")) throw error;
    return unknown;
  }
}

/** Undefined: it is another device, as with an old node in a static /dev. */
function identityOf(device: OpenFile, number: number): Identity | undefined {
  const info = loop_info64.decode(loopGetStatus64(device));
  if (info.lo_number !== number) return undefined;
  return {
    backingDev: decodeDev(info.lo_device),
    backingInode: info.lo_inode,
    // The kernel ends each with a NUL.
    reference: decodeName(info.lo_file_name.subarray(0, info.lo_file_name.indexOf(0))),
  };
}
