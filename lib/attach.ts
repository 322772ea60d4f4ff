/**
 * attach(): options → config → a free device, bounded retry → LoopDevice.
 *
 * @module
 */
import { blkGetSize64, blkRoGet } from "./blkpg.ts";
import { LoopError } from "./errors.ts";
import {
  ifExists,
  kernelRelease,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  open,
  type OpenFile,
  refuse,
  setStatusFlags,
  status,
} from "./file.ts";
import {
  LO_FLAGS_AUTOCLEAR,
  LO_FLAGS_DIRECT_IO,
  LO_FLAGS_PARTSCAN,
  LO_FLAGS_READ_ONLY,
  LO_NAME_SIZE,
  type LoopConfig,
  loopConfigure,
  loopCtlGetFree,
} from "./loop.ts";
import {
  type LoopDevice,
  type LoopFacts,
  makeLoopDevice,
  readFacts,
  type Strategy,
} from "./loop_device.ts";
import { type AttachOptions, type CheckedOptions, checkOptions } from "./options.ts";
import { readyPartitions, removeStalePartitions } from "./partitions.ts";
import { isAffected, scanOnce } from "./partscan_race.ts";
import { retry, type RetryPolicy } from "./retry.ts";
import { sysfsBackingFile, sysfsMaxPart } from "./sysfs.ts";

/** Another process took the device between LOOP_CTL_GET_FREE and our bind, or removed it. */
const LOST_RACE: RetryPolicy = {
  codes: new Set(["EBUSY", "ENXIO", "ENODEV", "ENOENT"]),
  tries: 64,
  longestPause: 250,
};

const EOPNOTSUPP = 95;
const EISDIR = 21;
const EROFS = 30;

/**
 * Attaches a file as a loop device and resolves when it, and with `partscan` every partition of it,
 * is usable. On failure everything is undone.
 *
 * Throws (rejects with) TypeError or RangeError for a bad option, before any system call;
 * {@linkcode LoopError} for whatever the system refuses; the signal's reason if aborted.
 *
 * @param file Path of the image; a regular file or a block device.
 *
 * @example
 * ```ts ignore
 * import { attach } from "@loopdev/loopdev";
 * await using loop = await attach("disk.img", { partscan: true });
 * for (const { path, size, name } of loop.partitions) console.log(path, size, name);
 * ```
 */
export async function attach(file: string, options: AttachOptions = {}): Promise<LoopDevice> {
  const wanted = checkOptions(file, options);
  wanted.signal?.throwIfAborted();
  const strategy = chooseStrategy(wanted);

  // The kernel takes its own reference at the bind: ours is not needed for longer.
  using backing = openBackingFile(file, wanted);
  const bound = await bindFreeDevice(backing, wanted, strategy);
  // Bound with LO_FLAGS_AUTOCLEAR: until the handle takes over, closing this undoes everything.
  using undo = new DisposableStack();
  undo.use(bound.device);
  if (strategy === "two-step") await scanOnce(bound.device, wanted.signal);
  wanted.signal?.throwIfAborted();
  const facts = readFacts(bound.device, bound.number);
  verify(bound.device, facts, wanted);
  const ready = strategy === "none"
    ? { partitions: [], added: [] }
    : await readyPartitions(bound.device, bound.number, wanted.timeout, wanted.signal);
  undo.move();
  return makeLoopDevice(bound.device, bound.number, strategy, facts, ready);
}

function chooseStrategy({ partscan, workaround }: CheckedOptions): Strategy {
  // With loop.max_part > 0 the kernel sets LO_FLAGS_PARTSCAN in LOOP_CONFIGURE whether we ask or not.
  if (sysfsMaxPart() > 0) return "one-step";
  if (partscan === false) return "none";
  if (partscan === "userspace") return "userspace";
  const detour = workaround === "always" || workaround === "auto" && isAffected(kernelRelease());
  return detour ? "two-step" : "one-step";
}

interface BackingFile extends Disposable {
  readonly file: OpenFile;
  readonly readOnly: boolean;
}

/** Opens once and asks the open file, never the name again: nobody can swap it in between. */
function openBackingFile(path: string, { readOnly, offset }: CheckedOptions): BackingFile {
  const backing = openWritableOrNot(path, readOnly);
  const { file } = backing;
  try {
    const { type, size: fileSize } = status(file);
    if (type === "directory") throw refuse(file, "a directory cannot be attached", EISDIR);
    if (type !== "file" && type !== "block device") {
      throw refuse(file, `it is a ${type}; only regular files and block devices can be attached`);
    }
    const size = type === "file" ? fileSize : blkGetSize64(file);
    if (size === 0) throw refuse(file, "it is empty");
    if (size < 512) throw refuse(file, `it has ${size} bytes, less than one 512-byte sector`);
    if (offset > size - 512) {
      throw refuse(file, `offset ${offset} leaves no whole 512-byte sector of its ${size} bytes`);
    }
    // A block device can be opened for writing and refuse the writes themselves.
    const readOnlyDevice = type === "block device" && blkRoGet(file);
    if (readOnlyDevice && readOnly === false) {
      throw refuse(file, "this block device is read-only", EROFS);
    }
    // Without O_NONBLOCK a FIFO would have blocked the open; the kernel's reads should not have it.
    setStatusFlags(file, 0);
    return { ...backing, readOnly: backing.readOnly || readOnlyDevice };
  } catch (error) {
    file.close();
    throw error;
  }
}

