/**
 * mount(): what is on it → a file system context → a mount of its own → LoopMount.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { onlyFileSystem } from "./file_system.ts";
import { ifExists, type OpenFile, readLink } from "../kernel/file.ts";
import { openKernelLog } from "../kernel/kmsg.ts";
import { endMount, makeMount, moveMount, type NewMount, type Setting } from "../kernel/mount.ts";
import { type FileStatus, fileStatus } from "../kernel/stat.ts";
import { explainMove, explainRefusal, refuseUnknown } from "./errors.ts";
import {
  attributesOf,
  type CheckedMount,
  checkMountOptions,
  type MountOptions,
} from "./options.ts";
import { type LoopMount, makeLoopMount } from "./mounted.ts";

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
  const { at, signal } = options;
  signal?.throwIfAborted();
  const type = options.type ?? (await onlyFileSystem(device))?.type;
  if (type === undefined) throw await refuseUnknown(source);
  // What is said from here on may be said of us.
  using log = openKernelLog();
  const made = await makeSuitable({ ...source, type, log }, options);
  let attached = false;
  try {
    signal?.throwIfAborted();
    const directory = fileStatus(made.root);
    if (at !== undefined) {
      await moveMount(made.mount, at).catch(explainMove);
      attached = true;
      signal?.throwIfAborted();
    }
    const path = pathOf(made.mount, directory, at);
    const init = { device, partition, backingFile, path, type, made, attached, onEnd };
    return makeLoopMount({ ...init, dev: directory.dev });
  } catch (error) {
    await endMount(made, { sync: false, attached });
    throw error;
  }
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
  const settings: readonly Setting[] = [...readOnly ? [READ_ONLY] : [], ...options.settings];
  const plan = { type, device, settings, attributes: attributesOf(options, readOnly) };
  return await makeMount(plan, (error, { context, setting }) => {
    const option = setting && options.settings.includes(setting) ? setting : undefined;
    return explainRefusal(error, { ...source, options, option, context });
  });
}

const READ_ONLY: Setting = { name: "ro", value: undefined };

/** A path to the root of the mount that every process can follow. */
function pathOf(mount: OpenFile, root: FileStatus, at: string | undefined): string {
  try {
    return mount.call((fd) => {
      // Below a mount without a directory there are no names that lead to it, or other files have them.
      const name = at === undefined ? undefined : readLink(`/proc/self/fd/${fd}`);
      const found = name === undefined ? undefined : ifExists(() => fileStatus(name));
      const isIt = found?.dev === root.dev && found.inode === root.inode;
      return isIt ? name! : `/proc/${readLink("/proc/self")}/fd/${fd}`;
    });
  } catch (error) {
    if (!isRefusal(error)) throw error;
    throw error.withHint("is proc mounted on /proc? A mount's files are found through it");
  }
}
