/**
 * How large a file system is, by its superblock: of those that the kernel can grow.
 *
 * @module
 */
import { __u32 } from "../base/struct.ts";
import { fieldsOf, type SteppedImage } from "./superblock.ts";
import type { Steps } from "../table/steps.ts";

/** A file system's size. */
export interface FileSystemSize {
  /** In bytes; of a btrfs on several devices, of its part on this one. */
  readonly size: number;
  /** In which it counts, in bytes. */
  readonly block: number;
  /** Of a btrfs: the number of this device. */
  readonly devid?: bigint;
}

const SUPERBLOCK = 1024;
const EXT = {
  s_blocks_count_lo: [0x4, __u32],
  s_log_block_size: [0x18, __u32],
  s_feature_incompat: [0x60, __u32],
  s_blocks_count_hi: [0x150, __u32],
} as const;
const EXT4_FEATURE_INCOMPAT_64BIT = 0x80;

function* ext(disk: SteppedImage): Steps<FileSystemSize> {
  const raw = yield* disk.read(1024, SUPERBLOCK);
  const fields = fieldsOf(raw, EXT);
  const isLarge = (fields.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT) !== 0;
  const blocks = fields.s_blocks_count_lo + (isLarge ? fields.s_blocks_count_hi * 2 ** 32 : 0);
  const block = 1024 * 2 ** fields.s_log_block_size;
  return { size: blocks * block, block };
}

/** Big-endian: sb_blocksize at 4, sb_dblocks at 8. */
function* xfs(disk: SteppedImage): Steps<FileSystemSize> {
  const { buffer, byteOffset } = yield* disk.read(0, 512);
  const view = new DataView(buffer, byteOffset);
  const block = view.getUint32(4);
  return { size: Number(view.getBigUint64(8)) * block, block };
}

/** struct btrfs_super_block: sectorsize, and dev_item of this device. */
const BTRFS = { sectorsize: [0x90, __u32] } as const;
const [DEVID, TOTAL_BYTES] = [0xc9, 0xd1];

function* btrfs(disk: SteppedImage): Steps<FileSystemSize> {
  const raw = yield* disk.read(65_536, 4096);
  const view = new DataView(raw.buffer, raw.byteOffset);
  return {
    size: Number(view.getBigUint64(TOTAL_BYTES, true)),
    block: fieldsOf(raw, BTRFS).sectorsize,
    devid: view.getBigUint64(DEVID, true),
  };
}

const SIZES: Readonly<Record<string, (disk: SteppedImage) => Steps<FileSystemSize>>> = {
  ext2: ext,
  ext3: ext,
  ext4: ext,
  xfs,
  btrfs,
};

/** The size of a file system of that type; undefined: the type is none of those. */
export function* sizeSteps(disk: SteppedImage, type: string): Steps<FileSystemSize | undefined> {
  return type in SIZES ? yield* SIZES[type](disk) : undefined;
}
