/**
 * Who holds a device, and how a message says it.
 *
 * @module
 */

/**
 * Somebody who holds a loop device, one of its partitions, or a device over one of them.
 *
 * @example
 * ```ts
 * import { type Holder } from "@loopdev/loopdev";
 * const show = ({ path, kind, by }: Holder) => `${path}: ${kind} ${by}`; // /dev/loop4p1: mount /mnt
 * ```
 */
export interface Holder {
  /** What is held: "/dev/loop4p1", or a device over it: "/dev/dm-0". */
  readonly path: string;
  /**
   * | kind         | what has it                                                                   |
   * | ------------ | ----------------------------------------------------------------------------- |
   * | `"mount"`    | a mounted file system                                                         |
   * | `"process"`  | a process that has it open, or a file of a mount that no list shows           |
   * | `"device"`   | another block device on top of it (LVM, dm-crypt, md)                         |
   * | `"loop"`     | another loop device, attached to it or to a file on its file system           |
   * | `"swap"`     | the kernel swaps to it, or to a file on its file system                       |
   * | `"btrfs"`    | a btrfs has it beside the device that was mounted, or is mounted out of sight |
   * | `"journal"`  | a file system on another device has its journal (ext4) or log (xfs) on it     |
   * | `"realtime"` | an xfs on another device has its realtime section on it                       |
   */
  readonly kind:
    | "mount"
    | "process"
    | "device"
    | "loop"
    | "swap"
    | "btrfs"
    | "journal"
    | "realtime";
  /**
   * The mount point, the device's node, the swap file, or the process: "/mnt", "/dev/dm-0",
   * "1234 (qemu)". For a mount that this process made without a directory "/proc/1234/fd/17", for one in
   * another mount namespace the path through a process there, "/proc/1234/root/mnt", for a btrfs out of
   * sight its UUID.
   */
  readonly by: string;
}

const WORDS: Record<Holder["kind"], string> = {
  mount: "mount",
  process: "process",
  device: "device",
  loop: "loop device",
  swap: "swap",
  btrfs: "part of the btrfs",
  journal: "journal of",
  realtime: "realtime section of",
};

/** For a message: "/dev/loop4p1: mount /mnt". Empty if there are none. */
export function describeHolders(holders: readonly Holder[]): string {
  return holders.map(({ path, kind, by }) => `${path}: ${WORDS[kind]} ${by}`).join(", ");
}
