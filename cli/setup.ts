/**
 * Attaches a file so that the device outlives the program, as losetup does.
 *
 * @module
 */
import {
  decodeName,
  encodeName,
  fileStatus,
  ifExists,
  isRefusal,
  type LoopError,
  O_RDWR,
  open,
  readText,
} from "../lib/losetup/list.ts";
import {
  aloneWithFile,
  attachChecked,
  attachUnchecked,
  checkOptions,
  findBackedBy,
  LO_NAME_SIZE,
  loopNumber,
  openFoundLoop,
  overlaps,
  readChecked,
  wrapperOf,
} from "../lib/losetup/attach.ts";
import { type AttachOptions, type LoopDevice, type LoopStatus, status } from "../mod.ts";
import type { Command } from "./command.ts";
import { boundDevices, statusOf } from "./device.ts";
import { Failure } from "./failure.ts";
import { canonicalPath } from "./show.ts";
import { inOurWords } from "./words.ts";

/** A device that was set up. */
export interface Setup {
  readonly path: string;
  readonly warning: string | undefined;
}

/** Attaches `command.file` to `command.device`, or to a free one. */
export async function setUp(command: Command): Promise<Setup> {
  const file = command.file!;
  try {
    const setUpIt = async () => {
      const used = command.nooverlap ? await useSame(command, file) : undefined;
      if (used) return used;
      const { path, warning } = await attachPersistently(command, file);
      return { path: command.device ?? path, warning };
    };
    const setup = command.nooverlap
      ? await aloneWithFile(file, command.timeout, setUpIt)
      : await setUpIt();
    return withWarning(setup, warnSize(command, file));
  } catch (error) {
    throw explain(error, command, file);
  }
}

function withWarning({ path, warning }: Setup, more: string | undefined): Setup {
  const warnings = [warning, more].filter((text) => text !== undefined);
  return { path, warning: warnings.join(" ") || undefined };
}

function explain(error: unknown, { device }: Command, file: string): unknown {
  if (error instanceof Failure) return error;
  const { message, request } = error as Partial<LoopError>;
  // losetup waits for nobody, so it has no words for these.
  if (isRefusal(error, "ETIMEDOUT") || /^BLKPG/.test(request ?? "")) {
    const isOfFile = request === "F_OFD_SETLK";
    const what = isOfFile ? "failed to set up loop device" : "partitions are not usable";
    return new Failure(`${file}: ${what}: ${inOurWords(message!)}`);
  }
  // losetup opens the device first, and until then its errors name the device.
  const notOpen = isRefusal(error) && error.request === undefined && error.code !== "EINVAL";
  if (notOpen && device === undefined) checkLoopControl();
  if (file === "") return new Failure(`: failed to use backing file: Invalid argument`);
  return new Failure(`${(notOpen && device) || file}: failed to set up loop device`, error);
}

function checkLoopControl(): void {
  try {
    open("/dev/loop-control", O_RDWR).close();
  } catch (error) {
    throw new Failure("cannot find an unused loop device", error);
  }
}

/** The number of the wanted device, which need not exist yet. */
function wantedNumber(device: string | undefined, file: string): number | undefined {
  if (device === undefined) return undefined;
  const digits = /^\/dev\/loop(0|[1-9]\d{0,6})$/.exec(device)?.[1];
  if (digits !== undefined && Number(digits) < 2 ** 20) return Number(digits);
  try {
    return loopNumber(device);
  } catch (error) {
    if (!isRefusal(error, "ENOTBLK")) throw error;
    fileStatus(file);
    if (fileStatus(device).type === "directory") {
      throw new Failure(`${device}: failed to set up loop device: Is a directory`);
    }
    throw new Failure(`${file}: failed to set up loop device: Inappropriate ioctl for device`);
  }
}

