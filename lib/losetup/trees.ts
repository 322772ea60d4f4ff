/**
 * The mounts of an image that outlive the process which made them: `loopdev mount` and `loopdev umount`.
 *
 * @module
 */
import { isErrno, LoopError, unlessRefused } from "../base/errors.ts";
import type { LoopDevice } from "../device.ts";
import { describeHolders, type Holder } from "../holders/holders.ts";
import { processes, processName } from "../holders/processes.ts";
import {
  AT_FDCWD,
  check,
  cString,
  ifAllowed,
  ifExists,
  listDirectory,
  O_CLOEXEC,
  O_PATH,
  OpenFile,
  readLink,
  readText,
} from "../kernel/file.ts";
import { uninterruptedOnThread } from "../kernel/chain.ts";
import { unmountAt } from "../kernel/mount.ts";
import { type Mount, mounts } from "../kernel/mountinfo.ts";
import { fileStatus, mountIdOf } from "../kernel/stat.ts";
import { openLoop } from "../open_loop.ts";
import { status } from "../status.ts";

export { leaveToMounts } from "../device.ts";

/** Who lists devices has each open for a moment. */
const PASSING_USERS_MS = 1000;

/** How an unmounted tree's device has ended. */
export interface UnmountedTree {
  /** "/dev/loop4" */
  readonly device: string;
  /** Who keeps the device from being detached, for a message; "": nobody. */
  readonly holders: string;
}

/**
 * Unmounts the tree on `directory`, the last mount first, and detaches its device. Each mount is known by its
 * id and by the loop device that it lies on, never by its path alone. Rejects with LoopError: with EINVAL if
 * it is not the tree of one loop device that nobody else ends; with EBUSY if something else is mounted in it, or
 * a process uses it. What has been unmounted by then stays so.
 */
export async function unmountTree(directory: string): Promise<UnmountedTree> {
  const { tree, number } = await findTree(directory);
  const path = `/dev/loop${number}`;
  await using loop = await openLoop(path);
  const [root] = tree;
  // As long as it is mounted, the device cannot have got another use before it was opened.
  if (!isThere(root)) throw refuse(directory, "somebody else has just unmounted it");
  if (!(await status(path)).autoclear) throw refuse(directory, notOurs(root));
  // Before the first one: half a tree would be of no use to anybody.
  await refuseUsed(root.point);
  for (const mount of [...tree].reverse()) await unmount(mount, loop);
  const outcome = await loop.detach({ timeout: PASSING_USERS_MS });
  return { device: path, holders: outcome === "deferred" ? await holdersOf(loop) : "" };
}

/** Who keeps the device, for a message; `left`: who of them is not meant. */
async function holdersOf(loop: LoopDevice, left: readonly Holder["kind"][] = []): Promise<string> {
  const holders = (await loop.holders()).filter(({ kind }) => !left.includes(kind));
  return describeHolders(holders) || "something that this process cannot see";
}

interface Tree {
  /** The root first, and each mount before those that lie on it. */
  readonly tree: readonly Mount[];
  /** Of the loop device. */
  readonly number: number;
}

async function findTree(directory: string): Promise<Tree> {
  const [id, path] = await identify(directory);
  const all = mounts();
  const root = all.find((mount) => mount.id === id);
  if (root?.point !== path) {
    throw refuse(directory, `nothing is mounted on it${root ? `: it lies in ${root.point}` : ""}`);
  }
  const number = loopOf(root);
  if (number === undefined) throw refuse(directory, notOurs(root));
  const ids = new Set([root.id]);
  const tree = all.filter((mount) =>
    mount === root || ids.has(mount.parent) && Boolean(ids.add(mount.id))
  );
  for (const mount of tree) {
    const owner = ownerOf(mount);
    if (owner !== undefined) throw refuse(directory, `process ${owner} unmounts it when it ends`);
    if (loopOf(mount) === number) continue;
    const hint = `another mount lies on ${mount.point} (${mount.type}): unmount that one first`;
    throw new LoopError({ code: "EBUSY", path: directory, hint });
  }
  return { tree, number };
}

