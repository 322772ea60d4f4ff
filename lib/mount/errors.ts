/**
 * Why a mount was refused, in the file system's own words, and what a person can do.
 *
 * @module
 */
import { isRefusal, type LoopError } from "../base/errors.ts";
import { checkCommand, remedyOf, withoutReplay } from "./causes.ts";
import { sizeOf } from "./file_system.ts";
import { describeHolders, findHolders } from "../holders/holders.ts";
import { blkRoGet } from "../kernel/block.ts";
import { whyNotPermitted } from "../kernel/capabilities.ts";
import { ifExists, O_RDONLY, open, type OpenFile } from "../kernel/file.ts";
import { readKernelLog } from "../kernel/kmsg.ts";
import { MOUNT_ATTR_NOSYMFOLLOW, readLog, type Setting } from "../kernel/mount.ts";
import { isNodev } from "../kernel/mountinfo.ts";
import { kernelRelease, parseRelease } from "../kernel/release.ts";
import { fileStatus } from "../kernel/stat.ts";
import type { CheckedMount } from "./options.ts";
import { NO_BYTES, whatIsThere } from "./unknown.ts";

export { refuseUnknown } from "./unknown.ts";

/** So much is said at most: a driver can say a line for each damaged block. */
const MOST_LINES = 4;

/** Modules that are not named as the file system is. */
const MODULES = new Map([["iso9660", "isofs"], ["ext3", "ext4"]]);
/** Drivers that do not say of which device they speak. */
const NAMELESS = new Map([
  ["squashfs", "^SQUASHFS error"],
  ["iso9660", "^(isofs|ISOFS|rock)"],
  ["udf", "^UDF-fs"],
  ["vfat", "^FAT-fs"],
]);
/** What drivers say whether they refuse or not. */
const NO_CAUSE = /deprecated|EXPERIMENTAL/i;

/** What was tried. */
interface Attempt {
  readonly device: string;
  readonly number: number;
  readonly readOnly: boolean;
  readonly type: string;
  readonly options: CheckedMount;
  /** The one that was being set. */
  readonly option: Setting | undefined;
  readonly context: OpenFile | undefined;
  /** The kernel's log from before the first call on. */
  readonly log: OpenFile | undefined;
}

/**
 * The same error with all that is known of its cause: the driver's own words, and what helps. Where the
 * driver was silent, what can be looked up, and a guess that says that it is one.
 */
export async function explainRefusal(error: unknown, attempt: Attempt): Promise<unknown> {
  if (!isRefusal(error)) return error;
  const said = wordsOf(attempt);
  const advice = await adviceOn(error, attempt, said).catch(() => undefined);
  const hint = [...said, advice].filter((part) => part !== undefined).join("; ");
  return hint === "" ? error : error.withHint(hint);
}

/** What the file system said to the context, or to the kernel's log. */
function wordsOf({ device, type, context, log }: Attempt): string[] {
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
  said: readonly string[],
): Promise<string | undefined> {
  const { type, option, options, number, device } = attempt;
  const { code, syscall, request } = error;
  if (code === "EPERM") return whyNotPermitted("mounting", "CAP_SYS_ADMIN");
  if (syscall === "fsopen" && code === "ENOSYS") return withoutCalls();
  if (syscall === "fsopen" && code === "ENODEV") {
    const module = MODULES.get(type) ?? type;
    return `this kernel has no driver for ${type}: load the module ${module} (modprobe ` +
      `${module}); where that is not found, perhaps it is in another package of the kernel's`;
  }
  if (option !== undefined) {
    const { name, value } = option;
    const text = value === undefined ? name : `${name}=${value}`;
    return `${type} does not take the option ${JSON.stringify(text)} (those that it takes are ` +
      `perhaps in man 5 ${type}, or in the kernel's Documentation/filesystems)`;
  }
  if (request === "FSCONFIG_CMD_CREATE") return await adviceOnCreate(code, attempt, said);
  if (syscall === "fsmount" && code === "EINVAL" && options.attributes & MOUNT_ATTR_NOSYMFOLLOW) {
    return `perhaps Linux ${kernelRelease()} has no nosymfollow, which is of Linux 5.14`;
  }
  return code === "EBUSY" ? await busy(number, device) : undefined;
}

