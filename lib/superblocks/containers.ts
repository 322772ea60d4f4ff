/**
 * What a disk can hold in place of a file system: other disks, encrypted, joined or cached, and swap
 * space. Their superblocks lie beside a file system's, which the same disk can still show: that of a
 * RAID's first half is whole. To mount it would spoil the rest.
 *
 * @module
 */
import { __u32, __u64 } from "../base/struct.ts";
import type { Image } from "../table/disk.ts";
import { bigEndian, fieldsOf, has, readWithin } from "./superblock.ts";

/** What a disk holds, by what it has where. */
interface Container {
  readonly name: string;
  /** Where one of its magic strings can stand, in bytes, and the string as Latin-1. */
  readonly magic: readonly (readonly [offset: number, value: string])[];
}

const PAGE_SIZES = [4096, 8192, 16_384, 32_768, 65_536];
const atPageEnd = (value: string, fromEnd: number) =>
  PAGE_SIZES.map((size) => [size - fromEnd, value] as const);

const CONTAINERS: readonly Container[] = [
  { name: "LUKS", magic: [[0, "LUKS\xba\xbe"]] },
  {
    name: "BitLocker",
    magic: [
      [3, "-FVE-FS-"],
      // On removable disks it lets itself be taken for FAT32.
      [0x1a8, "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01"],
    ],
  },
  {
    name: "LVM",
    magic: [0, 1, 2, 3].map((sector) => [512 * sector + 0x18, "LVM2 001"]),
  },
  {
    name: "bcache",
    magic: [[4096 + 0x18, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"]],
  },
  // The last ten bytes of the first page, of a machine with pages of that size.
  { name: "swap", magic: [...atPageEnd("SWAPSPACE2", 10), ...atPageEnd("SWAP-SPACE", 10)] },
  {
    name: "a hibernated system",
    magic: ["S1SUSPEND", "S2SUSPEND", "ULSUSPEND", "LINHIB0001"].flatMap((value) =>
      atPageEnd(value, 10)
    ),
  },
];

const MD_SB_MAGIC = 0xa92b4efc;

/** struct mdp_superblock_1, include/uapi/linux/raid/md_p.h. */
const MD_1 = { magic: [0, __u32], major_version: [4, __u32], super_offset: [0x90, __u64] } as const;
/** struct mdp_superblock_s, of either byte order. */
const MD_0 = { md_magic: [0, __u32] } as const;
const MD_0_BIG = { md_magic: [0, bigEndian(__u32)] } as const;

/** Whether it is a part of an md array. Metadata 1.1 and 1.2 lie at the beginning, the rest at the end. */
function isRaidMember(disk: Image): boolean {
  const lastOf1 = Math.floor(disk.size / 4096) * 4096 - 8192;
  for (const offset of [0, 4096, lastOf1]) {
    const raw = readWithin(disk, offset, 256);
    const fields = raw && fieldsOf(raw, MD_1);
    if (fields?.magic !== MD_SB_MAGIC || fields.major_version !== 1) continue;
    if (fields.super_offset === BigInt(offset / 512)) return true;
  }
  const raw = readWithin(disk, Math.floor(disk.size / 65_536) * 65_536 - 65_536, 4096);
  return raw !== undefined &&
    [MD_0, MD_0_BIG].some((fields) => fieldsOf(raw, fields).md_magic === MD_SB_MAGIC);
}

/** "LUKS", "LVM", "RAID", "swap"…: what a disk holds that cannot be mounted; undefined if nothing. */
export function findContainer(disk: Image): string | undefined {
  if (isRaidMember(disk)) return "RAID";
  return CONTAINERS.find(({ magic }) =>
    magic.some(([offset, value]) => {
      const raw = readWithin(disk, offset, value.length);
      return raw !== undefined && has(raw, 0, value);
    })
  )?.name;
}
