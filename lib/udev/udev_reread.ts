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
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { makeBlockNode, O_RDWR, open, type OpenFile, unlink } from "../kernel/file.ts";
import { fileStatus } from "../kernel/stat.ts";

/** First systemd whose udevd compares the table before it asks the kernel to read it again. */
export const REREAD_UNTIL = 259;

/**
 * Opens loop device `dev` for writing, so that closing it wakes nobody. Where no node can be made (no
 * CAP_MKNOD, /dev read-only), the device's own node at `path` is opened.
 */
export function openUnwatched(path: string, number: number, dev: string): OpenFile {
  return openOwnNode(path, number, dev) ?? open(path, O_RDWR);
}

function openOwnNode(path: string, number: number, dev: string): OpenFile | undefined {
  const own = `/dev/.loopdev-loop${number}`;
  let found = false;
  try {
    makeBlockNode(own, dev);
  } catch (error) {
    // EEXIST: left by a process that was killed in between, or in use by one right now.
    if (!isRefusal(error, "EEXIST")) return undefined;
    found = true;
  }
  try {
    const file = open(own, O_RDWR, 0, path);
    if (!found || fileStatus(file).rdev === dev) return file;
    file.close();
  } catch {
    // EACCES: /dev is mounted nodev. ENOENT: another process has just removed it.
  } finally {
    remove(own);
  }
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
