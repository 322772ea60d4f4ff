/**
 * mount(): what is on it → a file system context → a mount of its own → LoopMount.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { onlyFileSystem } from "./file_system.ts";
import type { OpenFile } from "../kernel/file.ts";
import { openKernelLog } from "../kernel/kmsg.ts";
import { endMount, makeMount, type NewMount, type Setting } from "../kernel/mount.ts";
import { fileStatus } from "../kernel/stat.ts";
import { explainRefusal, refuseUnknown } from "./errors.ts";
import { Keeper } from "./keeper.ts";
import {
  attributesOf,
  type CheckedMount,
  checkMountOptions,
  type MountOptions,
  settingsOf,
} from "./options.ts";
import { type LoopMount, makeLoopMount } from "./mounted.ts";
import { type Place, placeAt, placeNowhere, placeOnOwnDirectory } from "./place.ts";
import { refuseNodev } from "./types.ts";

/** What shall be mounted. */
export interface MountSource {
  /** The node: "/dev/loop4p2". */
  readonly device: string;
  /** The loop device's number. */
  readonly number: number;
  /** undefined: the whole device. */
  readonly partition: number | undefined;
  /** Of the device. */
  readonly readOnly: boolean;
  readonly backingFile: string;
}

interface KnownSource extends MountSource {
  readonly type: string;
  /** The kernel's, of what has been said since the beginning. */
  readonly log: OpenFile | undefined;
}

/** Mounts it. On failure everything is undone. */
export async function mount(
  source: MountSource,
  asked: MountOptions,
  onEnd: (mount: LoopMount) => void,
): Promise<LoopMount> {
  const options = checkMountOptions(asked);
  const { device, partition, backingFile } = source;
  const { detached, signal } = options;
  signal?.throwIfAborted();
  if (options.type !== undefined) await refuseNodev(options.type, device);
  // Its shell starts while the superblock is read.
  const keeper = detached ? undefined : Keeper.ready();
  keeper?.catch(() => {});
  const type = options.type ?? (await onlyFileSystem(device))?.type;
  if (type === undefined) throw await refuseUnknown(source);
  // What is said from here on may be said of us.
  using log = openKernelLog();
  const made = await makeSuitable({ ...source, type, log }, options);
  let place: Place | undefined;
  try {
    signal?.throwIfAborted();
    place = await findPlace(made, options, await keeper);
    signal?.throwIfAborted();
    const { dev } = fileStatus(made.root);
    return makeLoopMount({ device, partition, backingFile, type, made, place, dev, onEnd });
  } catch (error) {
    const { holder, id, remove } = place ?? {};
    const attached = id !== undefined;
    const ended = await endMount(made, { node: undefined, written: false, attached, holder });
    // What is still mounted is left to the keeper, with its record.
    if (ended.isGone) await remove?.();
    throw error;
  }
}

async function findPlace(
  { mount }: NewMount,
  { at, directoryMode, detached }: CheckedMount,
  keeper: Keeper | undefined,
): Promise<Place> {
  if (detached || keeper === undefined) return await placeNowhere(mount);
  if (at === undefined) return await placeOnOwnDirectory(mount, keeper);
  return await placeAt(mount, at, keeper, directoryMode);
}

/** As mount(8) does: what cannot be written is mounted read-only, unless it was asked for. */
async function makeSuitable(source: KnownSource, options: CheckedMount): Promise<NewMount> {
  const readOnly = options.readOnly ?? source.readOnly;
  try {
    return await makeExplained(source, readOnly, options);
  } catch (error) {
    const isChosen = readOnly || options.readOnly !== undefined;
    const isUnwritable = isRefusal(error, "EACCES") && error.request === "FSCONFIG_CMD_CREATE";
    if (isChosen || !isUnwritable) throw error;
    return await makeExplained(source, true, options);
  }
}

async function makeExplained(
  source: KnownSource,
  readOnly: boolean,
  options: CheckedMount,
): Promise<NewMount> {
  options.signal?.throwIfAborted();
  const { type, device } = source;
  const settings = [...readOnly ? [READ_ONLY] : [], ...settingsOf(options, type)];
  const plan = { type, device, settings, attributes: attributesOf(options, readOnly) };
  return await makeMount(plan, (error, { context, setting }) => {
    const option = setting && options.settings.includes(setting) ? setting : undefined;
    return explainRefusal(error, { ...source, options, option, context });
  });
}

const READ_ONLY: Setting = { name: "ro", value: undefined };
