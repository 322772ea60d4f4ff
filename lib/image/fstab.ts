/**
 * fstab(5) of an image: what its lines say, and which partition of the image each means.
 *
 * @module
 */
import { unescapeOctal } from "../kernel/mountinfo.ts";
import { checkMountOptions } from "../mount/options.ts";
import type { Part } from "./parts.ts";

/** A line of fstab. */
export interface FstabLine {
  /** What is to be mounted, as it stands there. */
  readonly source: string;
  readonly point: string;
  readonly type: string;
  readonly options: readonly string[];
}

/** A stranger's fstab may be of any length, and each of its lines may ask for a mount. */
export const MOST_LINES = 256;

/** Blanks and commas in the quotes of a value, LABEL="a b", divide nothing. Any other quote is a part of a name. */
const FIELDS = /(?:[^ \t"']|(?<==)"[^"]*"|(?<==)'[^']*'|["'])+/g;
const OPTIONS = /(?:[^,"]|(?<==)"[^"]*"|")+/g;

/** At most the first {@linkcode MOST_LINES} lines. */
export function parseFstab(text: string): FstabLine[] {
  const lines: FstabLine[] = [];
  for (const line of text.split("\n")) {
    const fields = line.trim().match(FIELDS);
    if (fields === null || fields.length < 2 || fields[0].startsWith("#")) continue;
    const [source, point, type = "auto", options = "defaults"] = fields.map(unescapeOctal);
    const words = options.match(OPTIONS) ?? [];
    lines.push({ source, point, type, options: words.filter((word) => word !== "defaults") });
    if (lines.length === MOST_LINES) break;
  }
  return lines;
}

/** What udev writes as `\x20` in the names of /dev/disk. */
function unencoded(name: string): string {
  return name.replaceAll(
    /\\x([\da-f]{2})/gi,
    (_, digits) => String.fromCharCode(parseInt(digits, 16)),
  );
}

type Tag = "uuid" | "label" | "partuuid" | "partlabel";

/** UUID=…, LABEL="…" or /dev/disk/by-partuuid/…; undefined: it is none of them. */
function tagOf(source: string): { tag: Tag; value: string } | undefined {
  const [, tag, , quoted, plain] =
    /^(UUID|LABEL|PARTUUID|PARTLABEL)=(?:(["'])(.*)\2|(.*))$/i.exec(source) ??
      [];
  if (tag !== undefined) return { tag: tag.toLowerCase() as Tag, value: quoted ?? plain };
  const [, by, name] = /^\/dev\/disk\/by-(uuid|label|partuuid|partlabel)\/([^/]+)$/.exec(source) ??
    [];
  return by === undefined ? undefined : { tag: by as Tag, value: unencoded(name) };
}

const isSame = (a: string | undefined, b: string) => a?.toLowerCase() === b.toLowerCase();

function hasTag(
  { partuuid, name, content }: Part,
  { tag, value }: { tag: Tag; value: string },
): boolean {
  switch (tag) {
    case "partuuid":
      return isSame(partuuid, value);
    case "partlabel":
      return name === value;
    case "uuid":
      return content.some(({ uuid }) => isSame(uuid, value));
    case "label":
      return content.some(({ label }) => label === value);
  }
}

/**
 * A kernel's name of a partition of a machine's first disk, which the image is made for. Of other disks
 * the name says that it is not in the image.
 */
const FIRST_DISK = /^\/dev\/(?:(?:[hsv]d|xvd)a|(?:mmcblk\d+|nvme\d+n1)p)(\d+)$/;

/** The partitions that a source may mean. Empty: none of the image. */
export function partsNamed(source: string, parts: readonly Part[]): readonly Part[] {
  const tag = tagOf(source);
  if (tag) return parts.filter((part) => hasTag(part, tag));
  const [, number] = FIRST_DISK.exec(source) ?? [];
  return parts.filter((part) => part.number !== undefined && part.number === Number(number));
}

/** Whether a source names a partition by what is written on it, and not by its place on a machine. */
export const isTag = (source: string): boolean => tagOf(source) !== undefined;

/** File systems that lie on no disk of this machine, or that the running system makes. */
const WITHOUT_DISK =
  /^(proc|sysfs|(dev)?tmpfs|devpts|cgroup2?|debugfs|tracefs|securityfs|configfs|efivarfs|bpf|mqueue|hugetlbfs|ramfs|pstore|binfmt_misc|fusectl|usbfs|rootfs)$/;
const NETWORK = /^(nfs4?|cifs|smb3?|ceph|9p|virtiofs|glusterfs|afs|davfs|lustre|ncpfs)$/;

/** Whether a line is about memory or the running kernel: nothing of an image is meant. */
export const isVirtual = ({ type }: FstabLine): boolean => WITHOUT_DISK.test(type);

/** Options that name another device, which lies outside the image. */
export const OTHER_DEVICE =
  /^(device|journal_path|journal_dev|logdev|rtdev|jdev|lowerdir|upperdir|workdir)=/;

/** Why mount() would not take these options. */
export function refusedOption(options: readonly string[]): string | undefined {
  try {
    checkMountOptions({ options });
  } catch (error) {
    return (error as TypeError | RangeError).message;
  }
}

/** Why a line cannot be mounted, as far as it alone tells. */
export function whyNotMounted({ source, point, type, options }: FstabLine): string | undefined {
  if (type === "swap" || point === "none" || point === "swap") return "it is swap space";
  if (!point.startsWith("/")) return `its point ${JSON.stringify(point)} is no absolute path`;
  if (point.includes("\0") || !point.isWellFormed()) {
    return `its point ${JSON.stringify(point)} is no name in UTF-8`;
  }
  if (point.split("/").includes("..")) return 'its point has ".." in it';
  if (NETWORK.test(type) || /^\/\/|^[^/=]+:/.test(source)) return `${source} is on a network`;
  const outside = options.find((option) => OTHER_DEVICE.test(option));
  if (outside !== undefined) return `its option ${outside} names a device outside the image`;
  if (options.some((option) => /^r?bind$/.test(option))) return "it is a bind mount";
  const isAutomatic = !options.includes("noauto") || options.includes("x-systemd.automount");
  return isAutomatic ? undefined : "fstab says noauto";
}
