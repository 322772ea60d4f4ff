/**
 * A free device, and our file on it: LOOP_CTL_GET_FREE → open → LOOP_CONFIGURE, tried again when
 * another process was faster. Every device is bound with LO_FLAGS_AUTOCLEAR, so that closing it
 * undoes everything.
 *
 * @module
 */
import { BoundDevice } from "./bound_device.ts";
import { removeDevice } from "./change.ts";
import { type ErrorCode, isRefusal, LoopError, toExplain, withMore } from "../base/errors.ts";
import { blkRoGet, blkRoSet } from "../kernel/block.ts";
import { ifExists, O_EXCL, O_RDONLY, O_RDWR, open, type OpenFile } from "../kernel/file.ts";
import {
  LO_FLAGS_AUTOCLEAR,
  LO_FLAGS_DIRECT_IO,
  LO_FLAGS_PARTSCAN,
  LO_FLAGS_READ_ONLY,
  LO_NAME_SIZE,
  type LoopConfig,
  loopConfigure,
  loopCtlAdd,
  loopCtlGetFree,
} from "../kernel/loop.ts";
import { readFacts } from "./facts.ts";
import { DeviceLock, whenUnlocked } from "../udev/lock.ts";
import { encodeNameInto } from "../base/names.ts";
import { DevNodes } from "./nodes.ts";
import type { AttachOptions } from "./options.ts";
import { removeStalePartitions } from "./removal.ts";
import { poll, retry, type RetryPolicy } from "../base/retry.ts";
import { fileStatus } from "../kernel/stat.ts";
import { sysfsBackingFile, sysfsDev } from "../kernel/sysfs.ts";
import { kernelRelease } from "../kernel/release.ts";
import { openUnwatched } from "../udev/close_write_race.ts";
import { forgetFailures } from "../kernel/blocking.ts";

/** Another process took the device between LOOP_CTL_GET_FREE and our bind, or removed it. */
const LOST_RACE: RetryPolicy = {
  codes: ["EBUSY", "ENXIO", "ENODEV", "ENOENT"],
  tries: 64,
  longestPause: 250,
};

/** The same, where another process can hold a lock of the device, too. */
const LOCKED_OR_LOST: RetryPolicy = { ...LOST_RACE, codes: [...LOST_RACE.codes, "EAGAIN"] };

/** The wanted device was removed between LOOP_CTL_ADD and our bind. */
const REMOVED: RetryPolicy = { codes: ["ENXIO"], tries: 64, longestPause: 50 };

/** After so many another process holds the offered device: a new one is made then. */
const LOST_RACES_IN_A_ROW = 16;

/** How long the node of a new device may take, in ms. */
const NODE_MS = 1000;
const LOOP_MAJOR = 7;

/** What LOOP_CONFIGURE is told, and on which device: options of attach(), decided for one open file. */
export interface Binding extends
  Pick<
    AttachOptions,
    "offset" | "sizelimit" | "directIo" | "reference" | "number" | "nodes" | "lock" | "timeout"
  > {
  /** The bound device closes it, unless that is read-only. */
  readonly backing: OpenFile;
  readonly readOnly: boolean;
  readonly partscan: boolean;
  readonly sectorSize?: number;
}

let sysfsSeen = false;

/** Binds `backing` to a free device, or to the one that is wanted. */
export async function bindFreeDevice(binding: Binding, signal?: AbortSignal): Promise<BoundDevice> {
  // A missing sysfs would look like a device that was removed, again and again.
  sysfsSeen ||= Boolean(fileStatus("/sys/block"));
  const config = makeConfig(binding);
  const bind = async (number: number, isMade = false) => {
    const nodes = new DevNodes(binding.nodes ?? "auto");
    try {
      const dev = await nodeOf(number, nodes, signal);
      return bindDevice(number, dev, binding, config, { nodes, isMade });
    } catch (failed) {
      const isThere = toExplain(() => deviceExists(number)) ?? true;
      const error = isThere ? failed : explainRemoved(failed, number);
      removeUnused(number, nodes);
      if (isMade) await removeDevice(number).catch(() => {});
      throw error;
    }
  };
  const { number } = binding;
  if (number === undefined) {
    using control = open("/dev/loop-control", O_RDWR);
    // LOOP_CTL_GET_FREE offers the lowest free device each time; a new one no other process knows yet.
    const next = (tries: number) =>
      tries % LOST_RACES_IN_A_ROW === 0 ? loopCtlAdd(control, -1) : loopCtlGetFree(control);
    return await retry(
      binding.lock ? LOCKED_OR_LOST : LOST_RACE,
      (tries) => bind(next(tries)),
      signal,
    );
  }
  try {
    return await bindWanted(number, bind, binding.timeout ?? 0, signal);
  } catch (error) {
    if (!isRefusal(error, "EBUSY")) throw error;
    throw error.withHint("the wanted device is attached or held already");
  }
}

