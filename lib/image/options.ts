/**
 * What a caller may ask of mountImage(), checked before any system call.
 *
 * @module
 */
import { ATTACH, type AttachOptions } from "../binding/options.ts";
import { checkBoolean, checkPath } from "../base/checks.ts";
import { checkAgainst, type Checked, oneOf, type Rows } from "../base/options.ts";
import { checkPartition, type PartitionSelector } from "../base/selector.ts";
import type { MountOptions } from "../mount/options.ts";
import { checkOwner } from "../mount/owner.ts";

/**
 * Options of {@linkcode mountImage}: those of attach() that concern a whole image, and those below.
 *
 * @example
 * ```ts
 * import type { MountImageOptions } from "@loopdev/loopdev";
 * const second: MountImageOptions = { root: { name: "system-b" }, readOnly: true };
 * console.log(second.readOnly); // true
 * ```
 */
export interface MountImageOptions extends Omit<AttachOptions, "partscan" | "overlap"> {
  /**
   * `true`: no byte of the image changes; a journal that needs it is not replayed, and what only that has
   * is not seen. `false`: fail if the file cannot be written, and pass over `ro` in the image's fstab. Left
   * out: writable where the file, fstab, the table and the file system let it; no byte changes of a partition
   * that the table marks as read-only, or beside which it has data for dm-verity.
   */
  readOnly?: boolean;
  /**
   * What if the file is attached already, at a range that overlaps this one? By default mountImage() rejects
   * with EEXIST, and with EBUSY if it is a block device that is mounted, unless `readOnly` is true: two mounts
   * of one file system, each with a cache of its own, destroy it when one of them writes. `"allow"` says that you know that none does.
   */
  overlap?: "allow" | "refuse";
  /** Which partition is the root, where nothing in the image tells, or something else is wanted. */
  root?: PartitionSelector;
  /**
   * `true`: the file systems' own tools check each before it is mounted, and repair what needs no
   * question, as at boot: e2fsck, fsck.vfat and the like. What is left of damage is EUCLEAN, and EOPNOTSUPP
   * where the tool could not check it. Default `false`.
   */
  check?: boolean;
  /** A directory of yours to mount the root on. By default one is made, and removed afterwards. */
  at?: string | URL;
  /**
   * The user to whom the tree belongs, by number: as {@linkcode MountOptions.owner}, for each of its mounts.
   * A file system that cannot be given to a user is not mounted, and listed as skipped.
   */
  owner?: MountOptions["owner"];
  /** Set-user-ID bits and file capabilities have no effect. Default `true`. */
  nosuid?: boolean;
  /** Device nodes cannot be opened. Default `true`. */
  nodev?: boolean;
  /** Nothing can be executed. Default `false`. */
  noexec?: boolean;
}

const { partscan: _always, overlap: _own, ...OF_ATTACH } = ATTACH;

/** The options of mountImage(), one a row. */
const MOUNT_IMAGE = {
  ...OF_ATTACH,
  sectorSize: { ...OF_ATTACH.sectorSize, default: "auto" },
  overlap: { check: oneOf("allow", "refuse") },
  root: { check: (_, root) => checkPartition(root) },
  check: { check: checkBoolean, default: false },
  at: { check: checkPath },
  owner: { check: checkOwner },
  nosuid: { check: checkBoolean },
  nodev: { check: checkBoolean },
  noexec: { check: checkBoolean },
} satisfies Rows<MountImageOptions>;

/** Options of mountImage() with their defaults. */
export type CheckedImage = Checked<MountImageOptions, typeof MOUNT_IMAGE>;

/** Throws a TypeError or RangeError that names the option and what it takes. */
export function checkMountImageOptions(options: MountImageOptions): CheckedImage {
  const checked = checkAgainst<MountImageOptions, typeof MOUNT_IMAGE>(options, MOUNT_IMAGE);
  if (checked.check && checked.readOnly) {
    throw new TypeError("check: true repairs what it finds, which readOnly: true forbids");
  }
  return checked;
}
