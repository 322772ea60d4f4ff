/**
 * The superblocks of Linux's own file systems, each with the header of the kernel that has its
 * fields, and the function that says what the driver wants of them.
 *
 * @module
 */
import { __u16, __u32, __u64, __u8, bytes } from "../base/struct.ts";
import { crc32_le, crc32c } from "../base/checksums.ts";
import { blake2b256, sha256, xxh64 } from "./digests.ts";
import type { Image } from "../table/disk.ts";
import {
  bigEndian,
  type Format,
  format,
  isPowerOfTwo,
  readWithin,
  textOf,
  unitsOf,
  utf16Text,
  uuidOf,
  withZeros,
} from "./superblock.ts";

const be16 = bigEndian(__u16);
const be32 = bigEndian(__u32);
const be64 = bigEndian(__u64);

/** Whether `n` lies between two bounds, both inclusive. */
const within = (n: number, least: number, most: number) => n >= least && n <= most;

/** Features that tell ext2, ext3 and ext4 apart (EXT2_FEATURE_…_SUPP, EXT3_FEATURE_…_SUPP). */
const HAS_JOURNAL = 0x0004;
const METADATA_CSUM = 0x0400;
const EXT2_INCOMPAT = 0x0012;
const EXT3_INCOMPAT = 0x0016;
const EXT3_RO_COMPAT = 0x0007;
const JOURNAL_DEV = 0x0008;

/**
 * struct ext4_super_block, fs/ext4/ext4.h; ext4_load_super() and ext4_check_feature_compatibility().
 * The three are one format: what tells them apart are the features that each knows.
 */
const ext = (
  type: string,
  isOne: (compat: number, incompat: number, roCompat: number) => boolean,
): Format =>
  format({
    type,
    start: 1024,
    length: 1024,
    magic: [[0x38, "\x53\xef"]],
    fields: {
      s_inodes_count: [0x0, __u32],
      s_log_block_size: [0x18, __u32],
      s_blocks_per_group: [0x20, __u32],
      s_inodes_per_group: [0x28, __u32],
      s_feature_compat: [0x5c, __u32],
      s_feature_incompat: [0x60, __u32],
      s_feature_ro_compat: [0x64, __u32],
      s_uuid: [0x68, bytes(16)],
      s_volume_name: [0x78, bytes(16)],
      s_checksum: [0x3fc, __u32],
    },
    isSound(s, raw) {
      if (s.s_inodes_count === 0 || s.s_log_block_size > 6) return false;
      if (s.s_blocks_per_group === 0 || s.s_inodes_per_group === 0) return false;
      if (s.s_feature_ro_compat & METADATA_CSUM) {
        if (crc32c(-1, raw.subarray(0, 0x3fc)) !== s.s_checksum) return false;
      }
      return isOne(s.s_feature_compat, s.s_feature_incompat, s.s_feature_ro_compat);
    },
    label: (s) => textOf(s.s_volume_name),
    uuid: (s) => uuidOf(s.s_uuid),
  });

const EXT: readonly Format[] = [
  ext(
    "ext2",
    (compat, incompat, roCompat) =>
      !(compat & HAS_JOURNAL) && !(incompat & ~EXT2_INCOMPAT) && !(roCompat & ~EXT3_RO_COMPAT),
  ),
  ext(
    "ext3",
    (compat, incompat, roCompat) =>
      !!(compat & HAS_JOURNAL) && !(incompat & ~EXT3_INCOMPAT) && !(roCompat & ~EXT3_RO_COMPAT),
  ),
  ext(
    "ext4",
    (_, incompat, roCompat) =>
      !(incompat & JOURNAL_DEV) && !!(incompat & ~EXT3_INCOMPAT || roCompat & ~EXT3_RO_COMPAT),
  ),
];

const MOREBITSBIT = 0x8000;
const CRCBIT = 0x100;
const XFS_CRC_OFFSET = 0xe0;
/** xfs_sb_validate_common() wants realtime extents of 4 KiB to 1 GiB. */
const RT_EXTENT = { least: 4 * 1024, most: 1024 ** 3 };

