/**
 * The superblocks that have their label and UUID in themselves: of file systems, and of containers, which
 * another driver opens: arrays, volume groups, encrypted disks, caches, swap. Each row names the struct
 * that has its fields.
 *
 * @module
 */
import { __u16, __u32, __u64 } from "../base/struct.ts";
import { findTableSteps } from "../table/sector_size.ts";
import {
  fieldsOf,
  hasBytes,
  isWithin,
  labelAt,
  type Magic,
  type Row,
  serialOf,
  textOf,
  utf16Text,
  uuidAt,
} from "./superblock.ts";

const KIB = 1024;

const MD_MAGIC = "\xfc\x4e\x2b\xa9";

/** struct mdp_superblock_1, include/uapi/linux/raid/md_p.h: 1.1 and 1.2 at the beginning, 1.0 at the end. */
const MD_1 = [0, 4 * KIB, (size: number) => Math.floor(size / 4096) * 4096 - 8192];
/** struct mdp_superblock_s, 0.90: where the last whole 64 KiB begin, in the byte order of its machine. */
const MD_0 = (size: number) => Math.floor(size / 65_536) * 65_536 - 65_536;

/** Where the last ten bytes of a page are, on machines with pages of that size. */
const atPageEnd = (values: readonly string[]): Magic[] =>
  [4, 8, 16, 32, 64].flatMap((kib) => values.map((value): Magic => [kib * KIB - 10, value]));

/** union swap_header, include/linux/swap.h. */
const SWAP = {
  start: 0,
  length: 4 * KIB,
  label: labelAt(KIB + 28, 16),
  uuid: uuidAt(KIB + 12),
} as const;

/** Whether version and count of pages are right. Both are in the byte order of the machine. */
function isSwap(raw: Uint8Array): boolean {
  const { version, last_page } = fieldsOf(raw, {
    version: [KIB, __u32],
    last_page: [KIB + 4, __u32],
  });
  return (version === 1 || version === 0x01000000) && last_page !== 0;
}

/** A UUID that is stored as text. Whoever made the image can have written any bytes there. */
function writtenUuid(raw: Uint8Array): string | undefined {
  const text = textOf(raw);
  return text !== undefined && /^[-\w]+$/.test(text) ? text : undefined;
}