const notOurs = ({ source, type }: Mount) =>
  `it is no tree that loopdev mount made, but a mount of ${source} (${type}): umount ends that`;

function refuse(path: string, hint: string): LoopError {
  return new LoopError({ code: "EINVAL", path, hint });
}

/** The id of the mount that a directory lies in, and the kernel's path of the directory. */
async function identify(path: string): Promise<[id: number, path: string]> {
  const flags = O_PATH | O_CLOEXEC;
  const fd = await uninterruptedOnThread("openat", AT_FDCWD, cString(path), flags, 0);
  using file = new OpenFile(check(fd, "open", path), path);
  return [mountIdOf(file), file.call((fd) => readLink(`/proc/self/fd/${fd}`))];
}

/** The number of the loop device that a mount lies on. A btrfs has a device number of its own. */
function loopOf({ dev, source, type }: Mount): number | undefined {
  const uevent = unlessRefused(() => {
    const rdev = type === "btrfs" ? fileStatus(source).rdev : dev;
    return readText(`/sys/dev/block/${rdev}/uevent`);
  });
  const number = /^DEVNAME=loop(\d+)(?:p\d+)?$/m.exec(uevent ?? "")?.[1];
  return number === undefined ? undefined : Number(number);
}

/** The process of loopdev whose keeper has a record of the mount. */
function ownerOf({ id, source }: Mount): string | undefined {
  const node = source.slice(source.lastIndexOf("/") + 1);
  const isRecord = (record: string) => {
    const [, , ofMount, , name] = record.split(".");
    return ofMount === `${id}` && name === node;
  };
  const namesIn = (folder: string) => ifExists(() => listDirectory(folder)) ?? [];
  const owners = namesIn("/run/loopdev");
  return owners.find((owner) => namesIn(`/run/loopdev/${owner}`).some(isRecord))?.replace(
    /-.*/,
    "",
  );
}

/** Whether mountinfo still has this mount at its place. */
const isThere = ({ id, point }: Mount) =>
  mounts().some((mount) => mount.id === id && mount.point === point);

/** The kernel refuses while a process uses it. umount2() takes a path, so this looks again right before. */
async function unmount({ id, point }: Mount, loop: LoopDevice): Promise<void> {
  const [topmost] = await identify(point);
  if (topmost !== id) {
    const hint = "another mount came over it: unmount that one first";
    throw new LoopError({ code: "EBUSY", path: point, hint });
  }
  const result = await unmountAt(point);
  if (!isErrno(result, "EBUSY")) return void check(result, "umount2", point);
  await refuseUsed(point);
  // A loop device over a file of the mount, or swap on one, is no process.
  const hint = `in use by ${await holdersOf(loop, ["mount", "process"])}`;
  throw new LoopError({ code: "EBUSY", syscall: "umount2", path: point, hint });
}

/** Throws if a process that we may look at uses a file on `path` or below it. */
async function refuseUsed(path: string): Promise<void> {
  const users = await usersOf(path);
  if (users.length === 0) return;
  throw new LoopError({ code: "EBUSY", path, hint: `in use by ${users.join(", ")}` });
}

/** The processes that have a file or a directory below `point` open, or work there. */
async function usersOf(point: string): Promise<string[]> {
  const isBelow = (link?: string) => link === point || link?.startsWith(`${point}/`);
  const users: string[] = [];
  const self = readLink("/proc/self");
  for await (const { pid, links } of processes()) {
    if (pid === self) continue;
    const places = ["cwd", "root", "exe"].map((name) =>
      ifAllowed(() => readLink(`/proc/${pid}/${name}`))
    );
    if ([...links.values(), ...places].some(isBelow)) users.push(`process ${processName(pid)}`);
  }
  return users;
}