/** Another process may remove a free device at any moment: then it is made again. */
async function bindWanted(
  number: number,
  bind: (number: number, isMade: boolean) => Promise<BoundDevice>,
  timeout: number,
  signal?: AbortSignal,
): Promise<BoundDevice> {
  const attempt = () => bind(number, makeDevice(number));
  return await retry(REMOVED, () => whenUnlocked(number, attempt, timeout, signal), signal);
}

/** The missing device shows as a missing node, or as one of several missing files in sysfs. */
function explainRemoved(error: unknown, number: number): unknown {
  if (!isRefusal(error, "ENXIO", "ENODEV", "ENOENT")) return error;
  const hint = "others remove this device again and again (LOOP_CTL_REMOVE)";
  const path = `/dev/loop${number}`;
  return new LoopError({ code: "ENXIO", syscall: error.syscall, path, hint, cause: error });
}

function deviceExists(number: number): boolean {
  return ifExists(() => fileStatus(`/sys/block/loop${number}`)) !== undefined;
}

/**
 * Makes loop device `number` if there is none; gives whether it did. A container may have the device and
 * no /dev/loop-control.
 */
function makeDevice(number: number): boolean {
  if (deviceExists(number)) return false;
  try {
    using control = open("/dev/loop-control", O_RDWR);
    loopCtlAdd(control, number);
  } catch (error) {
    if (isRefusal(error, "EEXIST")) return false;
    // Opening the node of a missing device makes the device (CONFIG_BLOCK_LEGACY_AUTOLOAD).
    toExplain(() => open(`/dev/loop${number}`, O_RDONLY))?.close();
    if (!toExplain(() => deviceExists(number))) throw error;
  }
  return true;
}

/**
 * Removes the nodes that we made for a device which another process then got. That process may rely on
 * them, so they go only while we hold the unbound device exclusively and nobody can bind it.
 */
function removeUnused(number: number, nodes: DevNodes): void {
  if (nodes.made.length === 0) return;
  try {
    using _held = open(`/dev/loop${number}`, O_RDONLY | O_EXCL);
    if (sysfsBackingFile(number) === undefined) nodes.remove();
  } catch (error) {
    // The node has no device: nobody can use it. After EBUSY it stays: another process opens the device.
    if (isRefusal(error, "ENXIO", "ENODEV")) nodes.remove();
  }
}

/**
 * Waits until loop device `number` has its node, or makes it: other programs shall be able to use the
 * device, too. Gives the device number.
 */
async function nodeOf(number: number, nodes: DevNodes, signal?: AbortSignal): Promise<string> {
  const path = `/dev/loop${number}`;
  const usual = `${LOOP_MAJOR}:${number}`;
  if (nodes.isThere(path, usual)) return usual;
  // With loop.max_part the minor is not the number.
  const dev = sysfsDev(number);
  let problem: string | undefined;
  const ensure = () => {
    problem = nodes.ensure(path, dev);
    if (problem === undefined) return true;
    refuseOther(path);
    return undefined;
  };
  if (await poll(ensure, NODE_MS, signal)) return dev;
  throw new LoopError({ code: "ENOTBLK", path, hint: `${problem}; is /dev a static one?` });
}