export const CONTAINERS: readonly Row[] = [
  ...MD_1.map((start): Row => ({
    type: "linux_raid_member",
    usage: "raid",
    start,
    length: 256,
    magic: [[0, `${MD_MAGIC}\x01\0\0\0`]],
    isOne: (raw, start) =>
      fieldsOf(raw, { super_offset: [0x90, __u64] }).super_offset === BigInt(start / 512),
    label: labelAt(0x20, 32),
    uuid: uuidAt(0x10),
  })),
  {
    type: "linux_raid_member",
    usage: "raid",
    start: MD_0,
    length: 256,
    magic: [[0, MD_MAGIC], [0, [...MD_MAGIC].reverse().join("")]],
    *names(raw, { size }) {
      // If a disk's last partition ends with the disk, the member's superblock is at the end of both.
      const { partitions } = yield* findTableSteps(size, "auto");
      if (partitions.some((each) => each.start + each.size > MD_0(size))) return undefined;
      const uuid = Uint8Array.of(...raw.subarray(0x14, 0x18), ...raw.subarray(0x34, 0x40));
      const isBig = raw[0] === 0xa9;
      for (let at = 0; at < 16 && !isBig; at += 4) uuid.subarray(at, at + 4).reverse();
      return { uuid: uuidAt(0)(uuid) };
    },
  },
  // struct cache_sb, drivers/md/bcache/bcache_ondisk.h
  {
    type: "bcache",
    usage: "other",
    start: 4 * KIB,
    magic: [[0x18, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"]],
    label: labelAt(0x48, 32),
    uuid: uuidAt(0x28),
  },
  // LVM2's lib/format_text/layout.h: the label is in one of the first four sectors
  ...[0, 1, 2, 3].map((sector): Row => ({
    type: "LVM2_member",
    usage: "raid",
    start: 512 * sector,
    magic: [[0x18, "LVM2 001"]],
    isOne: (raw) => hasBytes(raw, 0, "LABELONE"),
    uuid: (raw) => writtenUuid(raw.subarray(0x20, 0x40))?.replace(/^.{6}|.{4}(?=.{6})/g, "$&-"),
  })),
  // LUKS2's on-disk format, 2.1; version 1 has the same beginning, and no label
  {
    type: "crypto_LUKS",
    usage: "crypto",
    start: 0,
    magic: [[0, "LUKS\xba\xbe"]],
    label: (raw) => raw[7] === 2 ? textOf(raw.subarray(0x18, 0x48)) : undefined,
    uuid: (raw) => writtenUuid(raw.subarray(0xa8, 0xd0)),
  },
  {
    type: "BitLocker",
    usage: "crypto",
    start: 0,
    magic: [
      [3, "-FVE-FS-"],
      // On removable disks it has the boot sector of a FAT32.
      [0x1a8, "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01"],
    ],
  },
  {
    type: "swsuspend",
    usage: "other",
    ...SWAP,
    magic: atPageEnd(["S1SUSPEND", "S2SUSPEND", "ULSUSPEND", "LINHIB0001"]),
  },
  { type: "swap", usage: "swap", ...SWAP, magic: atPageEnd(["SWAPSPACE2"]), isOne: isSwap },
  // Version 0 has neither label nor UUID.
  { type: "swap", usage: "swap", start: 0, length: 4 * KIB, magic: atPageEnd(["SWAP-SPACE"]) },
];

/** Features that tell ext2, ext3 and ext4 apart (EXT2_FEATURE_…_SUPP, EXT3_FEATURE_…_SUPP). */
const HAS_JOURNAL = 0x0004;
const JOURNAL_DEV = 0x0008;
const EXT2_INCOMPAT = 0x0012;
const EXT3_INCOMPAT = 0x0016;
const EXT3_RO_COMPAT = 0x0007;

/**
 * Which of the three it is: the format is one, and each driver knows some of its features. A journal on a
 * device of its own has the format, too, and is no file system.
 */
function extOf(raw: Uint8Array): string | undefined {
  const s = fieldsOf(raw, {
    s_inodes_count: [0x0, __u32],
    s_log_block_size: [0x18, __u32],
    s_feature_compat: [0x5c, __u32],
    s_feature_incompat: [0x60, __u32],
    s_feature_ro_compat: [0x64, __u32],
  });
  // Other data has the two bytes of the magic number by chance.
  if (s.s_inodes_count === 0 || s.s_log_block_size > 6) return undefined;
  if (s.s_feature_incompat & JOURNAL_DEV) return undefined;
  if (s.s_feature_incompat & ~EXT3_INCOMPAT || s.s_feature_ro_compat & ~EXT3_RO_COMPAT) {
    return "ext4";
  }
  if (s.s_feature_compat & HAS_JOURNAL) return "ext3";
  return s.s_feature_incompat & ~EXT2_INCOMPAT ? undefined : "ext2";
}

/** struct ext4_super_block, fs/ext4/ext4.h. */
const EXT: Row = {
  type: "ext4",
  start: KIB,
  length: KIB,
  magic: [[0x38, "\x53\xef"]],
  typeOf: extOf,
  label: labelAt(0x78, 16),
  uuid: uuidAt(0x68),
};

/** struct nilfs_super_block, include/uapi/linux/nilfs2_ondisk.h. Revision 2 is the only one. */
const NILFS2: Row = {
  type: "nilfs2",
  start: KIB,
  length: KIB,
  magic: [[6, "\x34\x34"]],
  isOne(raw) {
    const s = fieldsOf(raw, {
      s_rev_level: [0x0, __u32],
      s_bytes: [0x8, __u16],
      s_log_block_size: [0x14, __u32],
    });
    return s.s_rev_level === 2 && isWithin(s.s_bytes, 20, KIB) && s.s_log_block_size <= 6;
  },
  label: labelAt(0xa8, 80),
  uuid: uuidAt(0x98),
};

/** struct f2fs_super_block, include/linux/f2fs_fs.h. Version 1.0 had label and UUID elsewhere. */
const F2FS: Row = {
  type: "f2fs",
  start: KIB,
  length: 3 * KIB,
  magic: [[0, "\x10\x20\xf5\xf2"]],
  label: (raw) => isVersion10(raw) ? undefined : utf16Text(raw.subarray(0x7c, 0x47c), true),
  uuid: (raw) => isVersion10(raw) ? undefined : uuidAt(0x6c)(raw),
};
const isVersion10 = (raw: Uint8Array) => hasBytes(raw, 4, "\x01\0\0\0");

export const FILE_SYSTEMS: readonly Row[] = [
  // struct xfs_dsb, fs/xfs/libxfs/xfs_format.h
  {
    type: "xfs",
    start: 0,
    magic: [[0, "XFSB"]],
    label: labelAt(0x6c, 12),
    uuid: uuidAt(0x20),
  },
  EXT,
  // struct jfs_superblock, fs/jfs/jfs_superblock.h
  {
    type: "jfs",
    start: 32 * KIB,
    magic: [[0, "JFS1"]],
    label: labelAt(0x98, 16),
    uuid: uuidAt(0x88),
  },
  // struct hfsplus_vh, include/linux/hfs_common.h; the label is in the catalog
  { type: "hfsplus", start: KIB, magic: [[0, "H+\0\x04"], [0, "HX\0\x05"]] },
  // struct NTFS_BOOT, fs/ntfs3/ntfs.h; the label is in a file
  {
    type: "ntfs",
    start: 0,
    magic: [[3, "NTFS    "]],
    uuid: (raw) => serialOf(raw.subarray(0x48, 0x50)),
  },
  // struct squashfs_super_block, fs/squashfs/squashfs_fs.h; Linux mounts version 4 alone
  { type: "squashfs", start: 0, length: 96, magic: [[0, "hsqs"]], isOne: (raw) => raw[0x1c] === 4 },
  // struct btrfs_super_block, include/uapi/linux/btrfs_tree.h
  {
    type: "btrfs",
    start: 64 * KIB,
    length: 4 * KIB,
    magic: [[0x40, "_BHRfS_M"]],
    label: labelAt(0x12b, 256),
    uuid: uuidAt(0x20),
  },
  NILFS2,
  F2FS,
  // struct erofs_super_block, fs/erofs/erofs_fs.h
  {
    type: "erofs",
    start: KIB,
    length: 128,
    magic: [[0, "\xe2\xe1\xf5\xe0"]],
    label: labelAt(0x40, 16),
    uuid: uuidAt(0x30),
  },
];
