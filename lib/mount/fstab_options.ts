/**
 * Options as they stand in a line of fstab, read as mount(8) reads them: the last word counts; what is
 * mount(8)'s own never reaches the kernel; what is of the mount is a bit; the rest is the file system's.
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

/** One of the kernel's limits: fsconfig() takes strings of 255 bytes and names of as many. */
const LONGEST = 255;

const OWNER_SECURE = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
const SECURE = OWNER_SECURE | MOUNT_ATTR_NOEXEC;

/** Words for MOUNT_ATTR_* bits: which they set, and which they clear. */
const ATTRIBUTES = new Map<string, { readonly set?: number; readonly clear?: number }>([
  ["ro", { set: MOUNT_ATTR_RDONLY }],
  ["rw", { clear: MOUNT_ATTR_RDONLY }],
  ["nosuid", { set: MOUNT_ATTR_NOSUID }],
  ["suid", { clear: MOUNT_ATTR_NOSUID }],
  ["nodev", { set: MOUNT_ATTR_NODEV }],
  ["dev", { clear: MOUNT_ATTR_NODEV }],
  ["noexec", { set: MOUNT_ATTR_NOEXEC }],
  ["exec", { clear: MOUNT_ATTR_NOEXEC }],
  ["noatime", { set: MOUNT_ATTR_NOATIME }],
  ["atime", { clear: MOUNT_ATTR_NOATIME }],
  ["strictatime", { set: MOUNT_ATTR_STRICTATIME }],
  ["nostrictatime", { clear: MOUNT_ATTR_STRICTATIME }],
  ["nodiratime", { set: MOUNT_ATTR_NODIRATIME }],
  ["diratime", { clear: MOUNT_ATTR_NODIRATIME }],
  ["nosymfollow", { set: MOUNT_ATTR_NOSYMFOLLOW }],
  ["symfollow", { clear: MOUNT_ATTR_NOSYMFOLLOW }],
  // The kernel's own choice of when a time of access is written.
  ["relatime", {}],
  ["norelatime", {}],
]);

/** Words that let an ordinary user mount: that is not asked for here, and what they imply is. */
const IMPLIED = new Map([
  ["user", SECURE],
  ["users", SECURE],
  ["owner", OWNER_SECURE],
  ["group", OWNER_SECURE],
]);

/** Words that say nothing of a mount that is being made: when and by whom, or what the kernel says anyway. */
const WITHOUT_EFFECT = new Set([
  ...["defaults", "auto", "noauto", "nofail", "_netdev", "comment", "seclabel"],
  ...["user", "nouser", "nousers", "noowner", "nogroup", "helper", "uhelper"],
  // The kernel's messages are wanted; drivers count versions always, and fsconfig() knows no such word.
  ...["silent", "loud", "iversion", "noiversion"],
]);

/** What stands for something else here. */
const INSTEAD = new Map([
  ["source", "the partition's number"],
  ["loop", "attach()"],
  ["offset", "attach()"],
  ["sizelimit", "attach()"],
  ["remount", "unmount() and mount() again"],
  ["bind", "mount(8)"],
  ["rbind", "mount(8)"],
  ["move", "mount(8)"],
  ["X-mount.subdir", "a folder below the mount's path"],
]);
/** They would be heard, and nothing would be done: what they change is not changed here. */
const NOT_HERE = /^(X-mount\.(owner|group|mode|idmap)|r?(shared|slave|private|unbindable))$/;

/** What a list of options comes to. */
export interface FstabOptions {
  /** Of the file system. */
  readonly settings: readonly Setting[];
  /** Of the directory that is made where there is none, from `X-mount.mkdir`; undefined: none is. */
  readonly directoryMode: number | undefined;
  /** Of MOUNT_ATTR_* bits those that a word is about: whether it is to be set. */
  said(bit: number): boolean | undefined;
  /** The word that is about it; undefined if another one implies it. */
  wordFor(bit: number): string | undefined;
}

/** Throws a TypeError or RangeError that names the option. */
export function readFstabOptions(options: unknown): FstabOptions {
  if (!Array.isArray(options)) {
    throw new TypeError(`options must be an array like ["noatime"], not ${show(options)}`);
  }
  const settings: Setting[] = [];
  const said = new Map<number, { set: boolean; word?: string }>();
  let directoryMode: number | undefined;
  for (const option of options) {
    const setting = readOption(option);
    const { name, value } = setting;
    const implied = value === undefined ? IMPLIED.get(name) : undefined;
    const attribute = value === undefined ? ATTRIBUTES.get(name) : undefined;
    if (/^[xX]-mount\.mkdir$/.test(name)) directoryMode = readMode(option, value);
    else if (implied !== undefined) {
      for (const bit of bitsOf(implied)) said.set(bit, { set: true });
    } else if (attribute) {
      for (const bit of bitsOf(attribute.set)) said.set(bit, { set: true, word: name });
      for (const bit of bitsOf(attribute.clear)) said.set(bit, { set: false, word: name });
    } else if (!WITHOUT_EFFECT.has(name) && !/^[xX]-/.test(name)) settings.push(setting);
  }
  return {
    settings,
    directoryMode,
    said: (bit) => said.get(bit)?.set,
    wordFor: (bit) => said.get(bit)?.word,
  };
}

/** mkdir(2)'s default there is 0755. */
function readMode(option: unknown, value = "0755"): number {
  if (/^[0-7]{1,4}$/.test(value)) return parseInt(value, 8);
  throw new TypeError(`option ${show(option)}: its mode must be octal, like 0755`);
}

function bitsOf(mask = 0): number[] {
  return Array.from({ length: 31 }, (_, i) => 1 << i).filter((bit) => mask & bit);
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
