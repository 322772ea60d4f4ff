/**
 * Why a mount was refused, in the driver's own words, and what a person can do.
 *
 * @module
 */
import { isRefusal, type LoopError } from "../base/errors.ts";
import { devicesAt } from "../holders/exclusive.ts";
import { describeHolders, findHolders, findHoldersOf } from "../holders/holders.ts";
import { describeWriters } from "../holders/processes.ts";
import { blkRoGet } from "../kernel/block.ts";
import { whyNotPermitted } from "../kernel/capabilities.ts";
import { ifExists, O_RDONLY, open, type OpenFile } from "../kernel/file.ts";
import { readKernelLog } from "../kernel/kmsg.ts";
import { type FailedMount, MOUNT_ATTR_NOSYMFOLLOW, readLog } from "../kernel/mount.ts";
import { isNodev } from "../kernel/mountinfo.ts";
import { isBefore, kernelRelease } from "../kernel/release.ts";
import { fileStatus } from "../kernel/stat.ts";
import { forbidsWrites, NO_WRITES, PERHAPS_NO_WRITES } from "../kernel/write_mounted.ts";
import { checkCommand, isDamaged, remedyOf, withoutReplay } from "./causes.ts";
import { sizeOf } from "./file_system.ts";
import type { MountSource } from "./mounted.ts";
import type { CheckedMount } from "./options.ts";
import { explainNoOwner, type Owner } from "./owner.ts";
import { NO_BYTES, whatIsThere } from "./unknown.ts";

/** A driver can log a line for each damaged block: a message has the first of them. */
const MOST_LINES = 4;

/** Modules that are not named as the file system is. */
const MODULES = new Map([["iso9660", "isofs"], ["ext3", "ext4"]]);
/** How lines begin of drivers that do not name the device in the kernel's log. */
const NAMELESS = new Map([
  ["squashfs", "^SQUASHFS error"],
  ["iso9660", "^(isofs|ISOFS|rock)"],
  ["udf", "^UDF-fs"],
  ["vfat", "^FAT-fs"],
]);
/** What drivers log whether they refuse or not. */
const NO_CAUSE = /deprecated|EXPERIMENTAL/i;

/** A mount that is being tried. */
export interface Attempt {
  readonly source: MountSource;
  readonly type: string;
  readonly options: CheckedMount;
  /** Whose it is to be, and the map of ids for that. */
  readonly owner: Owner | undefined;
  readonly idMap: OpenFile | undefined;
  /** The kernel's log, opened before the first call. */
  readonly log: OpenFile | undefined;
}

/**
 * The same error with all that is known of its cause: what the driver said, and what helps. Where the
 * driver said nothing, what can be looked up, and else a guess that says that it is one.
 */
export async function explainRefusal(
  error: unknown,
  attempt: Attempt,
  failed: FailedMount,
): Promise<unknown> {
  if (!isRefusal(error)) return error;
  const { type, owner } = attempt;
  if (error.syscall === "mount_setattr" && owner) return explainNoOwner(error, type, owner);
  const said = driversWords(attempt, failed);
  const advice = await adviceOn(error, attempt, failed, said).catch(() => undefined);
  const hint = [...said, advice].filter((part) => part !== undefined).join("; ");
  return hint === "" ? error : error.withHint(hint);
}

/** What the driver said to the context, or to the kernel's log. */
function driversWords(
  { source: { device }, type, log }: Attempt,
  { context }: FailedMount,
): string[] {
  const toContext = context ? readLog(context) : [];
  const name = device.slice(device.lastIndexOf("/") + 1);
  const matches = new RegExp(`\\b${name}\\b|${NAMELESS.get(type) ?? "^$."}`);
  const toLog = log ? readKernelLog(log, matches) : [];
  const said = [...new Set([...toContext, ...toLog])].filter((line) => !NO_CAUSE.test(line));
  return said.slice(0, MOST_LINES);
}

async function adviceOn(
  error: LoopError,
  attempt: Attempt,
  { setting }: FailedMount,
  said: readonly string[],
): Promise<string | undefined> {
  const { type, source, options } = attempt;
  const { code, syscall, request } = error;
  if (code === "EPERM") return whyNotPermitted("mounting", "CAP_SYS_ADMIN");
  if (syscall === "fsopen" && code === "ENOSYS") return withoutCalls();
  if (syscall === "fsopen" && code === "ENODEV") {
    const module = MODULES.get(type) ?? type;
    return `this kernel has no driver for ${type}: load the module ${module} (modprobe ` +
      `${module}); where that is not found, perhaps another package of the kernel has it`;
  }
  if (setting !== undefined && options.settings.includes(setting)) {
    const { name, value } = setting;
    const text = value === undefined ? name : `${name}=${value}`;
    return `${type} does not take the option ${JSON.stringify(text)} (those that it takes are ` +
      `perhaps in man 5 ${type}, or in the kernel's Documentation/filesystems)`;
  }
  if (request === "FSCONFIG_CMD_CREATE") return await adviceOnCreate(code, attempt, said);
  if (syscall === "fsmount" && code === "EINVAL" && options.attributes & MOUNT_ATTR_NOSYMFOLLOW) {
    return `perhaps Linux ${kernelRelease()} has no nosymfollow, which is of Linux 5.14`;
  }
  return code === "EBUSY" ? await whoUses(source) : undefined;
}

