/**
 * A look into a file system that is mounted nowhere: a mount that only a descriptor of ours owns.
 *
 * Nothing of the image may change before it is decided what is mounted. A read-only mount of a device that
 * can be written still replays a journal, and ext4 removes orphaned inodes even with "noload". So the
 * device is made read-only for the time of the look (BLKROSET), which keeps every driver from writing.
 *
 * @module
 */
import { laterUnlessRefused, LoopError, orRefusal } from "../base/errors.ts";
import { blkRoGet, blkRoSet } from "../kernel/block.ts";
import { openWithoutWaiting } from "../kernel/blocking.ts";
import { O_RDONLY } from "../kernel/file.ts";
import type { OpenFile } from "../kernel/file.ts";
import { endMount, makeMount, MOUNT_ATTR_RDONLY } from "../kernel/mount.ts";
import { optionWithoutReplay } from "../mount/causes.ts";
import { checkMountOptions, type MountOptions, settingsOf } from "../mount/options.ts";
import { driverOf } from "../mount/unknown.ts";
import { rootWords } from "./boot_words.ts";
import { listBelow, readBelow, readOsRelease } from "./files.ts";
import { type FstabLine, parseFstab, refusedOption } from "./fstab.ts";
import type { Part } from "./parts.ts";

/** What was seen in a file system. */
export interface Look {
  readonly fstab: readonly FstabLine[];
  /** Whether it has an os-release file. */
  readonly isSystem: boolean;
  /** What boot loaders' configurations on it call the root. */
  readonly roots: readonly string[];
  /** The subvolume in which that was seen; undefined: the one that is mounted by default. */
  readonly subvolume: string | undefined;
}

const NOTHING: Look = { fstab: [], isSystem: false, roots: [], subvolume: undefined };

/** What a look came to: the error where the kernel does not mount it. */
export type Seen = Look & { readonly error?: LoopError };

/** Options that a read-only mount of this type needs so as not to write. */
export function withoutReplay(type: string): string[] {
  const option = optionWithoutReplay(type);
  return [...option === undefined ? [] : [option], ...type === "xfs" ? ["nouuid"] : []];
}

/** Looks into the file system of a part. */
export async function lookAt(part: Part): Promise<Seen> {
  const found = part.content.find(({ usage }) => usage === "filesystem");
  if (!found) return NOTHING;
  const type = driverOf(found);
  const device = await orRefusal(() => openUnwritten(part.path));
  if (device instanceof LoopError) return { ...NOTHING, error: device };
  using file = device.file;
  try {
    const seen = await orRefusal(async () => {
      const look = await lookWith(part.path, type);
      if (look.isSystem || type !== "btrfs") return look;
      return await lookIntoSubvolumes(part.path) ?? look;
    });
    return seen instanceof LoopError ? { ...NOTHING, error: seen } : seen;
  } finally {
    // Where this fails it would be mounted read-only, for no reason that anybody could see.
    if (!device.wasReadOnly) blkRoSet(file, false);
  }
}

/** An open device. */
interface Unwritten {
  readonly file: OpenFile;
  /** Whether nobody could write it before. */
  readonly wasReadOnly: boolean;
}

/** Keeps everybody from writing a device, for as long as it is there. */
export async function keepUnwritten(path: string): Promise<void> {
  (await openUnwritten(path)).file.close();
}

/** Opens a device, and keeps everybody from writing it. */
async function openUnwritten(path: string): Promise<Unwritten> {
  using opened = new DisposableStack();
  const file = opened.use(await openWithoutWaiting(path, O_RDONLY));
  const wasReadOnly = blkRoGet(file);
  if (!wasReadOnly) blkRoSet(file, true);
  opened.move();
  return { file, wasReadOnly };
}

/** Mounts it read-only, without a replay, and gives what `use` makes of its root directory. */
async function whileShown<T>(
  device: string,
  type: string,
  options: readonly string[],
  use: (root: OpenFile) => Promise<T>,
): Promise<T> {
  const all = [...withoutReplay(type), ...options];
  return await whileMounted(device, type, { options: all, readOnly: true }, use);
}

/** Mounts it nowhere, and gives what `use` makes of its root directory. */
export async function whileMounted<T>(
  device: string,
  type: string,
  options: MountOptions,
  use: (root: OpenFile) => Promise<T>,
): Promise<T> {
  const checked = checkMountOptions({ ...options, noexec: true });
  const { readOnly = false } = checked;
  const settings = [
    ...readOnly ? [{ name: "ro", value: undefined }] : [],
    ...settingsOf(checked, type),
  ];
  const attributes = checked.attributes | (readOnly ? MOUNT_ATTR_RDONLY : 0);
  const made = await makeMount({ type, device, settings, attributes }, (e) => Promise.resolve(e));
  try {
    return await use(made.root);
  } finally {
    const nowhere = { node: undefined, holder: undefined };
    await endMount(made, { ...nowhere, written: !readOnly, attached: false });
  }
}

async function lookWith(device: string, type: string, subvolume?: string): Promise<Look> {
  const options = subvolume === undefined ? [] : [ofSubvolume(subvolume)];
  return await whileShown(device, type, options, async (root) => ({
    fstab: parseFstab(await readBelow(root, "etc/fstab") ?? ""),
    isSystem: await readOsRelease(root) !== undefined,
    roots: await rootWords(root),
    subvolume,
  }));
}

const ofSubvolume = (subvolume: string) => `subvol=${subvolume}`;

/** Names that distributions give to the subvolume of "/". */
const USUAL = ["root", "@", "@rootfs"];
/** A stranger may have made any number of them. */
const MOST_SUBVOLUMES = 64;

/**
 * Fedora, Ubuntu, Arch and others keep the system in a subvolume below the top level, and the default
 * subvolume is the top level: their boot loaders and their fstab name it. undefined: none has a system, or
 * nothing tells which of several is meant.
 */
async function lookIntoSubvolumes(device: string): Promise<Look | undefined> {
  const names = await whileShown(device, "btrfs", ["subvolid=5"], async (top) => {
    // A name can be too long for an option, or have bytes that are no UTF-8.
    const all = (await listBelow(top, "", "directories"))
      .filter((name) => refusedOption([ofSubvolume(`/${name}`)]) === undefined)
      .slice(0, MOST_SUBVOLUMES);
    const withEtc = await Promise.all(
      all.map(async (name) => (await listBelow(top, `${name}/etc`)).length > 0 ? [name] : []),
    );
    return withEtc.flat();
  });
  const looks: Look[] = [];
  for (const name of names) {
    // Undefined of a directory that is no subvolume.
    const look = await laterUnlessRefused(() => lookWith(device, "btrfs", `/${name}`));
    if (look?.isSystem) looks.push(look);
  }
  const named = looks.filter(({ fstab, subvolume }) => subvolumeOfRoot(fstab) === subvolume);
  const usual = USUAL.flatMap((name) =>
    looks.find(({ subvolume }) => subvolume === `/${name}`) ?? []
  );
  if (named.length === 1) return named[0];
  return looks.length === 1 ? looks[0] : usual[0];
}

/** What fstab says is the subvolume of "/", beginning with a slash. */
function subvolumeOfRoot(fstab: readonly FstabLine[]): string | undefined {
  const options = fstab.find(({ point }) => point === "/")?.options;
  const option = options?.find((option) => option.startsWith("subvol="));
  return option?.replace(/^subvol=\/*/, "/");
}
