/**
 * `<linux/blkpg.h>`, and the requests of `<linux/fs.h>` that any block device answers.
 *
 * @module
 */
import { unlessRefused } from "../base/errors.ts";
import { ioctl, type OpenFile } from "./file.ts";
import { libc } from "../runtime/libc.ts";
import { bytes, int, long_long, struct } from "../base/struct.ts";
import { ioctlOnThread } from "./blocking.ts";

const BLKPG = 0x1269;
const BLKPG_ADD_PARTITION = 1;
const BLKPG_DEL_PARTITION = 2;
const BLKPG_RESIZE_PARTITION = 3;
const BLKFLSBUF = 0x1261;
const BLKROSET = 0x125d;
const BLKROGET = 0x125e;
const BLKSSZGET = 0x1268;
const BLKGETSIZE64 = 0x80081272;
const BLKGETDISKSEQ = 0x80081280;

export const blkpg_ioctl_arg = struct("blkpg_ioctl_arg", 24, {
  op: int,
  flags: int,
  datalen: int,
  data: long_long,
});

export const blkpg_partition = struct("blkpg_partition", 152, {
  start: long_long,
  length: long_long,
  pno: int,
  devname: bytes(64),
  volname: bytes(64),
});

/** Filled by requests that take an `int *` or a `__u64 *`. */
const value = new Uint8Array(new ArrayBuffer(8));
const view = new DataView(value.buffer);

/** A partition's number, start and size; bytes. */
export interface Extent {
  readonly number: number;
  readonly start: number;
  readonly size: number;
}

function blkpg(
  device: OpenFile,
  name: string,
  op: number,
  { number, start, size }: Extent,
): void {
  // Argument and data in one buffer, so that passing it keeps both alive during the call.
  const buffer = new Uint8Array(new ArrayBuffer(blkpg_ioctl_arg.size + blkpg_partition.size));
  const data = libc().addressOf(buffer) + BigInt(blkpg_ioctl_arg.size);
  buffer.set(blkpg_ioctl_arg.encode({ op, datalen: blkpg_partition.size, data }));
  const partition = { start: BigInt(start), length: BigInt(size), pno: number };
  buffer.set(blkpg_partition.encode(partition), blkpg_ioctl_arg.size);
  ioctl(device, name, BLKPG, buffer);
}

/**
 * `ioctl(fd, BLKPG)` with BLKPG_ADD_PARTITION: EBUSY if the number is taken or the range overlaps
 * another partition, EINVAL if it is not aligned to the logical block size.
 */
export function blkpgAddPartition(device: OpenFile, partition: Extent): void {
  blkpg(device, "BLKPG_ADD_PARTITION", BLKPG_ADD_PARTITION, partition);
}

/** `ioctl(fd, BLKPG)` with BLKPG_RESIZE_PARTITION: a new size at the same start, even while in use. */
export function blkpgResizePartition(device: OpenFile, partition: Extent): void {
  blkpg(device, "BLKPG_RESIZE_PARTITION", BLKPG_RESIZE_PARTITION, partition);
}

/** `ioctl(fd, BLKPG)` with BLKPG_DEL_PARTITION: EBUSY while it is open, ENXIO if there is none. */
export function blkpgDelPartition(device: OpenFile, number: number): void {
  blkpg(device, "BLKPG_DEL_PARTITION", BLKPG_DEL_PARTITION, { number, start: 0, size: 0 });
}

function getInt(device: OpenFile, name: string, request: number): number {
  ioctl(device, name, request, value);
  return view.getInt32(0, true);
}

/** `ioctl(fd, BLKSSZGET)`: the logical sector size in bytes. */
export function blkSszGet(device: OpenFile): number {
  return getInt(device, "BLKSSZGET", BLKSSZGET);
}

/** `ioctl(fd, BLKROGET)`: whether the device refuses writes. */
export function blkRoGet(device: OpenFile): boolean {
  return getInt(device, "BLKROGET", BLKROGET) !== 0;
}

/** `ioctl(fd, BLKROSET)`: whether this device, and no other of its disk, refuses writes from now on. */
export function blkRoSet(device: OpenFile, readOnly: boolean): void {
  view.setInt32(0, readOnly ? 1 : 0, true);
  ioctl(device, "BLKROSET", BLKROSET, value);
}

function getU64(device: OpenFile, name: string, request: number): number {
  ioctl(device, name, request, value);
  return Number(view.getBigUint64(0, true));
}

/** `ioctl(fd, BLKGETSIZE64)`: the device's size in bytes. */
export function blkGetSize64(device: OpenFile): number {
  return getU64(device, "BLKGETSIZE64", BLKGETSIZE64);
}

/**
 * `ioctl(fd, BLKGETDISKSEQ)`: grows at each bind and detach of any loop device, so it tells one use
 * from the next. Undefined before Linux 5.15.
 */
export function blkGetDiskseq(device: OpenFile): number | undefined {
  // Kernels that do not know the request.
  return unlessRefused(() => getU64(device, "BLKGETDISKSEQ", BLKGETDISKSEQ), "ENOTTY", "EINVAL");
}

/** `ioctl(fd, BLKFLSBUF)`: writes dirty pages back and drops the clean ones. Needs CAP_SYS_ADMIN. */
export async function blkFlsBuf(device: OpenFile): Promise<void> {
  await ioctlOnThread(device, "BLKFLSBUF", BLKFLSBUF);
}
