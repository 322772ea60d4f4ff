/**
 * mount(): the type of what is on the device → a file system context → a mount of its own → LoopMount.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { openKernelLog } from "../kernel/kmsg.ts";
import { endMount, makeMount, MOUNT_ATTR_RDONLY, type NewMount } from "../kernel/mount.ts";
import { openSource, refuseOther } from "./device_source.ts";
import { type Attempt, explainRefusal } from "./errors.ts";
import { fileSystemOn } from "./file_system.ts";
import { Keeper } from "./keeper.ts";
import { type LoopMount, makeLoopMount, type MountSource } from "./mounted.ts";
import { refuseNodev } from "./nodev.ts";
import { type CheckedMount, checkMountOptions, type MountOptions, settingsOf } from "./options.ts";
import { type Place, placeAt, placeKept, placeNowhere } from "./place.ts";
import { driverOf, refuseUnknown } from "./unknown.ts";

/** mount() of any block device, by the path of its node. */
export async function mountDevice(path: string, options: MountOptions): Promise<LoopMount> {
  const { signal } = checkMountOptions(options);
  signal?.throwIfAborted();
  const source = await openSource(path, signal);
  try {
    return await mount(source, options, () => {});
  } catch (error) {
    source.node?.close();
    throw error;
  }
}

/** Mounts it. On failure everything is undone. */
export async function mount(
  source: MountSource,
  asked: MountOptions,
  onEnd: (mount: LoopMount) => void,
): Promise<LoopMount> {
  const options = checkMountOptions(asked);
  const { device } = source;
  const { signal } = options;
  signal?.throwIfAborted();
  if (options.type !== undefined) await refuseNodev(options.type, device);
  // Its shell starts while the superblock is read.
  const keeper = options.detached ? undefined : Keeper.ensure();
  keeper?.catch(() => {});
  const type = options.type ?? await driverFor(source);
  // Open before the first call: what the kernel logs from here on may explain a refusal.
  using log = openKernelLog();
  const made = await makeSuitable({ source, type, options, log });
  let place: Place | undefined;
  try {
    refuseOther(source, made);
    signal?.throwIfAborted();
    place = await findPlace(made, options, await keeper);
    signal?.throwIfAborted();
    return makeLoopMount({ source, type, made, place, onEnd });
  } catch (error) {
    const { holder, id, remove } = place ?? {};
    const attached = id !== undefined;
    const ended = await endMount(made, { node: undefined, written: false, attached, holder });
    // Where it is still mounted, the keeper needs the record to unmount it.
    if (ended.isGone) await remove?.();
    throw error;
  }
}

async function driverFor(source: MountSource): Promise<string> {
  const found = await fileSystemOn(source.device);
  if (found?.usage !== "filesystem") throw await refuseUnknown(source, found);
  return driverOf(found);
}

async function findPlace(
  { mount }: NewMount,
  { at, directoryMode }: CheckedMount,
  keeper: Keeper | undefined,
): Promise<Place> {
  if (keeper === undefined) return await placeNowhere(mount);
  if (at === undefined) return await placeKept(mount, keeper);
  return await placeAt(mount, at, keeper, directoryMode);
}

/** As mount(8) does: what cannot be written is mounted read-only, unless the caller chose. */
async function makeSuitable(attempt: Attempt): Promise<NewMount> {
  const { options, source } = attempt;
  const readOnly = options.readOnly ?? source.readOnly;
  try {
    return await make(attempt, readOnly);
  } catch (error) {
    const isChosen = readOnly || options.readOnly !== undefined;
    const isUnwritable = isRefusal(error, "EACCES") && error.request === "FSCONFIG_CMD_CREATE";
    if (isChosen || !isUnwritable) throw error;
    return await make(attempt, true);
  }
}

async function make(attempt: Attempt, readOnly: boolean): Promise<NewMount> {
  const { source: { device }, type, options } = attempt;
  options.signal?.throwIfAborted();
  const settings = [
    ...readOnly ? [{ name: "ro", value: undefined }] : [],
    ...settingsOf(options, type),
  ];
  const attributes = options.attributes | (readOnly ? MOUNT_ATTR_RDONLY : 0);
  return await makeMount(
    { type, device, settings, attributes },
    (error, failed) => explainRefusal(error, attempt, failed),
  );
}
