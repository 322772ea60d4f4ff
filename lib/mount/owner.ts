/**
 * The user to whom a mount gives what is root's on the disk: an idmapped mount, of Linux 5.12.
 *
 *     on the disk            in the mount
 *     0                      the owner
 *     the owner's number     2147483646, which no system gives to a user
 *     2147483646             no user: nobody (65534), unchangeable
 *     any other              the same
 *
 * A map of ids has no two ways to one: the owner's own number must go somewhere. It does not go to 0. No
 * file of the image belongs to this machine's root in the mount then, whatever the image says, and root
 * makes no file there: the kernel answers EOVERFLOW, instead of giving root's file on the disk to the
 * user whose number it was. systemd has the number, as UID_MAPPED_ROOT, for the same purpose.
 *
 * The kernel takes the map from a user namespace. unshare(2) would put a thread of the runtime into it,
 * so a short-lived child makes it.
 *
 * @module
 */
import { checkNames, checkWholeNumber, show } from "../base/checks.ts";
import { isRefusal, type LoopError } from "../base/errors.ts";
import { decodeName } from "../base/names.ts";
import { whyNotPermitted } from "../kernel/capabilities.ts";
import {
  ifAllowed,
  O_RDONLY,
  O_RDWR,
  open,
  type OpenFile,
  readLines,
  writeText,
} from "../kernel/file.ts";
import { pipe } from "../kernel/pipe.ts";
import { readSome } from "../kernel/program.ts";
import { isBefore, kernelRelease } from "../kernel/release.ts";
import { startHelper } from "./helper.ts";

/** Whose a mount is. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Where the owner's own number goes. */
const SPARE = 2 ** 31 - 2;
const IDS = 2 ** 32 - 1;

/** Throws a TypeError or RangeError unless it is a uid, or a uid and a gid. */
export function checkOwner(name: string, owner: unknown): void {
  if (typeof owner === "number") return checkId(name, owner);
  if (typeof owner !== "object" || owner === null || Array.isArray(owner)) {
    throw new TypeError(`${name} must be a uid like 1000, or { uid, gid }, not ${show(owner)}`);
  }
  checkNames(owner, ["uid", "gid"], name);
  const { uid, gid } = owner as Partial<Owner>;
  checkId(`${name}.uid`, uid);
  checkId(`${name}.gid`, gid);
}

const checkId = (name: string, id: unknown) => checkWholeNumber(name, id, 0, SPARE - 1);

/**
 * Of a uid alone the group is that of the user in /etc/passwd, or has the same number. undefined: root, whose
 * it is anyway.
 */
export function ownerOf(asked: number | Owner): Owner | undefined {
  const owner = typeof asked === "number" ? { uid: asked, gid: groupOf(asked) } : asked;
  return owner.uid === 0 && owner.gid === 0 ? undefined : owner;
}

function groupOf(user: number): number {
  const { gid = "" } = userOf(user) ?? {};
  return /^\d+$/.test(gid) ? Number(gid) : user;
}

/** A line of /etc/passwd, as text. */
export function userOf(user: number): { name: string; gid: string; home: string } | undefined {
  const lines = ifAllowed(() => readLines("/etc/passwd")) ?? [];
  const users = lines.map((line) => line.split(":"));
  const found = users.find(([, , uid]) => uid === `${user}`);
  if (!found) return undefined;
  const [name, , , gid, , home] = found;
  return { name, gid, home };
}

/** A map as /proc/PID/uid_map takes it: first on the disk, first in the mount, how many. */
export function idMap(id: number): string {
  if (id === 0) return `0 0 ${IDS}\n`;
  const ranges = [[0, id, 1], [id, SPARE, 1], [1, 1, id - 1], [id + 1, id + 1, SPARE - id - 1], [
    SPARE + 1,
    SPARE + 1,
    IDS - SPARE - 1,
  ]];
  return ranges.filter(([, , count]) => count > 0).map((range) => `${range.join(" ")}\n`).join("");
}

/**
 * Descriptor 3 is the pipe, 4 the write end of another one, which gets the child's number, or what unshare
 * says. The child ends with the pipe.
 */
