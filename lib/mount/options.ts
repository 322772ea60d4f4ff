/**
 * What a caller may ask of mount(), checked before any system call.
 *
 * @module
 */
import { checkBoolean, checkPath, checkSignal, show } from "../base/checks.ts";
import { checkAgainst, type Rows } from "../base/options.ts";
import { readFstabOptions } from "./fstab_options.ts";
import { checkOwner } from "./owner.ts";
import {
  MOUNT_ATTR_NOATIME,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NODIRATIME,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
  MOUNT_ATTR_NOSYMFOLLOW,
  MOUNT_ATTR_RDONLY,
  MOUNT_ATTR_STRICTATIME,
  type Setting,
} from "../kernel/mount.ts";

/**
 * Options of {@linkcode LoopDevice.mount}.
 *
 * @example
 * ```ts
 * import type { MountOptions } from "@loopdev/loopdev";
 * const asUser: MountOptions = { type: "vfat", options: ["uid=1000", "noatime"], noexec: true };
 * console.log(asUser.type); // vfat
 * ```
 */
export interface MountOptions {
  /** As the kernel calls it: `"ext4"`, `"vfat"`. Default: what the superblock says. */
  type?: string;
  /**
   * `true`: no file can be changed. The kernel replays a journal that needs it all the same, unless the
   * device itself is read-only. Default: the device's {@linkcode LoopDevice.readOnly}.
   */
  readOnly?: boolean;
  /**
   * The options of a line in fstab, or of mount(8)'s `-o`, each as its own string:
   * `["noatime", "data=journal", "uid=1000", "nofail"]`. They mean what they mean to mount(8): of two that
   * contradict each other the last one counts, and those that are for mount(8) itself (`noauto`, `user`,
   * `x-…`) do nothing but what they imply. `ro`, `nosuid`, `exec` and the like stand for the options of
   * the same name here; beside one that says the opposite they are a TypeError. ext2, ext3 and ext4 get
   * `errors=remount-ro` unless an option says otherwise: their superblock may ask the kernel to panic.
   */
  options?: readonly string[];
  /** Set-user-ID bits and file capabilities have no effect. Default `true`. */
  nosuid?: boolean;
  /** Device nodes cannot be opened. Default `true`. */
  nodev?: boolean;
  /** Nothing can be executed. Default `false`. */
  noexec?: boolean;
  /**
   * A directory of yours to mount it on, as mount(8) does. By default mount() makes one and removes it
   * afterwards. A relative path counts from the working directory at the time of the call.
   */
  at?: string | URL;
  /**
   * `true`: no list of mounts shows it, in any namespace, and no keeper is needed, since the kernel ends
   * it with this process. Its files are below /proc/PID/fd. Programs that ask for a file's real path get
   * an error, and Deno wants `--allow-all`. Linux 6.15. Default `false`.
   */
  detached?: boolean;
  /**
   * The user to whom the mount belongs, by number (an idmapped mount): what is root's (0) on the disk is his
   * in the mount, and what he makes there is root's on the disk, group 0 likewise. All other owners are as
   * they are on the disk, but for his own number, which is 2147483646 in the mount. So a user who has begun
   * as root by one sudo edits the image as himself. A uid alone has the group that /etc/passwd gives the
   * user, or else the same number as gid.
   *
   * Nothing in the mount belongs to this machine's root, who can change files there, and make none
   * (EOVERFLOW): make them as that user. The directory lies below /run/loopdev-owned, where only he and
   * root may enter; who may enter `at` is for its directories to say. Excludes `detached`. Needs unshare
   * (util-linux), Linux 5.12, and for some file systems a later one (btrfs 5.15, f2fs 5.18, erofs 5.19,
   * squashfs 6.2); an ext2 or ext3 is mounted as `"ext4"`.
   */
  owner?: number | { readonly uid: number; readonly gid: number };
  /**
   * Stops mount(), which then undoes what it did and rejects with the signal's reason. It waits until the
   * kernel has replayed a journal: nothing stops that.
   */
  signal?: AbortSignal;
}