/** struct xfs_dsb, fs/xfs/libxfs/xfs_format.h; xfs_validate_sb_common(). */
const XFS = format({
  type: "xfs",
  start: 0,
  length: 512,
  magic: [[0, "XFSB"]],
  fields: {
    sb_blocksize: [0x4, be32],
    sb_dblocks: [0x8, be64],
    sb_uuid: [0x20, bytes(16)],
    sb_rextsize: [0x50, be32],
    sb_agblocks: [0x54, be32],
    sb_agcount: [0x58, be32],
    sb_versionnum: [0x64, be16],
    sb_sectsize: [0x66, be16],
    sb_inodesize: [0x68, be16],
    sb_fname: [0x6c, bytes(12)],
    sb_blocklog: [0x78, __u8],
    sb_sectlog: [0x79, __u8],
    sb_inodelog: [0x7a, __u8],
    sb_inopblog: [0x7b, __u8],
    sb_imax_pct: [0x7f, __u8],
    sb_features2: [0xc8, be32],
    sb_crc: [XFS_CRC_OFFSET, __u32],
  },
  isSound(s, _, disk) {
    const isLog = (size: number, log: number, least: number, most: number) =>
      within(log, least, most) && size === 2 ** log;
    if (!isLog(s.sb_sectsize, s.sb_sectlog, 9, 15)) return false;
    if (!isLog(s.sb_blocksize, s.sb_blocklog, 9, 16)) return false;
    if (!isLog(s.sb_inodesize, s.sb_inodelog, 8, 11)) return false;
    if (s.sb_blocklog - s.sb_inodelog !== s.sb_inopblog) return false;
    if (!within(s.sb_rextsize * s.sb_blocksize, RT_EXTENT.least, RT_EXTENT.most)) return false;
    if (s.sb_imax_pct > 100 || s.sb_agcount === 0) return false;
    const [blocks, count] = [BigInt(s.sb_agblocks), BigInt(s.sb_agcount)];
    if (s.sb_dblocks > count * blocks || s.sb_dblocks < (count - 1n) * blocks + 64n) return false;

    const version = s.sb_versionnum & 0xf;
    const hasCrc = (s.sb_versionnum & MOREBITSBIT) !== 0 && (s.sb_features2 & CRCBIT) !== 0;
    if (version !== (hasCrc ? 5 : 4)) return false;
    if (!hasCrc) return true;
    const sector = readWithin(disk, 0, s.sb_sectsize);
    return sector !== undefined &&
      ~crc32c(-1, withZeros(sector, XFS_CRC_OFFSET, 4)) >>> 0 === s.sb_crc;
  },
  label: (s) => textOf(s.sb_fname),
  uuid: (s) => uuidOf(s.sb_uuid),
});

const crc32cBytes = (data: Uint8Array) => {
  const sum = ~crc32c(-1, data);
  return Uint8Array.of(sum, sum >>> 8, sum >>> 16, sum >>> 24);
};

/** btrfs_csum_type → what makes the sum. */
const BTRFS_DIGESTS = [crc32cBytes, xxh64, sha256, blake2b256];
const BTRFS_SUPER_INFO_OFFSET = 64 * 1024;

/** struct btrfs_super_block, include/uapi/linux/btrfs_tree.h; btrfs_check_super_csum(). */
const BTRFS = format({
  type: "btrfs",
  start: BTRFS_SUPER_INFO_OFFSET,
  length: 4096,
  magic: [[0x40, "_BHRfS_M"]],
  fields: {
    csum: [0x0, bytes(32)],
    fsid: [0x20, bytes(16)],
    bytenr: [0x30, __u64],
    sectorsize: [0x90, __u32],
    csum_type: [0xc4, __u16],
    label: [0x12b, bytes(256)],
  },
  isSound(s, raw) {
    if (s.bytenr !== BigInt(BTRFS_SUPER_INFO_OFFSET) || !isPowerOfTwo(s.sectorsize)) return false;
    const sum = BTRFS_DIGESTS.at(s.csum_type)?.(raw.subarray(32));
    return sum !== undefined && sum.every((byte, i) => byte === s.csum[i]);
  },
  label: (s) => textOf(s.label),
  uuid: (s) => uuidOf(s.fsid),
});

const F2FS_MAGIC = 0xf2f52010;
const SB_CHKSUM = 0x800;
const F2FS_CRC_OFFSET = 0xbfc;

