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
  checkText,
  checkWait,
  show,
} from "../base/checks.ts";
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
   * As behind mount(8)'s `-o`, one a string: `["noatime", "data=journal", "uid=1000"]`. What has an
   * option of its own here (`ro`, `nosuid`) is refused.
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
  readonly detached: boolean;
  readonly signal: AbortSignal | undefined;
}

const NAMES = [
  ...["type", "readOnly", "options", "nosuid", "nodev", "noexec", "at", "detached", "signal"],
];

/** Those of mount(8)'s options that are of the mount, and that have no option of their own here. */
const ATTRIBUTES: Record<string, number> = {
  noatime: MOUNT_ATTR_NOATIME,
  strictatime: MOUNT_ATTR_STRICTATIME,
  nodiratime: MOUNT_ATTR_NODIRATIME,
  nosymfollow: MOUNT_ATTR_NOSYMFOLLOW,
  relatime: 0,
  defaults: 0,
};

/** What stands for something else here, or is mount(8)'s own. */
const INSTEAD: Record<string, string> = {
  ro: "readOnly: true",
  rw: "readOnly: false",
  nosuid: "nosuid: true",
  suid: "nosuid: false",
  nodev: "nodev: true",
  dev: "nodev: false",
  noexec: "noexec: true",
  exec: "noexec: false",
  source: "the partition's number",
  loop: "attach()",
  offset: "attach()",
  sizelimit: "attach()",
  remount: "unmount() and mount() again",
  bind: "mount(8)",
  move: "mount(8)",
};

/** One of the kernel's limits: fsconfig() takes strings of 255 bytes and names of as many. */
const LONGEST = 255;

/** Throws a TypeError or RangeError that names the option and what it takes. */
export function checkMountOptions(options: MountOptions): CheckedMount {
  checkNames(options, NAMES);
  const { type, readOnly, nosuid = true, nodev = true, noexec = false } = options;
  const { at, detached = false, signal } = options;
  if (type !== undefined) checkType(type);
  checkOneOf("readOnly", readOnly, [undefined, true, false]);
  checkBoolean("nosuid", nosuid);
  checkBoolean("nodev", nodev);
  checkBoolean("noexec", noexec);
  checkBoolean("detached", detached);
  if (detached && at !== undefined) {
    throw new TypeError(
      "at and detached exclude each other: a detached mount lies on no directory",
    );
  }
  checkWait({ signal });
  const given = optionsOf(options.options ?? []);
  const isAttribute = ({ name, value }: { name: string; value?: string }) =>
    value === undefined && Object.hasOwn(ATTRIBUTES, name);
  const attributes = given.filter(isAttribute).map(({ name }) => ATTRIBUTES[name]);
  const own = [
    nosuid ? MOUNT_ATTR_NOSUID : 0,
    nodev ? MOUNT_ATTR_NODEV : 0,
    noexec ? MOUNT_ATTR_NOEXEC : 0,
  ];
  return {
    type,
    readOnly,
    settings: given.filter((option) => !isAttribute(option)),
    attributes: [...attributes, ...own].reduce((all, bit) => all | bit, 0),
    at: at === undefined ? undefined : checkPath("at", at),
    detached,
    signal,
  };
}

/** The attributes of a mount. */
export function attributesOf({ attributes }: CheckedMount, readOnly: boolean): number {
  return attributes | (readOnly ? MOUNT_ATTR_RDONLY : 0);
}

function checkType(type: unknown): void {
  if (typeof type === "string" && /^[\w.-]+$/.test(type) && type.length <= LONGEST) return;
  throw new TypeError(`type must be a file system's name like "ext4", not ${show(type)}`);
}

function optionsOf(options: unknown): Setting[] {
  if (!Array.isArray(options)) {
    throw new TypeError(`options must be an array like ["noatime"], not ${show(options)}`);
  }
  return options.map((option: unknown) => {
    if (typeof option !== "string" || !/^[^=]/.test(option)) {
      throw new TypeError(`an option is a string like "noatime" or "uid=0", not ${show(option)}`);
    }
    checkText("option", option);
    const [, name, value] = /^([^=]+)(?:=([^]*))?$/.exec(option)!;
    if (Object.hasOwn(INSTEAD, name)) {
      throw new TypeError(`option ${show(option)}: use ${INSTEAD[name]} instead`);
    }
    if (name.includes(",")) {
      throw new TypeError(`option ${show(option)} has a comma: give each one as its own string`);
    }
    if (new TextEncoder().encode(option).length > LONGEST) {
      throw new RangeError(`option ${show(name)} has more than ${LONGEST} bytes`);
    }
    return { name, value };
  });
}
