/**
 * Mounts, Linux 5.2: fsopen → fsconfig → fsmount → move_mount. The descriptor that fsmount() gives owns the
 * mount until move_mount() gives it a place: the kernel unmounts when it is closed, by SIGKILL too.
 * Another thread makes the calls that may load a driver, replay a journal, or wait for the locks of another
 * process's mount.
 *
 * @module
 */
import { isErrno } from "../base/errors.ts";
import { delay } from "../base/retry.ts";
import { whileClaiming } from "./claims.ts";
import { chainOnThread, eachOnThread, type NamedStep, uninterruptedOnThread } from "./chain.ts";
import {
  AT_FDCWD,
  check,
  closeInOrder,
  closeStep,
  cString,
  O_CLOEXEC,
  O_RDONLY,
  OpenFile,
  uninterrupted,
} from "./file.ts";
import { AT_REMOVEDIR } from "./directory.ts";
import { decodeName } from "../base/names.ts";
import { __u64, array, int, long_long, struct } from "../base/struct.ts";
import type { Descriptor } from "../runtime/contract.ts";
import { libc } from "../runtime/libc.ts";
import { AT_EMPTY_PATH } from "./stat.ts";
import { SYS, type SyscallName } from "./syscalls.ts";

export const FSOPEN_CLOEXEC = 1;
export const FSMOUNT_CLOEXEC = 1;
const FSCONFIG_SET_FLAG = 0;
const FSCONFIG_SET_STRING = 1;
const FSCONFIG_CMD_CREATE = 6;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MOVE_MOUNT_T_EMPTY_PATH = 0x40;
/** glibc's `<sys/mount.h>`. */
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/** Of a mount, not of the file system; `<linux/mount.h>`. */
export const MOUNT_ATTR_RDONLY = 0x1;
export const MOUNT_ATTR_NOSUID = 0x2;
export const MOUNT_ATTR_NODEV = 0x4;
export const MOUNT_ATTR_NOEXEC = 0x8;
export const MOUNT_ATTR_NOATIME = 0x10;
export const MOUNT_ATTR_STRICTATIME = 0x20;
export const MOUNT_ATTR_NODIRATIME = 0x80;
/** Linux 5.14. */
export const MOUNT_ATTR_NOSYMFOLLOW = 0x200000;

const MOUNT_ATTR_IDMAP = 0x100000n;

export const mount_attr = struct("mount_attr", 32, {
  attr_set: __u64,
  attr_clr: __u64,
  propagation: __u64,
  userns_fd: __u64,
});

export const NO_NAME = cString("");

/** `<asm-generic/statfs.h>`, where __kernel_long_t has 64 bits. */
export const statfs = struct("statfs", 120, {
  f_type: long_long,
  f_bsize: long_long,
  f_blocks: __u64,
  f_bfree: __u64,
  f_bavail: __u64,
  f_files: __u64,
  f_ffree: __u64,
  f_fsid: array(int, 2),
  f_namelen: long_long,
  f_frsize: long_long,
  f_flags: long_long,
  f_spare: array(long_long, 4),
});
const ST_RDONLY = 1n;

/** A mount option of a file system: `name`, or `name=value`. */
export interface Setting {
  readonly name: string;
  readonly value: string | undefined;
}

export interface MountPlan {
  readonly type: string;
  readonly device: string;
  readonly settings: readonly Setting[];
  /** MOUNT_ATTR_* bits. */
  readonly attributes: number;
  /** A user namespace, whose map of ids the mount gets (Linux 5.12). */
  readonly idMap?: OpenFile;
}

export interface FailedMount {
  /** fsopen()'s descriptor, for its log. Closed when `explain` has ended. */
  readonly context: OpenFile | undefined;
  /** The setting that was refused, if it was one. */
  readonly setting: Setting | undefined;
}

/** A mount without a place. */
export interface NewMount {
  /** fsmount()'s descriptor; O_PATH, so that syncfs() refuses it. */
  readonly mount: OpenFile;
  /** Its root directory. */
  readonly root: OpenFile;
  /** What the file system says, which may differ from what it was asked for. */
  readonly readOnly: boolean;
}

/** A call, and how an error names it where that differs. */
export interface MountStep extends NamedStep {
  readonly syscall?: string;
  readonly request?: string;
}