/** struct f2fs_super_block, include/linux/f2fs_fs.h; sanity_check_raw_super(). The first of two. */
const F2FS = format({
  type: "f2fs",
  start: 1024,
  length: 3072,
  magic: [[0, "\x10\x20\xf5\xf2"]],
  fields: {
    major_ver: [0x4, __u16],
    minor_ver: [0x6, __u16],
    log_sectorsize: [0x8, __u32],
    log_sectors_per_block: [0xc, __u32],
    log_blocksize: [0x10, __u32],
    log_blocks_per_seg: [0x14, __u32],
    checksum_offset: [0x20, __u32],
    root_ino: [0x60, __u32],
    node_ino: [0x64, __u32],
    meta_ino: [0x68, __u32],
    uuid: [0x6c, bytes(16)],
    volume_name: [0x7c, bytes(1024)],
    feature: [0x884, __u32],
    crc: [F2FS_CRC_OFFSET, __u32],
  },
  isSound(s, raw) {
    // A block is a page of the machine that made it: 4 KiB to 64 KiB.
    if (!within(s.log_blocksize, 12, 16) || s.log_blocks_per_seg !== 9) return false;
    if (!within(s.log_sectorsize, 9, s.log_blocksize)) return false;
    if (s.log_sectors_per_block !== s.log_blocksize - s.log_sectorsize) return false;
    if (s.node_ino !== 1 || s.meta_ino !== 2 || s.root_ino !== 3) return false;
    if (s.checksum_offset === 0 && !(s.feature & SB_CHKSUM)) return true;
    return s.checksum_offset === F2FS_CRC_OFFSET &&
      crc32_le(F2FS_MAGIC, raw.subarray(0, F2FS_CRC_OFFSET)) === s.crc;
  },
  label: (s) => isVersion10(s) ? undefined : utf16Text(unitsOf(s.volume_name, true)),
  uuid: (s) => isVersion10(s) ? undefined : uuidOf(s.uuid),
});

/** Its fields lay elsewhere: blkid says neither label nor UUID of it. */
function isVersion10({ major_ver, minor_ver }: { major_ver: number; minor_ver: number }): boolean {
  return major_ver === 1 && minor_ver === 0;
}

/** struct squashfs_super_block, fs/squashfs/squashfs_fs.h; squashfs_fill_super(). No checksum. */
const SQUASHFS = format({
  type: "squashfs",
  start: 0,
  length: 96,
  magic: [[0, "hsqs"]],
  fields: {
    block_size: [0xc, __u32],
    compression: [0x14, __u16],
    block_log: [0x16, __u16],
    no_ids: [0x1a, __u16],
    s_major: [0x1c, __u16],
    s_minor: [0x1e, __u16],
    root_inode: [0x20, __u64],
    bytes_used: [0x28, __u64],
    id_table_start: [0x30, __u64],
    inode_table_start: [0x40, __u64],
    directory_table_start: [0x48, __u64],
  },
  isSound(s) {
    if (s.s_major !== 4 || s.s_minor !== 0) return false;
    if (!within(s.block_log, 12, 20) || s.block_size !== 2 ** s.block_log) return false;
    if (!within(s.compression, 1, 6) || s.no_ids === 0) return false;
    if ((s.root_inode & 0xffffn) > 8192n || s.bytes_used >= 2n ** 63n) return false;
    return s.inode_table_start < s.directory_table_start &&
      s.directory_table_start < s.id_table_start && s.id_table_start < s.bytes_used;
  },
});

const EROFS_OFFSET = 1024;
const SB_CHKSUM_EROFS = 0x1;

/** struct erofs_super_block, fs/erofs/erofs_fs.h; erofs_read_superblock(). */
const EROFS = format({
  type: "erofs",
  start: EROFS_OFFSET,
  length: 128,
  magic: [[0, "\xe2\xe1\xf5\xe0"]],
  fields: {
    checksum: [0x4, __u32],
    feature_compat: [0x8, __u32],
    blkszbits: [0xc, __u8],
    uuid: [0x30, bytes(16)],
    volume_name: [0x40, bytes(16)],
  },
  isSound(s, _, disk) {
    if (!within(s.blkszbits, 9, 16)) return false;
    if (!(s.feature_compat & SB_CHKSUM_EROFS)) return true;
    const block = erofsBlock(disk, s.blkszbits);
    return block !== undefined && crc32c(-1, withZeros(block, 4, 4)) === s.checksum;
  },
  label: (s) => textOf(s.volume_name),
  uuid: (s) => uuidOf(s.uuid),
});

/** What the sum is of: the rest of the block that has the superblock in it, or the one block. */
function erofsBlock(disk: Image, bits: number): Uint8Array | undefined {
  const size = 2 ** bits;
  return readWithin(disk, EROFS_OFFSET, size > EROFS_OFFSET ? size - EROFS_OFFSET : size);
}

/** In blkid's order. */
export const SUPERBLOCKS: readonly Format[] = [XFS, ...EXT, SQUASHFS, BTRFS, F2FS, EROFS];
