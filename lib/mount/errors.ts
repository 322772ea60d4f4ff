/**
 * Why a mount was refused, in the file system's own words, and what a person can do.
 *
 * @module
 */
import { isRefusal, LoopError } from "../base/errors.ts";
import { contentOf, type OtherContent, otherContentOf, sizeOf } from "./file_system.ts";
import { describeHolders, findHolders } from "../holders/holders.ts";
import type { OpenFile } from "../kernel/file.ts";
import { readKernelLog } from "../kernel/kmsg.ts";
import { readLog, type Setting } from "../kernel/mount.ts";
import { sysfsPartitions } from "../kernel/sysfs.ts";
import { kernelRelease } from "../kernel/system.ts";
import { describeWrapper } from "../superblocks/file_systems.ts";
import type { CheckedMount } from "./options.ts";

/** So much is said at most: a driver can say a line for each damaged block. */
const MOST_LINES = 4;

/** Modules that are not named as the file system is. */
const MODULES: Record<string, string> = { iso9660: "isofs", ext3: "ext4", msdos: "msdos" };
/** What has a file system mounted without replaying its journal. */
const WITHOUT_REPLAY: Record<string, string> = {
  ext3: "noload",
  ext4: "noload",
  xfs: "norecovery",
  btrfs: "rescue=nologreplay",
  f2fs: "norecovery",
};
/** Drivers that do not say of which device they speak. */
const NAMELESS: Record<string, string> = {
  squashfs: "^SQUASHFS error",
  iso9660: "^(isofs|ISOFS|rock)",
  udf: "^UDF-fs",
  vfat: "^FAT-fs",
};

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

/** The same error with all that is known of its cause. */
export async function explainRefusal(error: unknown, attempt: Attempt): Promise<unknown> {
  if (!isRefusal(error)) return error;
  const said = wordsOf(attempt);
  const advice = await adviceOn(error, attempt).catch(() => undefined);
  const hint = [...said, advice].filter((part) => part !== undefined).join("; ");
  return hint === "" ? error : error.withHint(hint);
}

/** What the file system said to the context, or to the kernel's log. */
function wordsOf({ device, type, context, log }: Attempt): string[] {
  const toContext = context ? readLog(context) : [];
  const name = device.slice(device.lastIndexOf("/") + 1);
  const matches = new RegExp(`\\b${name}\\b|${NAMELESS[type] ?? "^$."}`);
  const toLog = log ? readKernelLog(log, matches) : [];
  return [...new Set([...toContext, ...toLog])].slice(0, MOST_LINES);
}

async function adviceOn(error: LoopError, attempt: Attempt): Promise<string | undefined> {
  const { type, option, options, number } = attempt;
  const { code, syscall, request } = error;
  if (code === "EPERM") return "mounting needs CAP_SYS_ADMIN";
  if (code === "ENOSYS") {
    return `mounting needs Linux 5.2 or later, and this is ${kernelRelease()} (a container's ` +
      "seccomp filter can make it look older)";
  }
  if (syscall === "fsopen" && code === "ENODEV") {
    const module = MODULES[type] ?? type;
    return `this kernel has no driver for ${type}: load the module ${module} (modprobe ` +
      `${module}); where that is not found, it is in another package of the kernel's`;
  }
  if (option !== undefined) {
    const { name, value } = option;
    const text = value === undefined ? name : `${name}=${value}`;
    return `${type} does not take the option ${JSON.stringify(text)} (its manual: ` +
      `man 5 ${type}, or the kernel's filesystems/${type})`;
  }
  if (request === "FSCONFIG_CMD_CREATE") return await adviceOnCreate(code, attempt);
  if (syscall === "fsmount" && code === "EINVAL" && options.attributes !== 0) {
    return "a mount option is younger than this kernel (nosymfollow: Linux 5.14)";
  }
  return code === "EBUSY" ? await busy(number) : undefined;
}