/** What mount() takes. */
const MOUNT = {
  type: { check: checkType },
  readOnly: { check: checkBoolean },
  options: { check: (_, options) => void readFstabOptions(options), default: [] },
  nosuid: { check: checkBoolean },
  nodev: { check: checkBoolean },
  noexec: { check: checkBoolean },
  at: { check: checkPath },
  detached: { check: checkBoolean, default: false },
  owner: { check: checkOwner },
  signal: { check: checkSignal },
} satisfies Rows<MountOptions>;

/**
 * The bits that mount() sets. The option of that name decides, or else a word of fstab, or else the
 * default here.
 */
const ATTRIBUTES: readonly [bit: number, byDefault: boolean, option?: Flag][] = [
  [MOUNT_ATTR_NOSUID, true, "nosuid"],
  [MOUNT_ATTR_NODEV, true, "nodev"],
  [MOUNT_ATTR_NOEXEC, false, "noexec"],
  [MOUNT_ATTR_NOATIME, false],
  [MOUNT_ATTR_STRICTATIME, false],
  [MOUNT_ATTR_NODIRATIME, false],
  [MOUNT_ATTR_NOSYMFOLLOW, false],
];
type Flag = "readOnly" | "nosuid" | "nodev" | "noexec";

/** Options in the kernel's terms. */
export interface CheckedMount extends Pick<MountOptions, "type" | "readOnly" | "owner" | "signal"> {
  /** Of the file system. */
  readonly settings: readonly Setting[];
  /** Of the mount: MOUNT_ATTR_* bits, without MOUNT_ATTR_RDONLY. */
  readonly attributes: number;
  readonly at: string | undefined;
  /** Of the directories that are made for `at`; undefined: it must be there. */
  readonly directoryMode: number | undefined;
  readonly detached: boolean;
}

/** Throws a TypeError or RangeError that names the option and what it takes. */
export function checkMountOptions(options: MountOptions): CheckedMount {
  const checked = checkAgainst(options, MOUNT);
  const { type, at, detached, owner, signal } = checked;
  if (detached && at !== undefined) {
    throw new TypeError(
      "at and detached exclude each other: a detached mount lies on no directory",
    );
  }
  if (detached && owner !== undefined) {
    throw new TypeError(
      "owner and detached exclude each other: only root could reach a detached mount of root's process",
    );
  }
  const { settings, directoryMode, words } = readFstabOptions(checked.options);
  /** What an option of ours says of a bit, or else a word of the list. */
  const choose = (bit: number, name?: Flag) => {
    const value = name && checked[name];
    const { set, word } = words.get(bit) ?? {};
    if (value !== undefined && word !== undefined && set !== value) {
      throw new TypeError(`option "${word}" says the opposite of ${name}: ${value}`);
    }
    return value ?? set;
  };
  const bits = ATTRIBUTES.filter(([bit, byDefault, name]) => choose(bit, name) ?? byDefault);
  const attributes = bits.reduce((all, [bit]) => all | bit, 0);
  if (attributes & MOUNT_ATTR_NOATIME && attributes & MOUNT_ATTR_STRICTATIME) {
    throw new TypeError('options "noatime" and "strictatime" exclude one another');
  }
  return {
    type,
    // Every line of fstab may say "rw": unlike readOnly: false it demands nothing of the device.
    readOnly: choose(MOUNT_ATTR_RDONLY, "readOnly") || checked.readOnly,
    settings,
    attributes,
    at: at === undefined ? undefined : checkPath("at", at),
    directoryMode,
    detached,
    owner,
    signal,
  };
}

const ERRORS: Setting = { name: "errors", value: "remount-ro" };

/** What the file system is told: a stranger's superblock may ask the kernel to panic at an error. */
export function settingsOf({ settings }: CheckedMount, type: string): readonly Setting[] {
  if (!/^ext[234]$/.test(type) || settings.some(({ name }) => name === "errors")) return settings;
  return [ERRORS, ...settings];
}

/** The kernel takes a name of 255 bytes. */
function checkType(name: string, type: unknown): void {
  if (typeof type === "string" && /^[\w.-]{1,255}$/.test(type)) return;
  throw new TypeError(`${name} must be a file system's name like "ext4", not ${show(type)}`);
}