/** Linux 5.2 brought them: a later kernel that does not have them has been forbidden them. */
function withoutCalls(): string {
  const release = kernelRelease();
  const { major, minor } = parseRelease(release) ?? { major: 0, minor: 0 };
  return `mounting needs Linux 5.2 or later, and this is ${release}` +
    (major > 5 || major === 5 && minor >= 2
      ? ": a filter of system calls, as containers have, hides that it can"
      : "");
}

async function adviceOnCreate(
  code: string,
  attempt: Attempt,
  said: readonly string[],
): Promise<string | undefined> {
  const { type, device, number, options } = attempt;
  if (await sizeOf(device) === 0) return NO_BYTES;
  const remedy = remedyOf(said, attempt);
  if (remedy !== undefined) return remedy;
  const check = checkCommand(attempt);
  switch (code) {
    case "EBUSY":
      return await busy(number, device);
    case "EROFS":
      return said.length === 0 && attempt.readOnly
        ? `perhaps ${withoutReplay(attempt)}`
        : undefined;
    case "EACCES":
      return isNodev("/dev")
        ? "/dev is mounted nodev: mount -o remount,dev /dev"
        : readOnly(device);
    case "ENOENT":
    case "ENOTBLK":
    case "ENXIO":
      return nodeProblem(device) ?? (said.length === 0 ? missingSubvolume(options) : undefined);
    case "EUCLEAN":
    case "EBADMSG":
      return "the file system is damaged" + (check ? `: look at it with ${check}` : "");
    case "EIO":
      if (said.length > 0) return check && `${check} may say more`;
      return "perhaps the image is cut off, or the disk below it does not read";
    case "EINVAL":
      return await whatIsThere(type, device) ??
        (said.length === 0 ? guess(type, options) : undefined);
    default:
      return undefined;
  }
}

/** What the kernel answers so where the block device takes no writes. */
function readOnly(path: string): string | undefined {
  using device = open(path, O_RDONLY);
  return blkRoGet(device) ? "the device is read-only: mount it with readOnly: true" : undefined;
}

/** What is wrong with the node by which the kernel was to find the device. */
function nodeProblem(path: string): string | undefined {
  const node = ifExists(() => fileStatus(path));
  if (node === undefined) return "that node is not there";
  return node.type === "block device" ? undefined : `it is a ${node.type}, and no block device`;
}

/** btrfs says nothing of a subvolume that it has not got. */
function missingSubvolume({ settings }: CheckedMount): string | undefined {
  const asked = settings.find(({ name }) => name === "subvol" || name === "subvolid");
  return asked && `perhaps it has no subvolume of ${asked.name}=${asked.value}: mounted without ` +
      "that option, btrfs subvolume list -a PATH shows those that it has";
}

function guess(type: string, { settings }: CheckedMount): string {
  const names = settings.map(({ name }) => name).join(", ");
  return `the driver of ${type} does not say why: perhaps ` +
    (names === "" ? "" : `one of its options (${names}) is not for this one, or `) +
    "what is on the device is damaged, cut off, or newer than this kernel";
}

async function busy(number: number, device: string): Promise<string> {
  const others = (await findHolders(number)).filter(({ kind }) => kind !== "process");
  if (others.length === 0) {
    return "perhaps somebody out of sight holds it exclusively (in another mount namespace)";
  }
  const isMounted = others.some(({ kind, path }) => kind === "mount" && path === device);
  return `it is in use already: ${describeHolders(others)}` +
    (isMounted ? "; a second mount of it must have the same readOnly" : "");
}
