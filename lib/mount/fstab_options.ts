/**
 * The options of a line in fstab, read as mount(8) reads them. Of two that contradict each other the last
 * one counts. Those for mount(8) itself do not reach the kernel, those of the mount are bits, and all
 * others go to the file system.
 *
 * @module
 */
import { checkText, show } from "../base/checks.ts";
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

/** fsconfig() takes names and values of 255 bytes. */
const LONGEST = 255;

/** The word that sets a MOUNT_ATTR_* bit, and the one that clears it. */
const PAIRS: readonly [bit: number, sets: string, clears: string][] = [
  [MOUNT_ATTR_RDONLY, "ro", "rw"],
  [MOUNT_ATTR_NOSUID, "nosuid", "suid"],
  [MOUNT_ATTR_NODEV, "nodev", "dev"],
  [MOUNT_ATTR_NOEXEC, "noexec", "exec"],
  [MOUNT_ATTR_NOATIME, "noatime", "atime"],
  [MOUNT_ATTR_STRICTATIME, "strictatime", "nostrictatime"],
  [MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"],
  [MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"],
  // No bit: the kernel does as relatime says where none of the others is set.
  [0, "relatime", "norelatime"],
];
const WORDS = new Map(PAIRS.flatMap(([bit, sets, clears]) => [
  [sets, { bit, set: true }],
  [clears, { bit, set: false }],
]));

const OWNER = [MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV];
const USER = [...OWNER, MOUNT_ATTR_NOEXEC];
/** Words that let an ordinary user mount. mount() does not do that; it sets the bits that they imply. */
const IMPLIED = new Map([["user", USER], ["users", USER], ["owner", OWNER], ["group", OWNER]]);

/** Words without effect on the mount: they say when, and by whom, mount(8) mounts it. */
const WITHOUT_EFFECT = new Set([
  ...["defaults", "auto", "noauto", "nofail", "_netdev", "comment", "seclabel"],
  ...["user", "nouser", "nousers", "noowner", "nogroup", "helper", "uhelper"],
  // The driver's messages explain a refusal, and drivers always count inode versions.
  ...["silent", "loud", "iversion", "noiversion"],
]);

/** Words for what something else here does. */
const INSTEAD = new Map([
  ["source", "the partition's number"],
  ["loop", "attach()"],
  ["offset", "attach()"],
  ["sizelimit", "attach()"],
  ["remount", "unmount() and mount() again"],
  ["bind", "mount(8)"],
  ["rbind", "mount(8)"],
  ["move", "mount(8)"],
  ["X-mount.idmap", "owner"],
  ["X-mount.subdir", "a folder below the mount's path"],
]);
/** Words that mount(8) acts on and the kernel does not know. */
const NOT_HERE = /^(X-mount\.(owner|group|mode)|r?(shared|slave|private|unbindable))$/;

/** What a list of options comes to. */
export interface FstabOptions {
  /** Of the file system. */
  readonly settings: readonly Setting[];
  /** Of the directories that `X-mount.mkdir` makes; undefined: none is made. */
  readonly directoryMode: number | undefined;
  /** By MOUNT_ATTR_* bit: whether to set it, and the word that says so; undefined if one implies it. */
  readonly words: ReadonlyMap<number, { readonly set: boolean; readonly word?: string }>;
}

/** Throws a TypeError or RangeError that names the option. */
export function readFstabOptions(options: unknown): FstabOptions {
  if (!Array.isArray(options)) {
    throw new TypeError(`options must be an array like ["noatime"], not ${show(options)}`);
  }
  const settings: Setting[] = [];
  const words = new Map<number, { set: boolean; word?: string }>();
  let directoryMode: number | undefined;
  for (const option of options) {
    const setting = readOption(option);
    const { name, value } = setting;
    const word = value === undefined ? WORDS.get(name) : undefined;
    const implied = value === undefined ? IMPLIED.get(name) : undefined;
    if (/^[xX]-mount\.mkdir$/.test(name)) directoryMode = readMode(option, value);
    else if (word) words.set(word.bit, { set: word.set, word: name });
    else if (implied) { for (const bit of implied) words.set(bit, { set: true }); }
    else if (!WITHOUT_EFFECT.has(name) && !/^[xX]-/.test(name)) settings.push(setting);
  }
  return { settings, directoryMode, words };
}

/** mount(8) makes directories with mode 0755 by default. */
function readMode(option: unknown, value = "0755"): number {
  if (/^[0-7]{1,4}$/.test(value)) return parseInt(value, 8);
  throw new TypeError(`option ${show(option)}: its mode must be octal, like 0755`);
}

function readOption(option: unknown): Setting {
  if (typeof option !== "string" || !/^[^=]/.test(option)) {
    throw new TypeError(`an option is a string like "noatime" or "uid=0", not ${show(option)}`);
  }
  checkText("option", option);
  const [, name, value] = /^([^=]+)(?:=([^]*))?$/.exec(option)!;
  const instead = INSTEAD.get(name);
  if (instead !== undefined) throw new TypeError(`option ${show(option)}: use ${instead} instead`);
  if (NOT_HERE.test(name)) {
    throw new TypeError(`option ${show(option)} is mount(8)'s, and mount() does not do it`);
  }
  if (name.includes(",")) {
    throw new TypeError(`option ${show(option)} has a comma: give each one as its own string`);
  }
  if (new TextEncoder().encode(option).length > LONGEST) {
    throw new RangeError(`option ${show(name)} has more than ${LONGEST} bytes`);
  }
  return { name, value };
}
