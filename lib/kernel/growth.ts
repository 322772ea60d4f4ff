/**
 * Requests that make a file or a mounted file system larger, and the writes of a table. Another thread makes
 * them: they wait for the disk.
 *
 * @module
 */
import { __u32, __u64, bytes, long_long, struct } from "../base/struct.ts";
import { LoopError } from "../base/errors.ts";
import { ioctlOnThread } from "./blocking.ts";
import { chainOnThread, type NamedStep } from "./chain.ts";
import { check, type OpenFile } from "./file.ts";

/** `<linux/ext4.h>` from Linux 6.2 on; before it was in the driver alone. */
const EXT4_IOC_RESIZE_FS = 0x40086610;
/** xfs_fs.h of xfsprogs. */
const XFS_IOC_FSGEOMETRY_V1 = 0x80705864;
const XFS_IOC_FSGROWFSDATA = 0x4010586e;
/** `<linux/btrfs.h>` */
const BTRFS_IOC_RESIZE = 0x50009403;
const BTRFS_IOC_DEV_INFO = 0xd000941e;

export const xfs_fsop_geom_v1 = struct("xfs_fsop_geom_v1", 112, {
  blocksize: __u32,
  rtextsize: __u32,
  agblocks: __u32,
  agcount: __u32,
  logblocks: __u32,
  sectsize: __u32,
  inodesize: __u32,
  imaxpct: __u32,
  datablocks: __u64,
  rtblocks: __u64,
  rtextents: __u64,
  logstart: __u64,
  uuid: bytes(16),
  sunit: __u32,
  swidth: __u32,
  version: __u32,
  flags: __u32,
  logsectsize: __u32,
  rtsectsize: __u32,
  dirblocksize: __u32,
});

/** 16 bytes: the C struct ends with padding. */
export const xfs_growfs_data = struct("xfs_growfs_data", 16, {
  newblocks: __u64,
  imaxpct: __u32,
});

export const btrfs_ioctl_vol_args = struct("btrfs_ioctl_vol_args", 4096, {
  fd: long_long,
  name: bytes(4088),
});

/** `<linux/btrfs.h>`, as far as it is read here. */
export const btrfs_ioctl_dev_info_args = struct("btrfs_ioctl_dev_info_args", 4096, {
  devid: __u64,
  uuid: bytes(16),
  bytes_used: __u64,
  total_bytes: __u64,
  __spare: bytes(4056),
});

/** `ftruncate(fd, size)`: what is added is a hole, and takes no room until it is written. */
export async function ftruncate(file: OpenFile, size: number): Promise<void> {
  const [result] = await file.callOnThread((fd) =>
    chainOnThread([{ name: "ftruncate", args: [fd, size] }])
  );
  check(result, "ftruncate", file.path);
}

/** Bytes for a place in a file. */
interface Write {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Writes all of these, in order, and then has them on the disk: fsync(2). */
export async function writeThrough(file: OpenFile, writes: readonly Write[]): Promise<void> {
  await file.callOnThread(async (fd) => {
    const steps: NamedStep[] = writes.map(({ offset, bytes }) => {
      // Over an ArrayBuffer of its own: the thread gets an address.
      const own = new Uint8Array(new ArrayBuffer(bytes.length));
      own.set(bytes);
      return { name: "pwrite64", args: [fd, own, own.length, offset] };
    });
    const results = await chainOnThread([...steps, { name: "fsync", args: [fd] }]);
    const last = results.length - 1;
    check(results[last], last < writes.length ? "pwrite" : "fsync", file.path);
    const short = writes.findIndex(({ bytes }, i) => results[i] < bytes.length);
    if (short < 0) return;
    const hint = `${results[short]} of ${writes[short].bytes.length} bytes were written`;
    throw new LoopError({ code: "EIO", syscall: "pwrite", path: file.path, hint });
  });
}

/** `ioctl(fd, EXT4_IOC_RESIZE_FS)`: the new size in blocks. Needs CAP_SYS_RESOURCE. */
export async function ext4ResizeFs(root: OpenFile, blocks: bigint): Promise<void> {
  const argument = new Uint8Array(new ArrayBuffer(8));
  new DataView(argument.buffer).setBigUint64(0, blocks, true);
  await ioctlOnThread(root, "EXT4_IOC_RESIZE_FS", EXT4_IOC_RESIZE_FS, argument);
}

/** `ioctl(fd, XFS_IOC_FSGEOMETRY_V1)`: block size, size of the data section, share of inodes. */
export async function xfsGeometry(
  root: OpenFile,
): Promise<{ blocksize: number; datablocks: bigint; imaxpct: number }> {
  const buffer = xfs_fsop_geom_v1.buffer();
  await ioctlOnThread(root, "XFS_IOC_FSGEOMETRY_V1", XFS_IOC_FSGEOMETRY_V1, buffer);
  return xfs_fsop_geom_v1.decode(buffer);
}

/** `ioctl(fd, XFS_IOC_FSGROWFSDATA)`: the new size of the data section in blocks. Needs CAP_SYS_ADMIN. */
export async function xfsGrowfsData(
  root: OpenFile,
  newblocks: bigint,
  imaxpct: number,
): Promise<void> {
  const argument = xfs_growfs_data.encode({ newblocks, imaxpct });
  await ioctlOnThread(root, "XFS_IOC_FSGROWFSDATA", XFS_IOC_FSGROWFSDATA, argument);
}

/** `ioctl(fd, BTRFS_IOC_RESIZE)`: the new size of one of its devices in bytes. Needs CAP_SYS_ADMIN. */
export async function btrfsResize(root: OpenFile, devid: bigint, size: number): Promise<void> {
  const name = new TextEncoder().encode(`${devid}:${size}`);
  await ioctlOnThread(
    root,
    "BTRFS_IOC_RESIZE",
    BTRFS_IOC_RESIZE,
    btrfs_ioctl_vol_args.encode({ name }),
  );
}

/** `ioctl(fd, BTRFS_IOC_DEV_INFO)`: the size of one of its devices in bytes. */
export async function btrfsDeviceSize(root: OpenFile, devid: bigint): Promise<number> {
  const buffer = btrfs_ioctl_dev_info_args.encode({ devid });
  await ioctlOnThread(root, "BTRFS_IOC_DEV_INFO", BTRFS_IOC_DEV_INFO, buffer);
  return Number(btrfs_ioctl_dev_info_args.reader(buffer)("total_bytes"));
}
