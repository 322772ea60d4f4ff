/**
 * Any block device as what is mounted.
 *
 * The kernel's mount takes a path, which may lead to another device by then. So the device is opened
 * first, and stays open until the mount has ended: its number is not given to another one meanwhile. After
 * the mount its number tells whether it is still the one that was meant.
 *
 * @module
 */
import { LoopError } from "../base/errors.ts";
import { blkRoGet } from "../kernel/block.ts";
import { openWithoutWaiting } from "../kernel/blocking.ts";
import { ifExists, O_NONBLOCK, O_RDONLY, readText } from "../kernel/file.ts";
import type { NewMount } from "../kernel/mount.ts";
import { fileStatus } from "../kernel/stat.ts";
import { sysfsDev, sysfsPartitionDev } from "../kernel/sysfs.ts";
import type { MountSource } from "./mounted.ts";

/** Opens it. The caller closes `node`. */
export async function openSource(path: string, signal?: AbortSignal): Promise<MountSource> {
  // A FIFO would wait for a writer.
  const node = await openWithoutWaiting(path, O_RDONLY | O_NONBLOCK, signal);
  try {
    const { type, rdev } = fileStatus(node);
    if (type !== "block device") throw noBlockDevice(path, type);
    const uevent = ifExists(() => readText(`/sys/dev/block/${rdev}/uevent`)) ?? "";
    const [, name] = /^DEVNAME=(.+)$/m.exec(uevent) ?? [];
    const [, partition] = /^PARTN=(\d+)$/m.exec(uevent) ?? [];
    const [, loop] = /^loop(\d+)(?:p\d+)?$/.exec(name ?? "") ?? [];
    const device = nodeOf(name, rdev) ?? path;
    return {
      device,
      number: loop === undefined ? undefined : Number(loop),
      partition: partition === undefined ? undefined : Number(partition),
      readOnly: blkRoGet(node),
      backingFile: device,
      node,
    };
  } catch (error) {
    node.close();
    throw error;
  }
}

/** The kernel's own name for it, where that leads to it: what lies on it is found by this name. */
function nodeOf(name: string | undefined, rdev: string): string | undefined {
  const path = `/dev/${name}`;
  return ifExists(() => fileStatus(path))?.rdev === rdev ? path : undefined;
}

function noBlockDevice(path: string, type: string): LoopError {
  const hint = type === "file"
    ? "it is a file: attach() makes a loop device of an image, whose mount() mounts what is on it"
    : `it is a ${type}`;
  return new LoopError({ code: "ENOTBLK", path, hint });
}

/** Throws if the kernel has mounted another device than was meant. */
export function refuseOther(source: MountSource, { root }: NewMount): void {
  const { device, node } = source;
  const { dev } = fileStatus(root);
  // btrfs and others number their files by no block device: then the path must still lead to it.
  const found = dev.startsWith("0:") ? ifExists(() => fileStatus(device))?.rdev : dev;
  if (node === undefined) return refuseStale(source, found);
  const { rdev } = fileStatus(node);
  if (found === rdev) return;
  const hint = `it led to device ${rdev}, and now to ${found ?? "none"}: mount it again`;
  throw new LoopError({ code: "ESTALE", path: device, hint });
}

/**
 * Throws if `found`, where the node of a loop device or partition leads, is another device. A static /dev keeps the
 * node of a partition that was dropped, by sfdisk or udevd, and the kernel gives its number to the next partition
 * of any disk.
 */
export function refuseStale(
  { device, number, partition }: Pick<MountSource, "device" | "number" | "partition">,
  found = ifExists(() => fileStatus(device))?.rdev,
): void {
  // Who opens it says what is missing.
  if (number === undefined || found === undefined) return;
  const dev = partition === undefined ? sysfsDev(number) : sysfsPartitionDev(number, partition);
  if (found === dev) return;
  const hint = `the node is device ${found}, and that of loop${number} is ` +
    `${dev ?? "gone"}: rescan() makes node and partition anew`;
  throw new LoopError({ code: "ESTALE", path: device, hint });
}
