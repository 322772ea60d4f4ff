/**
 * The second race, udev's own, whole.
 *
 * Symptom: on any kernel, partitions vanish and appear again some milliseconds after a process has
 * attached an image and exited, or when it detaches.
 *
 * Cause: systemd-udevd watches the nodes of block devices with inotify. When a writable descriptor of
 * a whole disk is closed (IN_CLOSE_WRITE), it assumes that the partition table was changed and sends
 * BLKRRPART, at which the kernel drops every partition and adds it again. udevd can be late: then it
 * drops the partitions of the next use of the same device.
 *
 * Until: systemd 259, which compares the table first. Binding needs a writable descriptor, since the
 * kernel makes the device read-only otherwise, and every exit closes it, SIGKILL included.
 *
 * So we open the device through a node of our own, which exists only between two system calls. inotify
 * watches inodes, and nobody watches the inode of that node.
 *
 * The writable descriptor is needed for the bind alone. Where the kernel forbids writing to mounted devices
 * (CONFIG_BLK_DEV_WRITE_MOUNTED=n or bdev_allow_write_mounted=0, 6.8), a mount of the whole device is
 * EBUSY while any process has it open for writing, ours included. So the writable descriptor is closed
 * after the bind, and a read-only one of the same node keeps the device.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { hasCapability } from "../kernel/capabilities.ts";
import {
  makeBlockNode,
  O_RDONLY,
  O_RDWR,
  open,
  type OpenFile,
  removeNode,
} from "../kernel/file.ts";
import { fileStatus } from "../kernel/stat.ts";

/** First systemd whose udevd compares the table before it asks the kernel to read it again. */
export const REREAD_UNTIL = 259;

/** A loop device that is open for the bind. */
export interface OpenedForBind {
  /** Keeps the device. */
  readonly device: OpenFile;
  /** For the bind, to be closed after it; undefined if that is `device`. */
  readonly writable: OpenFile | undefined;
}

/**
 * Opens loop device `dev` for a writable bind, through a node that udevd does not watch. Where no node can
 * be made (no CAP_MKNOD, /dev read-only), through the device's node at `path`; that descriptor stays
 * open, since udevd would see its close.
 */
export function openUnwatched(path: string, dev: string): OpenedForBind {
  // Without CAP_SYS_ADMIN, LOOP_SET_STATUS64 and similar requests need a writable descriptor.
  const flags = hasCapability("CAP_SYS_ADMIN") ? [O_RDONLY, O_RDWR] : [O_RDWR];
  const opened = openOwnNodes(path, dev, flags);
  if (!opened) return { device: open(path, O_RDWR), writable: undefined };
  return { device: opened[0], writable: opened[1] };
}

/** Opens a block device through a node of our own; undefined where none can be made. */
export function openOwnNode(path: string, dev: string, flags: number): OpenFile | undefined {
  return openOwnNodes(path, dev, [flags])?.[0];
}

function openOwnNodes(path: string, dev: string, flags: number[]): OpenFile[] | undefined {
  const own = `/dev/.loopdev-${path.slice("/dev/".length)}`;
  let existed = false;
  try {
    makeBlockNode(own, dev);
  } catch (error) {
    // EEXIST: another process is using it right now, or was killed and left it.
    if (!isRefusal(error, "EEXIST")) return undefined;
    existed = true;
  }
  const opened: OpenFile[] = [];
  try {
    for (const each of flags) opened.push(open(own, each, 0, path));
    // A node that existed may be another device's: one process can remove it and another make it anew.
    if (!existed || opened.every((file) => fileStatus(file).rdev === dev)) return opened;
  } catch {
    // EACCES: /dev is mounted nodev. ENOENT: another process has just removed it.
  } finally {
    // The next attach uses one that is left.
    removeNode(own);
  }
  for (const file of opened) file.close();
  return undefined;
}