function openWritableOrNot(path: string, readOnly: boolean | undefined): BackingFile {
  const attempt = (readOnly: boolean): BackingFile => {
    const file = open(path, (readOnly ? O_RDONLY : O_RDWR) | O_NONBLOCK);
    return { file, readOnly, [Symbol.dispose]: () => file.close() };
  };
  if (readOnly !== undefined) return attempt(readOnly);
  try {
    return attempt(false);
  } catch (error) {
    const refused = error instanceof LoopError &&
      ["EACCES", "EROFS", "ETXTBSY"].includes(error.code);
    if (!refused) throw error;
    return attempt(true);
  }
}

async function bindFreeDevice(
  backing: BackingFile,
  wanted: CheckedOptions,
  strategy: Strategy,
): Promise<{ device: OpenFile; number: number }> {
  using control = open("/dev/loop-control", O_RDWR);
  const config = makeConfig(backing, wanted, strategy);
  return await retry(LOST_RACE, () => {
    const number = loopCtlGetFree(control);
    return { device: bindDevice(number, config), number };
  }, wanted.signal);
}

function makeConfig(
  { file, readOnly }: BackingFile,
  { offset, sizelimit, sectorSize, directIo }: CheckedOptions,
  strategy: Strategy,
): LoopConfig {
  const lo_file_name = new Uint8Array(LO_NAME_SIZE);
  new TextEncoder().encodeInto(file.path, lo_file_name.subarray(0, LO_NAME_SIZE - 1));
  const lo_flags = LO_FLAGS_AUTOCLEAR |
    (readOnly ? LO_FLAGS_READ_ONLY : 0) |
    (directIo ? LO_FLAGS_DIRECT_IO : 0) |
    (strategy === "one-step" ? LO_FLAGS_PARTSCAN : 0);
  return {
    fd: file.fd,
    block_size: sectorSize ?? 0,
    info: { lo_offset: BigInt(offset), lo_sizelimit: BigInt(sizelimit), lo_flags, lo_file_name },
  };
}

/** One attempt: the device is bound to our file and open, or nothing has changed. */
function bindDevice(number: number, config: LoopConfig): OpenFile {
  const path = `/dev/loop${number}`;
  const isBound = () => sysfsBackingFile(number) !== undefined;
  removeStalePartitions(path, number, isBound);
  const readOnly = (config.info.lo_flags! & LO_FLAGS_READ_ONLY) !== 0;
  const device = open(path, readOnly ? O_RDONLY : O_RDWR);
  try {
    loopConfigure(device, config);
    return device;
  } catch (error) {
    // Never LOOP_CLR_FD here: after EBUSY the device is somebody else's.
    device.close();
    throw explain(error, device);
  }
}

/** LOOP_CONFIGURE's EINVAL after all our checks: an old kernel, or one that refuses this file. */
function explain(error: unknown, device: OpenFile): unknown {
  if (!(error instanceof LoopError) || error.code !== "EINVAL") return error;
  // A kernel that knows the request looks for the backing file first: EBADF for descriptor −1.
  using probe = ifExists(() => open(device.path, O_RDONLY));
  const known = probe &&
    codeOf(() => loopConfigure(probe, { fd: 0xffffffff, info: {} })) === "EBADF";
  const hint = known
    ? "the kernel refuses this file or this combination of options"
    : `Linux ${kernelRelease()} has no LOOP_CONFIGURE; loopdev needs Linux 5.9 or later`;
  return error.withHint(hint);
}

function codeOf(call: () => void): string | undefined {
  try {
    call();
  } catch (error) {
    return error instanceof LoopError ? error.code : undefined;
  }
}

/** Return code 0 is not enough: 5.8 ignores some fields, and direct I/O is dropped without a word. */
function verify(device: OpenFile, facts: LoopFacts, wanted: CheckedOptions): void {
  const differences = [
    ["offset", facts.offset, wanted.offset],
    ["sizelimit", facts.sizelimit, wanted.sizelimit],
    ["sector size", facts.sectorSize, wanted.sectorSize ?? facts.sectorSize],
    ["read-only", facts.readOnly, wanted.readOnly ?? facts.readOnly],
    ["direct I/O", facts.directIo, wanted.directIo || facts.directIo],
  ].filter(([, is, asked]) => is !== asked);
  if (differences.length === 0) return;
  const list = differences.map(([what, is, asked]) => `${what} is ${is}, asked for ${asked}`).join(
    ", ",
  );
  const why = differences.some(([what]) => what === "direct I/O")
    ? "the backing file's file system, or its alignment to the sector size, does not allow direct I/O"
    : `Linux ${kernelRelease()} ignored it; loopdev needs Linux 5.9 or later`;
  throw new LoopError({
    errno: EOPNOTSUPP,
    syscall: "ioctl",
    request: "LOOP_CONFIGURE",
    path: device.path,
    hint: `${list}: ${why}`,
  });
}