/** Throws the error of the last call that was made, if it is one. */
export function checkLast(
  steps: readonly MountStep[],
  results: readonly number[],
  path: string,
): void {
  const last = results.length - 1;
  const { name, syscall = name, request } = steps[last];
  check(results[last], syscall, path, request);
}

/** What a step opened, if it was made and succeeded. */
export function openedBy(
  results: readonly number[],
  step: number,
  path: string,
): OpenFile | undefined {
  return results[step] >= 0 ? new OpenFile(results[step], path) : undefined;
}

/**
 * Whoever asks whether a device is in use opens it, or its disk, with O_EXCL for a moment, in which the kernel
 * refuses a mount. So that one is tried so often.
 */
const CLAIM_TRIES = 5;
const CLAIM_PAUSE_MS = 4;

/**
 * fsopen → fsconfig for each setting → FSCONFIG_CMD_CREATE, which reads the superblock and replays the
 * journal → fsmount → mount_setattr for `idMap`, which only a mount takes that is not attached yet → open
 * its root → fstatfs. If one fails, nothing is left mounted, and the error that `explain` resolves to is
 * thrown.
 */
export async function makeMount(
  { type, device, settings, attributes, idMap }: MountPlan,
  explain: (error: unknown, failed: FailedMount) => Promise<unknown>,
): Promise<NewMount> {
  const all: readonly Setting[] = [{ name: "source", value: device }, ...settings];
  const [context, create] = [0, 1 + all.length];
  const [mount, root] = [create + 1, create + (idMap ? 3 : 2)];
  const buffer = statfs.buffer();
  const attr = idMap && mount_attr.buffer();
  const steps: readonly MountStep[] = [
    { name: "fsopen", args: [cString(type), FSOPEN_CLOEXEC] },
    ...all.map((setting): MountStep => ({ ...stepOf(setting), on: context })),
    CREATE,
    { name: "fsmount", on: context, args: [FSMOUNT_CLOEXEC, attributes] },
    ...attr ? [{ name: "mount_setattr", on: mount, args: setAttributes(attr) } as const] : [],
    { name: "openat", on: mount, args: [cString("."), O_RDONLY | O_CLOEXEC, 0], syscall: "open" },
    { name: "fstatfs", on: root, args: [buffer] },
  ];
  const make = () => whileClaiming(device, () => chainOnThread(steps));
  const attempt = () => attr ? withIdMap(idMap, attr, make) : make();
  let results = await attempt();
  for (let tries = 1; tries < CLAIM_TRIES && isErrno(results[create], "EBUSY"); tries++) {
    // A context that failed cannot be used again.
    openedBy(results, context, device)!.close();
    await delay(CLAIM_PAUSE_MS);
    results = await attempt();
  }
  const opened = [context, mount, root].map((step) => openedBy(results, step, device));
  try {
    checkLast(steps, results, device);
  } catch (error) {
    const last = results.length - 1;
    const setting = last < create ? all[last - 1] : undefined;
    try {
      throw await explain(error, { context: opened[0], setting });
    } finally {
      await closeInOrder(opened.filter((file) => file !== undefined).reverse());
    }
  }
  opened[0]!.close();
  const readOnly = (statfs.reader(buffer)("f_flags") & ST_RDONLY) !== 0n;
  return { mount: opened[1]!, root: opened[2]!, readOnly };
}

const setAttributes = (attr: Uint8Array<ArrayBuffer>) =>
  [NO_NAME, AT_EMPTY_PATH, attr, attr.length] as const;

/** Has a user namespace's map in `attr` while `act` runs. */
function withIdMap<T>(
  idMap: OpenFile,
  attr: Uint8Array<ArrayBuffer>,
  act: () => Promise<T>,
): Promise<T> {
  return idMap.callOnThread((userns) => {
    mount_attr.write(attr, { attr_set: MOUNT_ATTR_IDMAP, userns_fd: BigInt(userns) });
    return act();
  });
}

/** mount_setattr(2): gives a mount that is not attached yet a user namespace's map of ids (Linux 5.12). */
export async function mapIds(mount: OpenFile, idMap: OpenFile): Promise<void> {
  const attr = mount_attr.buffer();
  const set = (fd: number) =>
    withIdMap(
      idMap,
      attr,
      () => uninterruptedOnThread("mount_setattr", fd, ...setAttributes(attr)),
    );
  check(await mount.callOnThread(set), "mount_setattr", mount.path);
}

