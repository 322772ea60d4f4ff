/**
 * Growing a mounted file system by the kernel's own requests, and what is said of one that cannot grow so.
 *
 * @module
 */
import { isRefusal, type LoopError } from "../base/errors.ts";
import { hasCapability, whyNotPermitted } from "../kernel/capabilities.ts";
import type { OpenFile } from "../kernel/file.ts";
import {
  btrfsDeviceSize,
  btrfsResize,
  ext4ResizeFs,
  xfsGeometry,
  xfsGrowfsData,
} from "../kernel/growth.ts";
import { openWithoutWaiting } from "../kernel/blocking.ts";
import { O_RDONLY } from "../kernel/file.ts";
import { readPart } from "../binding/image_table.ts";
import { blkGetSize64 } from "../kernel/block.ts";
import type { FileSystem } from "../superblocks/file_systems.ts";
import { type FileSystemSize, sizeSteps } from "../superblocks/sizes.ts";
import { wanted } from "../table/steps.ts";
import type { GrownFileSystem } from "./options.ts";

/** A mounted file system, and what it lies on. */
export interface Mounted {
  readonly type: string;
  /** Its root directory. */
  readonly root: OpenFile;
  /** The node: "/dev/loop4p2". */
  readonly device: string;
  readonly size: FileSystemSize;
}

interface Driver {
  /** Makes it so many bytes large, which are whole blocks. */
  grow(mounted: Mounted, bytes: number): Promise<void>;
  /** How large it is now, in bytes. */
  sizeOf(mounted: Mounted): Promise<number>;
  /** The capability that it takes beside CAP_SYS_ADMIN. */
  readonly needs?: "CAP_SYS_RESOURCE";
}

const EXT: Driver = {
  needs: "CAP_SYS_RESOURCE",
  grow: ({ root, size }, bytes) => ext4ResizeFs(root, BigInt(bytes / size.block)),
  // The driver has its superblock in the page cache of the device.
  async sizeOf({ device, type }) {
    using node = await openWithoutWaiting(device, O_RDONLY);
    const size = blkGetSize64(node);
    return (await readPart(node, { size }, sizeSteps({ size, read: wanted }, type)))!.size;
  },
};

const DRIVERS: Readonly<Record<string, Driver>> = {
  ext2: EXT,
  ext3: EXT,
  ext4: EXT,
  xfs: {
    async grow({ root, size }, bytes) {
      const { imaxpct } = await xfsGeometry(root);
      await xfsGrowfsData(root, BigInt(bytes / size.block), imaxpct);
    },
    async sizeOf({ root }) {
      const { blocksize, datablocks } = await xfsGeometry(root);
      return Number(datablocks) * blocksize;
    },
  },
  btrfs: {
    grow: ({ root, size }, bytes) => btrfsResize(root, size.devid!, bytes),
    sizeOf: ({ root, size }) => btrfsDeviceSize(root, size.devid!),
  },
};

/** What is done about containers, whose inside is the caller's. */
const CONTAINERS: Readonly<Record<string, string>> = {
  crypto_LUKS: "open it, cryptsetup resize, and then what is inside",
  LVM2_member: "pvresize on the node, then lvextend --resizefs",
  linux_raid_member: "grow it as mdadm's page on --grow says",
  // Without them it gets a new UUID, which no fstab names.
  swap: "swapoff, and mkswap again with the UUID (-U) and the label (-L) that it has",
};

/** The tools that grow a file system while it is not mounted. */
const TOOLS: Readonly<Record<string, string>> = {
  f2fs: "resize.f2fs",
  ntfs: "ntfsresize",
  vfat: "fatresize",
  nilfs2: "nilfs-resize, while it is mounted",
  jfs: "mount -o remount,resize, while it is mounted",
};

/** How large a file system shall become in `room` bytes, or why it stays as it is. */
export function planFileSystem(
  { type, usage }: FileSystem,
  size: FileSystemSize | undefined,
  room: number,
): GrownFileSystem {
  if (usage !== "filesystem") {
    const how = CONTAINERS[type];
    const reason = `what is inside of it is yours to grow${how === undefined ? "" : `: ${how}`}`;
    return { type, reason };
  }
  if (!size) {
    const tool = TOOLS[type];
    const how = tool === undefined ? "" : `; the tool for it is ${tool}`;
    return { type, reason: `the kernel has no request that grows ${type}${how}` };
  }
  const to = Math.floor(room / size.block) * size.block;
  if (to <= size.size) return { type, from: size.size, to: size.size };
  const reason = whyNot(type);
  return { type, from: size.size, to: reason === undefined ? to : size.size, ...reason };
}

function whyNot(type: string): { reason: string } | undefined {
  const { needs } = DRIVERS[type];
  if (!needs || hasCapability(needs)) return undefined;
  return { reason: `${whyNotPermitted(`growing a mounted ${type}`, needs)}; ${UNMOUNTED}` };
}

const UNMOUNTED = "e2fsck -f and resize2fs on the node grow it while it is not mounted";

/** Between two pieces a signal is looked at. */
const PIECE = 2 ** 36;

/**
 * Grows it to so many bytes, and gives what it has then; with the reason if the driver refuses. `tell` hears
 * how far it is.
 */
export async function growFileSystem(
  mounted: Mounted,
  to: number,
  tell: (done: number) => void,
  signal?: AbortSignal,
): Promise<GrownFileSystem> {
  const { type, size: { block } } = mounted;
  const driver = DRIVERS[type];
  // While it is mounted, the superblock on the disk can be an old one.
  const from = await driver.sizeOf(mounted);
  const piece = Math.floor(PIECE / block) * block;
  try {
    for (let at = from; at < to;) {
      signal?.throwIfAborted();
      at = Math.min(at + piece, to);
      await driver.grow(mounted, at);
      if (at < to) tell(at - from);
    }
  } catch (error) {
    if (!isRefusal(error, "EPERM", "EOPNOTSUPP", "ENOTTY", "EINVAL", "EBUSY", "EROFS")) throw error;
    return { type, from, to: await driver.sizeOf(mounted), reason: whyRefused(error, type) };
  }
  return { type, from, to: await driver.sizeOf(mounted) };
}

/** Why a driver has not grown its file system, and what does. */
export function whyRefused(error: LoopError, type: string): string {
  const said = `the driver refused (${error.request}: ${error.reason})`;
  if (type === "btrfs" && error.code === "EINVAL") return `${said}: it takes no size below 256 MiB`;
  if (!/^ext/.test(type)) return said;
  const why = error.code === "EPERM"
    ? ": it has errors, or CAP_SYS_RESOURCE is one of another user namespace"
    : "";
  return `${said}${why}; ${UNMOUNTED}`;
}