/** Neither the kernel, udev nor loopdev replaces what is no device, so the node never comes. */
function refuseOther(path: string): void {
  const type = ifExists(() => fileStatus(path))?.type;
  if (type === undefined || type === "block device") return;
  const hint = `a ${type} has the name of this device's node, so the device has none: look what ` +
    `it holds, and move it away (mv ${path} /root/) or rm it; the next attach makes the node`;
  throw new LoopError({ code: "ENOTBLK", path, hint });
}

/** What BLKROSET has set (`blockdev --setro`), the kernel keeps from one use of a device to the next. */
function makeWritable(device: OpenFile): void {
  if (!blkRoGet(device)) return;
  try {
    blkRoSet(device, false);
  } catch (error) {
    const { path } = device;
    throw withMore(error, `an earlier use has left it read-only: blockdev --setrw ${path}`);
  }
}

function makeConfig(binding: Binding): LoopConfig {
  const { backing, readOnly, partscan, offset = 0, sizelimit = 0 } = binding;
  const lo_file_name = new Uint8Array(LO_NAME_SIZE);
  const reference = binding.reference ?? backing.path;
  encodeNameInto(reference, lo_file_name.subarray(0, LO_NAME_SIZE - 1));
  const lo_flags = LO_FLAGS_AUTOCLEAR |
    (readOnly ? LO_FLAGS_READ_ONLY : 0) |
    (partscan ? LO_FLAGS_PARTSCAN : 0) |
    (binding.directIo ? LO_FLAGS_DIRECT_IO : 0);
  return {
    block_size: binding.sectorSize ?? 0,
    info: { lo_offset: BigInt(offset), lo_sizelimit: BigInt(sizelimit), lo_flags, lo_file_name },
  };
}

/**
 * One attempt: the device is bound to our file and open, or nothing has changed. LOOP_CTL_GET_FREE was
 * called in the same turn of the event loop, so that attaches of one process never get the same device.
 */
function bindDevice(
  number: number,
  dev: string,
  { readOnly, backing, lock: kind }: Binding,
  config: LoopConfig,
  found: { nodes: DevNodes; isMade: boolean },
): BoundDevice {
  const path = `/dev/loop${number}`;
  const since = Date.now();
  const lock = new DeviceLock(number);
  let device: OpenFile | undefined;
  try {
    // udevd may answer an earlier close with BLKRRPART, which drops partitions. It takes the lock
    // exclusively for that, so ours must be there before the bind.
    if (kind === "shared") lock.keepShared();
    removeStalePartitions(path, number);
    const opened = readOnly
      ? { device: open(path, O_RDONLY), writable: undefined }
      : openUnwatched(path, dev);
    device = opened.device;
    using writable = opened.writable;
    loopConfigure(writable ?? device, backing, config);
    forgetFailures(device);
    if (!readOnly) makeWritable(device);
    const facts = readFacts(device, backing);
    if (facts.number !== number) {
      const hint = `it is loop device ${facts.number}; is /dev a static one?`;
      throw new LoopError({ code: "ENOTBLK", path, hint });
    }
    const kept = readOnly ? undefined : backing;
    return new BoundDevice(device, facts, { ...found, lock, since, backing: kept });
  } catch (error) {
    // Never LOOP_CLR_FD here: after EBUSY the device is somebody else's.
    device?.close();
    lock.drop();
    throw device ? explain(error, path) : error;
  }
}

/** LOOP_CONFIGURE is EINVAL after our checks on an old kernel, or where the kernel refuses the file. */
function explain(error: unknown, path: string): unknown {
  if (!isRefusal(error, "EINVAL") || error.request !== "LOOP_CONFIGURE") return error;
  // A kernel that knows the request looks at the descriptor of the file first: −1 is EBADF.
  using probe = toExplain(() => open(path, O_RDONLY));
  if (!probe) return error;
  const known = refuses(() => loopConfigure(probe, undefined, { info: {} }), "EBADF");
  const hint = known
    ? "the kernel refuses this file or this combination of options"
    : `Linux ${kernelRelease()} has no LOOP_CONFIGURE; loopdev needs Linux 5.9 or later`;
  return error.withHint(hint);
}

function refuses(call: () => void, code: ErrorCode): boolean {
  try {
    call();
    return false;
  } catch (error) {
    return isRefusal(error, code);
  }
}