/** Not repeated after a signal, since a context that failed cannot be used again. `on`: fsopen()'s step. */
export const CREATE: MountStep = {
  name: "fsconfig",
  request: "FSCONFIG_CMD_CREATE",
  on: 0,
  args: [FSCONFIG_CMD_CREATE, 0, 0, 0],
  once: true,
};

export function stepOf({ name, value }: Setting): MountStep {
  const [request, ...args] = value === undefined
    ? ["FSCONFIG_SET_FLAG", FSCONFIG_SET_FLAG, cString(name), 0, 0] as const
    : ["FSCONFIG_SET_STRING", FSCONFIG_SET_STRING, cString(name), cString(value), 0] as const;
  return { name: "fsconfig", request, args };
}

export interface MountEnd {
  /**
   * The device's node, which is flushed at last, since some file systems never have the device flushed
   * (vfat; ext4 with `nobarrier`). undefined: it cannot be opened, or nothing was written.
   */
  readonly node: OpenFile | undefined;
  /** Whether anything may have been written. */
  readonly written: boolean;
  /** Whether the mount has a place in this namespace. */
  readonly attached: boolean;
  /** Belongs to the mount and is closed after it. */
  readonly holder: OpenFile | undefined;
  /** The directory on which it lies, if that was made for it: it goes after the mount. */
  readonly folder?: Folder;
}

/** The directory `folder` in `parent`. */
export interface Folder {
  readonly parent: OpenFile;
  readonly folder: string;
}

/** What the calls returned; 0 where they were not made. */
export interface EndedMount {
  readonly synced: number;
  readonly flushed: number;
  readonly unmounted: number;
  /** readlinkat()'s, which `isGone` rests on. */
  readonly named: number;
  /** Whether umount2() took this mount, and not one that was mounted over it meanwhile. */
  readonly isGone: boolean;
  /** Whether `folder` has been removed. */
  readonly isFolderGone: boolean;
}

/**
 * syncfs → umount2 → close → fsync of the node. Each is made even if one before it failed. From Linux 5.8
 * on syncfs() reports every write since the mount that failed.
 */
export async function endMount(
  { mount, root }: NewMount,
  { node, written, attached, holder, folder }: MountEnd,
): Promise<EndedMount> {
  const [rootFd, mountFd, nodeFd, holderFd] = await Promise.all(
    [root, mount, node, holder].map((file) => file?.giveAway()),
  );
  if (rootFd === undefined || mountFd === undefined) {
    await eachOnThread([nodeFd, holderFd].filter((fd) => fd !== undefined).map(closeStep));
    return { synced: 0, flushed: 0, unmounted: 0, named: 0, isGone: true, isFolderGone: false };
  }
  const steps: NamedStep[] = [];
  const name = new Uint8Array(new ArrayBuffer(2));
  if (written) steps.push({ name: "syncfs", args: [rootFd] });
  if (attached) steps.push(unmountStep(mountFd), nameStep(mountFd, name));
  const all = [rootFd, mountFd, holderFd].filter((fd) => fd !== undefined);
  steps.push(...all.map(closeStep));
  // The last close of a mount writes the superblock once more.
  if (nodeFd !== undefined) steps.push({ name: "fsync", args: [nodeFd] }, closeStep(nodeFd));
  const results = await eachThenRemove(steps, attached ? folder : undefined);
  const resultOf = (name: SyscallName) =>
    results[steps.findIndex((step) => step.name === name)] ?? 0;
  return {
    synced: resultOf("syncfs"),
    flushed: resultOf("fsync"),
    unmounted: resultOf("umount2"),
    named: resultOf("readlinkat"),
    // The root of a mount that is in no namespace has the path "/".
    isGone: !attached || resultOf("readlinkat") === 1,
    isFolderGone: results[steps.length] === 0,
  };
}

/**
 * Makes all of the calls and, if none has failed, removes the directory, in the same trip to the other
 * thread. A mount that lies there all the same is EBUSY.
 */
