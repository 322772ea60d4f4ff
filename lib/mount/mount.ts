/**
 * mount(): what is on it → a file system context → a mount of its own → LoopMount.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { onlyFileSystem } from "./file_system.ts";
import { ifExists, type OpenFile, readLink } from "../kernel/file.ts";
import { openKernelLog } from "../kernel/kmsg.ts";
import {
  fsconfigCreate,
  fsconfigSet,
  fsmount,
  fsopen,
  isReadOnly,
  moveMount,
  openRoot,
  unmountFrom,
} from "../kernel/mount.ts";
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
  const made = await makeSuitable(source, type, options);
  const undo = [() => made.closeLater()];
  try {
    const root = await openRoot(made);
    undo.push(() => root.closeLater());
    const readOnly = await isReadOnly(root);
    const directory = fileStatus(root);
    signal?.throwIfAborted();
    if (at !== undefined) {
      await moveMount(made, at).catch(explainMove);
      undo.push(() => unmountFrom(made, at));
    }
    const path = pathOf(made, directory, at);
    const init = { device, partition, backingFile, path, type, readOnly, mount: made, root, onEnd };
    return makeLoopMount({ ...init, dev: directory.dev, attached: at !== undefined });
  } catch (error) {
    // The first error wins.
    for (const step of undo.reverse()) await step().catch(() => {});
    throw error;
  }
}

/** As mount(8) does: what cannot be written is mounted read-only, unless it was asked for. */
async function makeSuitable(
  source: MountSource,
  type: string,
  options: CheckedMount,
): Promise<OpenFile> {
  const readOnly = options.readOnly ?? source.readOnly;
  try {
    return await makeMount(source, type, readOnly, options);
  } catch (error) {
    const isChosen = readOnly || options.readOnly !== undefined;
    if (isChosen || !isRefusal(error, "EACCES")) throw error;
    return await makeMount(source, type, true, options);
  }
}

/** A mount that nobody sees yet. */
async function makeMount(
  source: MountSource,
  type: string,
  readOnly: boolean,
  options: CheckedMount,
): Promise<OpenFile> {
  const { device } = source;
  const { settings, signal } = options;
  signal?.throwIfAborted();
  // What is said from here on may be said of us.
  using log = openKernelLog();
  let context: OpenFile | undefined;
  let option: string | undefined;
  try {
    context = await fsopen(type, device);
    await fsconfigSet(context, "source", device);
    if (readOnly) await fsconfigSet(context, "ro", undefined);
    for (const { name, value } of settings) {
      option = value === undefined ? name : `${name}=${value}`;
      await fsconfigSet(context, name, value);
    }
    option = undefined;
    signal?.throwIfAborted();
    await fsconfigCreate(context);
    signal?.throwIfAborted();
    const made = await fsmount(context, attributesOf(options, readOnly));
    context.close();
    return made;
  } catch (error) {
    throw await explainRefusal(error, { ...source, type, options, option, context, log });
  } finally {
    // After a failure the last reference to what was made.
    await context?.closeLater();
  }
}

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