/** A kernel from 5.2 on has the calls: where they are missing, something hides them. */
function withoutCalls(): string {
  const release = kernelRelease();
  return `mounting needs Linux 5.2 or later, and this is ${release}` +
    (isBefore(release, "5.2")
      ? ""
      : ": a filter of system calls, as containers have, forbids what mounting needs");
}

async function adviceOnCreate(
  code: string,
  { source, type, options }: Attempt,
  said: readonly string[],
): Promise<string | undefined> {
  const { device } = source;
  const problem = nodeProblem(device);
  if (problem !== undefined) return problem;
  // Nor can this process open it then, to look what else may be wrong.
  if (code === "EACCES" && isNodev("/dev")) {
    return "/dev is mounted nodev: mount -o remount,dev /dev";
  }
  if (await sizeOf(device) === 0) return NO_BYTES;
  const mounting = { type, device };
  const remedy = remedyOf(said, mounting);
  if (remedy !== undefined) return remedy;
  const check = checkCommand(mounting);
  const isSilent = said.length === 0;
  switch (code) {
    case "EBUSY":
      return await whoUses(source);
    case "EROFS":
      return isSilent && source.readOnly ? `perhaps ${withoutReplay(mounting)}` : undefined;
    case "EACCES":
      return adviceIfReadOnly(device);
    case "ENOENT":
      return isSilent ? missingSubvolume(options) : undefined;
    case "EUCLEAN":
    case "EBADMSG":
      return isDamaged(mounting);
    case "EIO":
      if (!isSilent) return check && `${check} may say more`;
      return "perhaps the image is cut off, or the disk below it does not read";
    case "EINVAL":
      return await whatIsThere(type, source) ?? (isSilent ? guess(type, options) : undefined);
    default:
      return undefined;
  }
}

/** The kernel answers EACCES where a mount for writing meets a read-only device. */
function adviceIfReadOnly(path: string): string | undefined {
  using device = open(path, O_RDONLY);
  return blkRoGet(device) ? "the device is read-only: mount it with readOnly: true" : undefined;
}

/** What is wrong with the node by which the kernel was to find the device. */
function nodeProblem(path: string): string | undefined {
  const node = ifExists(() => fileStatus(path));
  if (node === undefined) return "that node is not there";
  return node.type === "block device" ? undefined : `it is a ${node.type}, and no block device`;
}

/** btrfs logs nothing of a subvolume that it does not have. */
function missingSubvolume({ settings }: CheckedMount): string | undefined {
  const asked = settings.find(({ name }) => name === "subvol" || name === "subvolid");
  return asked && `perhaps it has no subvolume of ${asked.name}=${asked.value}: mounted without ` +
      "that option, btrfs subvolume list -a PATH shows those that it has";
}

function guess(type: string, { settings }: CheckedMount): string {
  const names = settings.map(({ name }) => name).join(", ");
  return `the driver of ${type} does not say why: perhaps ` +
    (names === "" ? "" : `one of its options (${names}) does not fit, or `) +
    "what is on the device is damaged, cut off, or newer than this kernel";
}

async function whoUses({ number, device }: MountSource): Promise<string> {
  const all = number === undefined
    ? await findHoldersOf(devicesAt(device))
    : await findHolders(number);
  const others = all.filter(({ kind }) => kind !== "process");
  if (others.length === 0) {
    return await whoWrites(device) ??
      "perhaps something in another mount namespace, which this process cannot see, has it " +
        "exclusively";
  }
  const isMounted = others.some(({ kind, path }) => kind === "mount" && path === device);
  return `it is in use already: ${describeHolders(others)}` +
    (isMounted ? "; a second mount of it must have the same readOnly" : "");
}

/** A process that writes: mkfs has the device exclusively, and on some kernels any writer is in the way. */
async function whoWrites(device: string): Promise<string | undefined> {
  const writers = await describeWriters(device);
  if (writers === undefined) return undefined;
  const isForbidden = forbidsWrites();
  return `${writers} has it open for writing` +
    (isForbidden
      ? `, and ${NO_WRITES}: then nothing is mounted that somebody can write to`
      : isForbidden === undefined
      ? `: perhaps exclusively, or ${PERHAPS_NO_WRITES}`
      : ", exclusively") +
    "; it can be mounted when that is closed";
}
