/**
 * mount(): the type of what is on the device → a file system context → a mount of its own → LoopMount.
 *
 * @module
 */
import { isRefusal, withSecond } from "../base/errors.ts";
import { openWithoutWaiting } from "../kernel/blocking.ts";
import { O_RDONLY, type OpenFile } from "../kernel/file.ts";
import { openKernelLog } from "../kernel/kmsg.ts";
import { endMount, makeMount, MOUNT_ATTR_RDONLY, type NewMount } from "../kernel/mount.ts";
import { openSource, refuseOther } from "./device_source.ts";
import { type Attempt, explainRefusal } from "./errors.ts";
import { fileSystemIn } from "./file_system.ts";
import { Keeper } from "./keeper.ts";
import {
  leaveMount,
  type LoopMount,
  makeLoopMount,
  type MountSource,
  withStillMounted,
} from "./mounted.ts";
import { refuseNodev } from "./nodev.ts";
import { type CheckedMount, checkMountOptions, type MountOptions, settingsOf } from "./options.ts";
import { makeUserNamespace, type Owner, ownerOf, typeForOwner } from "./owner.ts";
import { type Place, placeAt, placeKept, placeNowhere } from "./place.ts";
import { driverOf, refuseUnknown } from "./unknown.ts";

/** Leaves mounts on directories of the user's where they are: all of this process's, or none. */
export async function leaveMounts(mounts: readonly LoopMount[]): Promise<void> {
  const keeper = await Keeper.ensure();
  keeper.setLeft(true);
  for (const mount of mounts) await leaveMount(mount);
  keeper.setLeft(false);
}

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
  const owner = options.owner === undefined ? undefined : ownerOf(options.owner);
  // Another thread reads the superblock while this one sees to the keeper, whose shell starts meanwhile.
  const driver = options.type ??
    driverFor(await openWithoutWaiting(device, O_RDONLY), source, owner);
  const keeper = options.detached ? undefined : Keeper.ensure();
  // Of what is done side by side, the error that came first is the one to tell.
  let failed: { first: unknown } | undefined;
  for (const begun of [driver, keeper]) {
    Promise.resolve(begun).catch((error) => failed ??= { first: error });
  }
  try {
    return await mountOn(source, { options, owner, driver, keeper }, onEnd);
  } catch (error) {
    const begun = await Promise.allSettled([driver, keeper]);
    const reasons = begun.flatMap((end) => end.status === "rejected" ? [end.reason] : []);
    const all = new Set<unknown>([failed?.first ?? error, ...reasons, error]);
    throw [...all].reduce(withSecond);
  }
}

/** What mounting needs, and what of it has begun. */
interface Begun {
  readonly options: CheckedMount;
  readonly owner: Owner | undefined;
  readonly driver: string | Promise<string>;
  readonly keeper: Promise<Keeper> | undefined;
}

async function mountOn(
  source: MountSource,
  { options, owner, driver, keeper }: Begun,
  onEnd: (mount: LoopMount) => void,
): Promise<LoopMount> {
  const { signal } = options;
  // Open before the first call: what the kernel logs from here on may explain a refusal. Opening it takes
  // as long as many calls, so it is done while the superblock is read.
  using log = openKernelLog();
  using idMap = owner && await makeUserNamespace(owner);
  const type = await driver;
  const made = await makeSuitable({ source, type, options, owner, idMap, log });
  let place: Place | undefined;
  try {
    refuseOther(source, made);
    signal?.throwIfAborted();
    place = await findPlace(made, { ...options, owner }, await keeper);
    signal?.throwIfAborted();
    const unmapped = { ...options, owner: undefined, signal: undefined };
    const plain = idMap &&
      (() =>
        makePlain({
          source,
          type,
          options: unmapped,
          owner: undefined,
          idMap: undefined,
          log: undefined,
        }, made.readOnly));
    return makeLoopMount({ source, type, made, plain, place, onEnd });
  } catch (error) {
    const { holder, id, remove } = place ?? {};
    const attached = id !== undefined;
    const ended = await endMount(made, { node: undefined, written: false, attached, holder });
    // Where it is still mounted, the keeper needs the record to unmount it.
    if (!ended.isGone) throw withStillMounted(error, place!.path);
    await remove?.();
    throw error;
  }
}

/** Closes `device`. */
async function driverFor(
  device: OpenFile,
  source: MountSource,
  owner: Owner | undefined,
): Promise<string> {
  using _device = device;
  const found = await fileSystemIn(device);
  if (found?.usage !== "filesystem") throw await refuseUnknown(source, found);
  const driver = driverOf(found);
  return owner ? typeForOwner(driver) : driver;
}

async function findPlace(
  { mount }: NewMount,
  { at, directoryMode, owner }: CheckedMount & { owner: Owner | undefined },
  keeper: Keeper | undefined,
): Promise<Place> {
  if (keeper === undefined) return await placeNowhere(mount);
  if (at === undefined) return await placeKept(mount, keeper, { user: owner });
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

/** The same file system once more, without a map of ids. The kernel does not take the map off a copy. */
async function makePlain(attempt: Attempt, readOnly: boolean): Promise<OpenFile> {
  const made = await make(attempt, readOnly);
  using _root = made.root;
  try {
    refuseOther(attempt.source, made);
    return made.mount;
  } catch (error) {
    made.mount.close();
    throw error;
  }
}

/** A mount without a place, which ends with its descriptors. */
export async function make(attempt: Attempt, readOnly: boolean): Promise<NewMount> {
  const { source: { device }, type, options, idMap } = attempt;
  options.signal?.throwIfAborted();
  const settings = [
    ...readOnly ? [{ name: "ro", value: undefined }] : [],
    ...settingsOf(options, type),
  ];
  const attributes = options.attributes | (readOnly ? MOUNT_ATTR_RDONLY : 0);
  return await makeMount(
    { type, device, settings, attributes, idMap },
    (error, failed) => explainRefusal(error, attempt, failed),
  );
}