async function eachThenRemove(
  steps: readonly NamedStep[],
  folder: Folder | undefined,
): Promise<number[]> {
  if (!folder) return await eachOnThread(steps);
  return await folder.parent.callOnThread(async (fd) => {
    const removal = { name: "unlinkat", args: [fd, cString(folder.folder), AT_REMOVEDIR] } as const;
    const results = await chainOnThread([...steps, removal]);
    const rest = steps.slice(results.length);
    return [...results, ...await eachOnThread(rest)];
  });
}

/**
 * Unmounts lazily. umount2() takes a path and so the topmost mount there: the caller has looked at mountinfo
 * first. No call unmounts by descriptor.
 */
function unmountStep(mount: Descriptor): NamedStep {
  return { name: "umount2", args: [cString(`/proc/self/fd/${mount}`), MNT_DETACH] };
}

/** `umount2(path, UMOUNT_NOFOLLOW)`: unmounts the topmost mount there, unless it is in use. */
export async function unmountAt(path: string): Promise<number> {
  return await uninterruptedOnThread("umount2", cString(path), UMOUNT_NOFOLLOW);
}

function nameStep(file: Descriptor, buffer: Uint8Array): NamedStep {
  const path = cString(`/proc/self/fd/${file}`);
  return { name: "readlinkat", args: [AT_FDCWD, path, buffer, buffer.length] };
}

/**
 * Gives a mount a place: `folder`, which was made for it. The mount then outlives its descriptor. `path`:
 * what errors call the place.
 *
 * This thread makes the call, since a trip to another one takes longer. It has just made the directory, so
 * the call waits for nothing but the namespace's lock. Each read of mountinfo takes that, too, and no mount
 * has it while it waits for a disk.
 */
export function moveMount(
  mount: OpenFile,
  { parent, folder }: Folder,
  path = `${parent.path}/${folder}`,
): void {
  const name = cString(folder);
  const result = mount.call((fd) =>
    parent.call((to) =>
      uninterrupted(() =>
        libc().syscall(SYS("move_mount"), fd, NO_NAME, to, name, MOVE_MOUNT_F_EMPTY_PATH)
      )
    )
  );
  check(result, "move_mount", path);
}

/** The same on a directory of the user's. Another thread makes the call: it may lie on a network. */
export async function moveMountOnto(mount: OpenFile, directory: OpenFile): Promise<void> {
  const flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
  const result = await mount.callOnThread((fd) =>
    directory.callOnThread((to) =>
      uninterruptedOnThread("move_mount", fd, NO_NAME, to, NO_NAME, flags)
    )
  );
  check(result, "move_mount", directory.path);
}

/**
 * Mounts a tmpfs without a place, with directory `outer` in it and `inner` in that. `path`: what errors
 * call it.
 */
export async function makeHolder(
  [outer, inner]: readonly [string, string],
  path: string,
): Promise<OpenFile> {
  const attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  const mode: Setting = { name: "mode", value: "0700" };
  const steps: readonly MountStep[] = [
    { name: "fsopen", args: [cString("tmpfs"), FSOPEN_CLOEXEC] },
    { ...stepOf(mode), on: 0 },
    CREATE,
    { name: "fsmount", on: 0, args: [FSMOUNT_CLOEXEC, attributes] },
    { name: "mkdirat", on: 3, args: [cString(outer), 0o700], syscall: "mkdir" },
    { name: "mkdirat", on: 3, args: [cString(`${outer}/${inner}`), 0o700], syscall: "mkdir" },
  ];
  const results = await chainOnThread(steps);
  openedBy(results, 0, path)?.close();
  const holder = openedBy(results, 3, path);
  try {
    checkLast(steps, results, path);
    return holder!;
  } catch (error) {
    holder?.close();
    throw error;
  }
}

const message = new Uint8Array(new ArrayBuffer(1024));

/** The file system's messages: "ext4: Unknown parameter 'x'". The kernel keeps the last eight. */
export function readLog(context: OpenFile): string[] {
  const lines: string[] = [];
  for (;;) {
    const length = context.call((fd) => libc().syscall(SYS("read"), fd, message, message.length));
    if (length <= 0) return lines;
    // "e " an error, "w " a warning, "i " an information.
    lines.push(decodeName(message.subarray(0, length)).replace(/^[ewi] /, "").trim());
  }
}