const SCRIPT = `
command -v unshare >/dev/null || exit 127
cd /
exec >/dev/null 2>&4 5<&-
unshare -U sh -c 'sh -c "echo \\$\\$ >&4; exec 4>&- 2>/dev/null; read -r _" <&3 &'
`;
const NEEDS =
  "owner: mount() has unshare (util-linux, or busybox) make a user namespace, which holds the map of ids";

/** A user namespace with the owner's map. */
export async function makeUserNamespace({ uid, gid }: Owner): Promise<OpenFile> {
  const { readEnd, writeEnd } = pipe("the pipe of unshare");
  using answer = readEnd;
  let helper: OpenFile;
  try {
    using end = writeEnd;
    helper = await startHelper({
      text: SCRIPT,
      name: "loopdev-owner",
      args: [],
      files: [end],
      tool: "unshare",
      needs: NEEDS,
    });
  } catch (error) {
    if (!isRefusal(error, "EIO")) throw error;
    throw error.withHint(`${NEEDS}: ${decodeName(await readSome(answer)).trim()}`);
  }
  // The child ends when this is closed.
  using _helper = helper;
  const pid = Number(decodeName(await readSome(answer)));
  writeMap(`/proc/${pid}/uid_map`, uid);
  writeMap(`/proc/${pid}/gid_map`, gid);
  return open(`/proc/${pid}/ns/user`, O_RDONLY);
}

/** A hint at why the kernel refused the map, or a directory that is to become the user's. */
export const WITHOUT_CAPABILITY =
  "owner: this needs CAP_SETUID, CAP_SETGID and CAP_SETFCAP in the machine's own user namespace, to map " +
  "root's id, and CAP_CHOWN, CAP_FOWNER and CAP_DAC_OVERRIDE, to make the user's directory";

function writeMap(path: string, id: number): void {
  try {
    using file = open(path, O_RDWR);
    // The kernel takes a map in one write.
    writeText(file, idMap(id));
  } catch (error) {
    if (!isRefusal(error, "EPERM")) throw error;
    throw error.withHint(WITHOUT_CAPABILITY);
  }
}

/**
 * From which release of Linux on a driver takes idmapped mounts; mount_setattr(2) has the list. ext2 and ext3
 * are mounted by ext4's driver then.
 */
const SINCE = new Map([
  ["ext4", "5.12"],
  ["xfs", "5.12"],
  // bb8b81e396f7
  ["vfat", "5.12"],
  ["msdos", "5.12"],
  // 5b9b26f5d0b8
  ["btrfs", "5.15"],
  // 82cae269cfa9
  ["ntfs3", "5.15"],
  // 984fc4e76d63
  ["f2fs", "5.18"],
  // 6c459b78d479
  ["erofs", "5.19"],
  // 42da66ac7bcb
  ["squashfs", "6.2"],
]);
/** Those whose files have no owners, but for the one that an option names. */
const WITHOUT_OWNERS = ["vfat", "msdos", "exfat"];

/** The type whose driver takes an owner. */
export function typeForOwner(type: string): string {
  return type === "ext2" || type === "ext3" ? "ext4" : type;
}

/** What mount_setattr() has refused the map with, with what helps. */
export function explainNoOwner(error: unknown, type: string, owner: Owner): unknown {
  const hint = isRefusal(error) ? whyNoOwner(error, type, owner) : undefined;
  return hint === undefined ? error : (error as LoopError).withHint(hint);
}

function whyNoOwner({ code }: LoopError, type: string, owner: Owner): string | undefined {
  if (code === "EPERM") return whyNotPermitted("owner", "CAP_SYS_ADMIN");
  if (code !== "ENOSYS" && code !== "EINVAL") return undefined;
  const release = kernelRelease();
  const since = SINCE.get(type);
  const instead = WITHOUT_OWNERS.includes(type)
    ? `; options: ["uid=${owner.uid}", "gid=${owner.gid}"] do the same for ${type}`
    : typeForOwner(type) === type
    ? ""
    : `; with type: "${typeForOwner(type)}" it is mounted by a driver that does`;
  if (since === undefined) {
    return `owner: the driver of ${type} does not take idmapped mounts in Linux ${release}${instead}`;
  }
  const isOld = isBefore(release, since);
  return `owner: ${type} takes idmapped mounts from Linux ${since} on, and this is ${release}` +
    (isOld ? "" : ": a filter of system calls, or how this kernel was built, may forbid them") +
    instead;
}