async function attachPersistently(command: Command, file: string): Promise<Setup> {
  const { readOnly, partscan, workaround, timeout, autoclear } = command;
  const options = {
    readOnly: readOnly || undefined,
    offset: toNumber(command.offset, file),
    sizelimit: toNumber(command.sizelimit, file),
    sectorSize: command.sectorSize ? Number(command.sectorSize) : undefined,
    directIo: command.directIo,
    reference: cutToFit(command.reference || canonicalPath(file)),
    number: wantedNumber(command.device, file),
  };
  if (isOutOfRange(file, options)) {
    const scanned = partscan !== false;
    const path = await attachUnchecked(file, { ...options, autoclear, partscan: scanned });
    return { path, warning: undefined };
  }
  // checkOptions() would refuse a reference that is not UTF-8; losetup takes any bytes.
  const { reference, ...checkable } = options;
  const checked = checkOptions({ ...checkable, partscan, workaround, timeout } as AttachOptions);
  const wanted = { ...checked, reference };
  try {
    const loop = await attachChecked(file, wanted).catch((error) => {
      // losetup attaches without direct I/O where the kernel refuses it.
      if (!options.directIo || !isRefusal(error, "EOPNOTSUPP")) throw error;
      return attachChecked(file, { ...wanted, directIo: false });
    });
    if (!autoclear) await loop.persist();
    return { path: loop.path, warning: warnSkipped(file, loop) };
  } catch (error) {
    if (!isUnreadableTable(error)) throw error;
    const scanned = partscan === true;
    const path = await attachUnchecked(file, { ...options, autoclear, partscan: scanned });
    return { path, warning: await warnTable(error, file, options) };
  }
}

/** lo_file_name holds 63 bytes. losetup cuts without a warning, even within a character. */
function cutToFit(reference: string): string {
  return decodeName(encodeName(reference).subarray(0, LO_NAME_SIZE - 1));
}

