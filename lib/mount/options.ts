/**
 * What a caller may ask of mount(), checked before any system call.
 *
 * @module
 */
import {
  checkBoolean,
  checkNames,
  checkOneOf,
  checkPath,
  checkWait,
  show,
} from "../base/checks.ts";
import { type FstabOptions, readFstabOptions } from "./fstab_options.ts";
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
   * `true`: no file can be changed; a journal that needs it is replayed all the same, which only a
   * device that is read-only itself prevents. Default: the device's {@linkcode LoopDevice.readOnly}.
   */
  readOnly?: boolean;
  /**
   * As in a line of fstab, or behind mount(8)'s `-o`, one a string:
   * `["noatime", "data=journal", "uid=1000", "nofail"]`. They are read as mount(8) reads them: the last
   * word counts, and what is mount(8)'s own (`noauto`, `user`, `x-…`) has no effect but what it implies.
   * `ro`, `nosuid`, `exec` and their like stand for the options of that name here, and are a TypeError
   * beside one that says the opposite. ext2, ext3 and ext4 get `errors=remount-ro` unless an option
   * says otherwise: their superblock may ask the kernel to panic.
   */
  options?: readonly string[];
  /** Set-user-ID bits and file capabilities have no effect. Default `true`. */
  nosuid?: boolean;
  /** Device nodes cannot be opened. Default `true`. */
  nodev?: boolean;
  /** Nothing can be executed. Default `false`. */
  noexec?: boolean;
  /**
   * A directory to mount it on, as mount(8) does, instead of one that is made for it and removed after
   * it. A relative one is taken from the working directory of the time of the call.
   */
  at?: string | URL;
  /**
   * `true`: no list of mounts shows it, in this namespace or another, and no keeper is needed, since the
   * kernel ends it with this process. Its files are below /proc/PID/fd; programs that ask for a file's
   * real path get an error, and Deno wants `--allow-all`. Linux 6.15. Default `false`.
   */
  detached?: boolean;
  /**
   * Stops mount(), which then undoes what it did and rejects with the signal's reason. Nothing stops
   * the kernel while it replays a journal: that is waited for.
   */
  signal?: AbortSignal;
}

/** Options in the kernel's terms. */
export interface CheckedMount {
  readonly type: string | undefined;
  readonly readOnly: boolean | undefined;
  /** Of the file system. */
  readonly settings: readonly Setting[];
  /** Of the mount: MOUNT_ATTR_* bits, without MOUNT_ATTR_RDONLY. */
  readonly attributes: number;
  readonly at: string | undefined;
  /** undefined: `at` must be there. */
  readonly directoryMode: number | undefined;
  readonly detached: boolean;
  readonly signal: AbortSignal | undefined;
}

const NAMES = [
  ...["type", "readOnly", "options", "nosuid", "nodev", "noexec", "at", "detached", "signal"],
];

/** Of the mount, and no option of their own here. */
const OTHER_BITS = [
  MOUNT_ATTR_NOATIME,
  MOUNT_ATTR_STRICTATIME,
  MOUNT_ATTR_NODIRATIME,
  MOUNT_ATTR_NOSYMFOLLOW,
];

/** One of the kernel's limits. */
const LONGEST_TYPE = 255;

/** Throws a TypeError or RangeError that names the option and what it takes. */
export function checkMountOptions(options: MountOptions): CheckedMount {
  checkNames(options, NAMES);
  const { type, readOnly, nosuid, nodev, noexec, at, detached = false, signal } = options;
  if (type !== undefined) checkType(type);
  checkOneOf("readOnly", readOnly, [undefined, true, false]);
  for (const [name, value] of Object.entries({ nosuid, nodev, noexec })) {
    if (value !== undefined) checkBoolean(name, value);
  }
  checkBoolean("detached", detached);
  if (detached && at !== undefined) {
    throw new TypeError(
      "at and detached exclude each other: a detached mount lies on no directory",
    );
  }
  checkWait({ signal });
  const fstab = readFstabOptions(options.options ?? []);
  const bits = [
    choose(fstab, MOUNT_ATTR_NOSUID, { nosuid }) ?? true ? MOUNT_ATTR_NOSUID : 0,
    choose(fstab, MOUNT_ATTR_NODEV, { nodev }) ?? true ? MOUNT_ATTR_NODEV : 0,
    choose(fstab, MOUNT_ATTR_NOEXEC, { noexec }) ?? false ? MOUNT_ATTR_NOEXEC : 0,
    ...OTHER_BITS.filter((bit) => fstab.said(bit)),
  ];
  if (bits.includes(MOUNT_ATTR_NOATIME) && bits.includes(MOUNT_ATTR_STRICTATIME)) {
    throw new TypeError('options "noatime" and "strictatime" exclude one another');
  }
  const isReadOnly = choose(fstab, MOUNT_ATTR_RDONLY, { readOnly });
  return {
    type,
    // "rw" is what every line of fstab says: no demand that a read-only device cannot meet.
    readOnly: isReadOnly === false ? readOnly : isReadOnly,
    settings: fstab.settings,
    attributes: bits.reduce((all, bit) => all | bit, 0),
    at: at === undefined ? undefined : checkPath("at", at),
    directoryMode: fstab.directoryMode,
    detached,
    signal,
  };
}

/** What an option of ours says of a bit, or else a word of the list; undefined: neither of them. */
function choose(
  fstab: FstabOptions,
  bit: number,
  own: Record<string, boolean | undefined>,
): boolean | undefined {
  const [[name, value]] = Object.entries(own);
  const said = fstab.said(bit);
  const word = fstab.wordFor(bit);
  if (value !== undefined && word !== undefined && said !== value) {
    throw new TypeError(`option "${word}" says the opposite of ${name}: ${value}`);
  }
  return value ?? said;
}

/** The attributes of a mount. */
export function attributesOf({ attributes }: CheckedMount, readOnly: boolean): number {
  return attributes | (readOnly ? MOUNT_ATTR_RDONLY : 0);
}

const ERRORS: Setting = { name: "errors", value: "remount-ro" };

/** What the file system is told: a stranger's superblock may say that errors shall be a panic. */
export function settingsOf({ settings }: CheckedMount, type: string): readonly Setting[] {
  if (!/^ext[234]$/.test(type) || settings.some(({ name }) => name === "errors")) return settings;
  return [ERRORS, ...settings];
}

function checkType(type: unknown): void {
  if (typeof type === "string" && /^[\w.-]+$/.test(type) && type.length <= LONGEST_TYPE) return;
  throw new TypeError(`type must be a file system's name like "ext4", not ${show(type)}`);
}
