/** Files with three kinds of owners, as an image has them that a user mounts. */
import { chmodSync, chownSync, writeFileSync } from "node:fs";

/** File systems that take an owner, in the order of the kernels that brought it. */
export const OWNED_TYPES = ["ext4", "xfs", "vfat", "btrfs", "f2fs", "erofs", "squashfs"] as const;
export type OwnedType = (typeof OWNED_TYPES)[number];

/** The user who mounts: on every system, and of nobody's processes. */
export const USER = 65534;
/** What his own number on the disk is in the mount. */
export const SPARE = 2147483646;

/** Name, and owner on the disk. */
export const OWNED_FILES: readonly (readonly [name: string, uid: number, gid: number])[] = [
  ["root", 0, 0],
  ["other", 33, 44],
  ["own", USER, USER],
];

/** Makes them in a folder; where a file system has no owners, all are root's. */
export function prepareOwned(folder: string): void {
  for (const [name, uid, gid] of OWNED_FILES) {
    const path = `${folder}/${name}`;
    writeFileSync(path, "before\n");
    try {
      chownSync(path, uid, gid);
      chmodSync(path, 0o600);
    } catch (error) {
      // vfat
      if ((error as { code?: string }).code !== "EPERM") throw error;
    }
  }
}
