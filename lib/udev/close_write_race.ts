/**
 * The second race, udev's own, whole.
 *
 * Symptom: on any kernel, partitions vanish and appear again some milliseconds after a process has
 * attached an image and exited, or when it detaches.
 *
 * Cause: systemd-udevd watches the nodes of block devices with inotify. When a writable descriptor of
 * a whole disk is closed (IN_CLOSE_WRITE), it supposes that the partition table was changed, and asks
 * the kernel with BLKRRPART to read it again: the kernel drops every partition and adds it again. A
 * reaction to one close can strike much later, even the next user of the same device.
 *
 * Until: systemd 259, which compares the table first. Binding needs a writable descriptor, since the
 * kernel makes the device read-only otherwise, and every exit closes it, SIGKILL included.
 *
 * So we open the device through a node of our own, which lives between two system calls. inotify
 * watches inodes: nobody watches that one, nobody hears its close, whenever and however it comes.
 *
 * The writable descriptor is needed for the bind alone. Where the kernel lets nobody write to what is
 * mounted (CONFIG_BLK_DEV_WRITE_MOUNTED=n or bdev_allow_write_mounted=0, 6.8), a mount of the whole
 * device is EBUSY as long as anybody can write to it, we too. So a read-only one of the same node keeps
 * the device, and the writable one is closed after the bind.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { hasCapability } from "../kernel/capabilities.ts";
import { makeBlockNode, O_RDONLY, O_RDWR, open, type OpenFile, unlink } from "../kernel/file.ts";
import { fileStatus } from "../kernel/stat.ts";

/** First systemd whose udevd compares the table before it asks the kernel to read it again. */
export const REREAD_UNTIL = 259;

/** A loop device that is open for the bind. */
export interface OpenedForBind {
  /** The one that keeps the device. */
  readonly device: OpenFile;
  /** Through which it is bound, and which nobody needs after that; undefined if it is the same. */
  readonly writable: OpenFile | undefined;
}

/**
 * Opens loop device `dev` for a writable bind, so that closing it wakes nobody. Where no node can be made
 * (no CAP_MKNOD, /dev read-only), the device's own node at `path` is opened, and stays open: its close
 * would be heard.
 */
export function openUnwatched(path: string, dev: string): OpenedForBind {
  // Without CAP_SYS_ADMIN the kernel wants a writable descriptor for LOOP_SET_STATUS64 and its like.
  const flags = hasCapability("CAP_SYS_ADMIN") ? [O_RDONLY, O_RDWR] : [O_RDWR];
  const opened = openOwnNodes(path, dev, flags);
  if (!opened) return { device: open(path, O_RDWR), writable: undefined };
  return { device: opened[0], writable: opened[1] };
}

/** A block device through a node of our own; undefined where none can be made. */
export function openOwnNode(path: string, dev: string, flags: number): OpenFile | undefined {
  return openOwnNodes(path, dev, [flags])?.[0];
}

function openOwnNodes(path: string, dev: string, flags: number[]): OpenFile[] | undefined {
  const own = `/dev/.loopdev-${path.slice("/dev/".length)}`;
  let found = false;
  try {
    makeBlockNode(own, dev);
  } catch (error) {
    // EEXIST: left by a process that was killed in between, or in use by one right now.
    if (!isRefusal(error, "EEXIST")) return undefined;
    found = true;
  }
  const opened: OpenFile[] = [];
  try {
    for (const each of flags) opened.push(open(own, each, 0, path));
    // Another process may have removed the node in between, and a third one made it anew.
    if (!found || opened.every((file) => fileStatus(file).rdev === dev)) return opened;
  } catch {
    // EACCES: /dev is mounted nodev. ENOENT: another process has just removed it.
  } finally {
    remove(own);
  }
  for (const file of opened) file.close();
  return undefined;
}

/** A node that stays costs nothing: the next attach takes it over. An open device must not. */
function remove(own: string): void {
  try {
    unlink(own);
  } catch {
    // ENOENT: another process has just removed it. EROFS: somebody made /dev read-only.
  }
}