function toNumber(bytes: bigint | undefined, file: string): number | undefined {
  if (bytes === undefined) return undefined;
  if (bytes <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(bytes);
  throw new Failure(`${file}: failed to set up loop device: Value too large for defined data type`);
}

/**
 * Whether attach() refused the table, which losetup attaches: a GPT for another sector size or a damaged
 * one, a table of an unknown kind, or an image that is no disk yet.
 */
function isUnreadableTable(error: unknown): error is LoopError {
  return isRefusal(error, "EMEDIUMTYPE", "EUCLEAN", "EINVAL") && error.syscall === "pread";
}

/** Why there are no partitions. */
async function warnTable(
  error: LoopError,
  file: string,
  { offset = 0, sizelimit = 0 }: Range,
): Promise<string> {
  const warn = (why: string) => `${file}: Warning: no partitions are shown; ${why}.`;
  if (error.code === "EUCLEAN") return warn("its GPT is damaged or cut off");
  if (error.code === "EINVAL") {
    return warn(await wrapperOf(file, { offset, sizelimit }) ?? "it cannot be read as a disk");
  }
  const table = await readChecked(file, { offset, sizelimit }).catch((error) => {
    if (isRefusal(error, "EMEDIUMTYPE")) return undefined;
    throw error;
  });
  // Refused with every sector size: the kernel may know a table of this kind.
  if (!table) {
    const why = "its partition table is of a kind that loopdev cannot read";
    return `${file}: Warning: no partitions are shown but those that the kernel finds; ${why}.`;
  }
  const { sectorSize } = table;
  return warn(
    `its GPT is made for sectors of ${sectorSize} bytes: use --sector-size ${sectorSize}`,
  );
}

/** Partitions that overlap others: the kernel shows them if it reads the table itself, and else cannot. */
function warnSkipped(file: string, { skipped }: LoopDevice): string | undefined {
  if (skipped.length === 0) return undefined;
  const list = skipped.map(({ number, reason, offset, sizelimit }) =>
    `partition ${number}, ${reason} (alone: --offset ${offset} --sizelimit ${sizelimit})`
  );
  return `${file}: Warning: not shown: ${list.join("; ")}.`;
}

interface Range {
  readonly offset?: number;
  readonly sizelimit?: number;
  readonly sectorSize?: number;
}

/** What losetup attaches and attach() refuses: less than a sector, or sectors above 4096 bytes. */
function isOutOfRange(
  file: string,
  { offset = 0, sizelimit = 0, sectorSize = 512 }: Range,
): boolean {
  if (sizelimit > 0 && sizelimit < 512) return true;
  if (![512, 1024, 2048, 4096].includes(sectorSize)) return true;
  const { type, size, rdev } = fileStatus(file);
  if (type === "file") return size - offset < 512;
  if (type !== "block device") return false;
  const sectors = ifExists(() => readText(`/sys/dev/block/${rdev}/size`));
  return sectors !== undefined && Number(sectors) * 512 - offset < 512;
}

/** The device that has exactly the wanted part of the file. Throws if a device is named as well. */
async function findSame(command: Command, file: string): Promise<LoopStatus | undefined> {
  const identity = ifExists(() => fileStatus(file));
  if (!identity) return undefined;
  const { device, readOnly } = command;
  const [offset, sizelimit] = [command.offset, command.sizelimit]
    .map((bytes) => toNumber(bytes, file) ?? 0);
  const backed = await findBackedBy(identity);
  // As in losetup, the first device that overlaps decides, in the order of its lists.
  for (const { path } of boundDevices()) {
    const other = backed.find((one) => one.path === path);
    if (!other || !overlaps(other, { offset, sizelimit })) continue;
    const isSame = other.offset === offset && other.sizelimit === sizelimit;
    if (!isSame || device !== undefined) {
      throw new Failure(`${file}: overlapping loop device exists`);
    }
    if (other.readOnly && !readOnly) {
      throw new Failure(`${file}: overlapping read-only loop device exists`);
    }
    return other;
  }
  return undefined;
}

/** Undefined: no device has that part of the file. */
async function useSame(command: Command, file: string): Promise<Setup | undefined> {
  for (let same; (same = await findSame(command, file));) {
    await using loop = await openFoundLoop(same).catch((error) => {
      throw new Failure(`${file}: failed to re-use loop device`, error);
    });
    // Undefined: by now the device is in another use.
    if (loop) return await useAgain(loop, command, file);
  }
  return undefined;
}

/** A use does not end while the device is open. */
async function useAgain(
  loop: LoopDevice,
  { autoclear, partscan, timeout, offset = 0n, sizelimit = 0n }: Command,
  file: string,
): Promise<Setup> {
  let warning: string | undefined;
  try {
    if (partscan) await loop.rescan({ timeout });
    warning = warnSkipped(file, loop);
  } catch (error) {
    if (!isUnreadableTable(error)) throw error;
    const range = { offset: Number(offset), sizelimit: Number(sizelimit) };
    warning = await warnTable(error, file, range);
  }
  const { path } = loop;
  // Somebody else may have told it to detach after its last user, which is this program then.
  if (!autoclear && (await status(path)).autoclear) await loop.persist();
  return { path, warning };
}

/** losetup's warning of a size that is no whole number of sectors. */
function warnSize({ offset = 0n, sizelimit = 0n }: Command, file: string): string | undefined {
  // It is attached by now: nobody is warned of a file that has lost its name.
  const { type, size } = statusOf(file) ?? { type: undefined, size: 0 };
  // As in losetup, the difference has 64 bits and no sign.
  const bytes = sizelimit || (type === "file" ? BigInt.asUintN(64, BigInt(size) - offset) : 512n);
  if (bytes < 512n) {
    return `${file}: Warning: file is smaller than 512 bytes; the loop device may be useless or ` +
      "invisible for system tools.";
  }
  if (bytes % 512n === 0n) return undefined;
  return `${file}: Warning: file does not end on a 512-byte sector boundary; the remaining end of ` +
    "the file will be ignored.";
}