async function adviceOnCreate(
  code: string,
  { type, options, device, number, readOnly }: Attempt,
): Promise<string | undefined> {
  if (await sizeOf(device) === 0) return NO_BYTES;
  switch (code) {
    case "EBUSY":
      return await busy(number);
    case "EROFS": {
      const option = WITHOUT_REPLAY[type];
      return "it must be written to first, to replay its journal, and the device is read-only: " +
        "mount it once on a writable device" +
        (option ? `, or with options: ["${option}"] as it is` : "");
    }
    case "EACCES":
      return readOnly
        ? "the device is read-only: mount it with readOnly: true"
        : "the device, or its node, may not be written";
    case "ENOENT":
      return "is the device's node in /dev?";
    case "ENOTBLK":
    case "ENXIO":
      return "the node in /dev is not this device";
    case "EUCLEAN":
    case "EBADMSG":
    case "EIO":
      return `the file system is damaged, or cut off: check it (fsck -t ${type} -n ${device})`;
    case "EINVAL":
      return await adviceOnInvalid(type, options, device);
    default:
      return undefined;
  }
}

async function busy(number: number): Promise<string> {
  const others = (await findHolders(number)).filter(({ kind }) => kind !== "process");
  const who = describeHolders(others);
  return who === ""
    ? "somebody out of sight holds it exclusively (another mount namespace?)"
    : `it is in use already, with another readOnly or as something else than a file system: ${who}`;
}

async function adviceOnInvalid(
  type: string,
  options: CheckedMount,
  device: string,
): Promise<string> {
  const found = (await contentOf(device)).fileSystems.map((each) => each.type);
  if (options.type !== undefined && found.length > 0 && !found.includes(type)) {
    return `its superblock says ${found.join(" and ")}, not ${type}`;
  }
  const settings = options.settings.map(({ name }) => name);
  return `the driver of ${type} refuses it: ` +
    (settings.length > 0 ? `one of its options (${settings.join(", ")}), or ` : "") +
    "what is on the device is damaged, cut off, or newer than this kernel";
}

/** A device that a process which does not look has bound, or whose file was cut since. */
const NO_BYTES = "the device has 0 bytes, as of its file it has whole 512-byte sectors: make the " +
  "file longer (truncate -s), then setCapacity() of the device's handle takes its size over";

/** A device that shows no file system. */
export async function refuseUnknown(
  { device, number, partition }: { device: string; number: number; partition?: number },
): Promise<LoopError> {
  const known = partition === undefined ? sysfsPartitions(number).map(({ number }) => number) : [];
  const hint = known.length > 0
    ? `it has no file system but partitions: mount one of ${known.join(", ")}`
    : describeUnknown(await otherContentOf(device), device);
  return new LoopError({ code: "EINVAL", syscall: "mount", path: device, hint });
}

/** What stands there instead, the surest first, and what can be done. Never mkfs where anything is. */
function describeUnknown(content: OtherContent, device: string): string {
  const { size, container, partitions, wrapper, torn, other, isZero } = content;
  const none = "no file system that is known here is on it";
  if (size === 0) return NO_BYTES;
  if (container !== undefined) return `it holds no file system but ${container}`;
  if (partitions !== undefined) {
    return "it has no file system but a partition table" +
      (partitions.length > 0
        ? ` with ${
          partitions.join(", ")
        }, which the kernel does not show: rescan(), or attach the ` +
          "image with partscan, and mount one of them"
        : " without a partition");
  }
  if (wrapper !== undefined) return describeWrapper(wrapper);
  if (torn.length > 0) {
    return `${none} but the magic number of ${torn.join(", ")}: the rest of that superblock is ` +
      `damaged, or of a kind that is not known here. Mount it with type: "${
        torn.at(-1)
      }" to hear ` +
      `what the driver says, or look at it with fsck -n -t ${torn.at(-1)} ${device}`;
  }
  if (other !== undefined) {
    return `it seems to hold ${other.name}, which is not told by itself: mount it with type: ` +
      `"${other.type}"`;
  }
  if (isZero) return `${none}: all of it is zero. Make one first (mkfs)`;
  return isZero === undefined
    ? `${none}, and what was read of it is zero`
    : `${none}, and it is not empty: say which with type`;
}

/** Why a mount got no directory. */
export function explainMove(error: unknown): never {
  if (!isRefusal(error)) throw error;
  const hints: Record<string, string> = {
    ENOENT: "at: make the directory first",
    ENOTDIR: "at: it is no directory",
    EPERM: "mounting needs CAP_SYS_ADMIN",
    EINVAL: error.path.startsWith("/proc/")
      ? "at: before Linux 6.15 a mount without a directory takes no other one: mount the outer " +
        "one with at, too"
      : "at: nothing can be mounted there (is it a directory?)",
  };
  const hint = hints[error.code];
  throw hint === undefined ? error : error.withHint(hint);
}
