/**
 * Files that hold a disk and are none: images in a virtual machine's own format, compressed files and
 * archives. The kernel attaches each as it is, and the device then shows the wrapper's bytes: no
 * partition, no file system, and whoever writes to it destroys the image.
 *
 * Each row wants the whole magic string and what else the format says of its header. What shows a
 * partition table, a file system or a container is a disk all the same: the caller looks for those.
 *
 * @module
 */
import { __u16, __u32, __u64, __u8 } from "../base/struct.ts";
import { crc32 } from "../base/checksums.ts";
import { type Steps, wanted } from "../table/steps.ts";
import { bigEndian, fieldsOf, hasBytes, isPowerOfTwo, isWithin } from "./superblock.ts";

/** What a file is, and how a disk is made of it. */
export interface Wrapper {
  /** With its article: "a qcow2 image". */
  readonly name: string;
  /** A command line: FILE stands for the file, DISK for the image to be made. */
  readonly command: string;
}

/** How one is known. */
interface Row extends Wrapper {
  /** Its magic string as Latin-1, and where it stands: bytes from the beginning, or before the end. */
  readonly magic: string;
  readonly at?: number;
  /** Whether the rest of that sector is what the format says. Left out: there is nothing to tell. */
  isSound?(raw: Uint8Array, first: Uint8Array): boolean;
  /** Bytes that stand in one of two more places. */
  readonly also?: { readonly magic: string; readonly at: readonly number[] };
}

const SECTOR = 512;
const be32 = bigEndian(__u32);

const read = fieldsOf;

const CONVERT = "qemu-img convert -O raw FILE DISK";

/** QEMU's docs/interop/qcow2.txt; version 1 has its fields elsewhere (block/qcow.c). */
const QCOW = "QFI\xfb";
const isQcow2 = (raw: Uint8Array) => {
  const { version, cluster_bits } = read(raw, { version: [4, be32], cluster_bits: [20, be32] });
  return isWithin(version, 2, 3) && isWithin(cluster_bits, 9, 21);
};
const isQcow1 = (raw: Uint8Array) => {
  const { version, cluster_bits } = read(raw, { version: [4, be32], cluster_bits: [32, __u8] });
  return version === 1 && isWithin(cluster_bits, 9, 16);
};

/** VMDK's SparseExtentHeader: VMware's "Virtual Disk Format 5.0". */
const isVmdk = (raw: Uint8Array) => {
  const { version, capacity, grainSize } = read(raw, {
    version: [4, __u32],
    capacity: [12, __u64],
    grainSize: [20, __u64],
  });
  return isWithin(version, 1, 3) && capacity > 0n && isPowerOfTwo(Number(grainSize));
};

/** VirtualBox's VDIHeader; its text ends behind ">>>". */
const isVdi = (raw: Uint8Array) => {
  const { signature, major } = read(raw, { signature: [0x40, __u32], major: [0x46, __u16] });
  return signature === 0xbeda107f && major <= 1;
};

/** The footer of a VHD: a dynamic one begins with a copy, a fixed one is a raw disk with a footer. */
const isVhd = (raw: Uint8Array, least: number, most: number) => {
  const { version, type, checksum } = read(raw, {
    version: [12, be32],
    type: [60, be32],
    checksum: [64, be32],
  });
  const sum = raw.reduce((sum, byte, i) => isWithin(i, 64, 67) ? sum : sum + byte, 0);
  return version === 0x10000 && isWithin(type, least, most) && ~sum >>> 0 === checksum;
};

/** QEMU's docs/interop/qed_spec.txt. */
const isQed = (raw: Uint8Array) => {
  const { cluster_size, table_size } = read(raw, {
    cluster_size: [4, __u32],
    table_size: [8, __u32],
  });
  return isPowerOfTwo(cluster_size) && cluster_size >= 4096 && isWithin(table_size, 1, 16);
};

/** QEMU's docs/interop/parallels.txt. */
const isParallels = (raw: Uint8Array) => {
  const { version, sectors } = read(raw, { version: [16, __u32], sectors: [36, __u64] });
  return version === 2 && sectors > 0n;
};

/** The trailer of Apple's UDIF; a disk that is stored as it is begins with its map of drivers, "ER". */
const isUdif = (raw: Uint8Array, first: Uint8Array) => {
  const { version, headerSize } = read(raw, { version: [4, be32], headerSize: [8, be32] });
  return version === 4 && headerSize === SECTOR && !hasBytes(first, 0, "ER");
};

/** AOSP's system/core/libsparse/sparse_format.h. */
const isAndroidSparse = (raw: Uint8Array) => {
  const header = read(raw, {
    major_version: [4, __u16],
    file_hdr_sz: [8, __u16],
    chunk_hdr_sz: [10, __u16],
    blk_sz: [12, __u32],
  });
  return header.major_version === 1 && header.file_hdr_sz >= 28 && header.chunk_hdr_sz >= 12 &&
    header.blk_sz > 0 && header.blk_sz % 4 === 0;
};

/** Stream flags and their checksum: tukaani.org/xz/xz-file-format.txt, 2.1.1. */
const isXz = (raw: Uint8Array) => {
  const { none, check, sum } = read(raw, { none: [6, __u8], check: [7, __u8], sum: [8, __u32] });
  return none === 0 && check <= 15 && crc32(raw.subarray(6, 8)) === sum;
};

/** RFC 1952: deflate is the only method; of the flags three bits are reserved. */
const isGzip = (raw: Uint8Array) => {
  const { flags, extra, system } = read(raw, {
    flags: [3, __u8],
    extra: [8, __u8],
    system: [9, __u8],
  });
  return (flags & 0xe0) === 0 && [0, 2, 4].includes(extra) && (system <= 13 || system === 255);
};

/** RFC 8878, 3.1.1.1: one bit of the descriptor is reserved. */
const isZstd = (raw: Uint8Array) => (raw[4] & 0x08) === 0;

/** The level, and the magic number of the first block, or of the end of a stream without any. */
const isBzip2 = (raw: Uint8Array) =>
  isWithin(raw[3], 0x31, 0x39) &&
  (hasBytes(raw, 4, "1AY&SY") || hasBytes(raw, 4, "\x17\x72\x45\x38\x50\x90"));

/** lz4_Frame_format.md: version 1; sizes of blocks from 64 KiB to 4 MiB; the rest is reserved. */
const isLz4 = (raw: Uint8Array) =>
  (raw[4] & 0xc2) === 0x40 && (raw[5] & 0x8f) === 0 && isWithin(raw[5] >> 4, 4, 7);

/** PKWARE's APPNOTE.TXT, 4.3.7: the version that is needed is 6.3 at most. */
const isZip = (raw: Uint8Array) => {
  const { version, method, name } = read(raw, {
    version: [4, __u8],
    method: [8, __u16],
    name: [26, __u16],
  });
  return version <= 63 && method <= 99 && name > 0;
};

/** 7zFormat.txt: the version, and the checksum of the header's second part. */
const is7z = (raw: Uint8Array) => {
  const { major, sum } = read(raw, { major: [6, __u8], sum: [8, __u32] });
  return major === 0 && crc32(raw.subarray(12, 32)) === sum;
};

/** The header's checksum, in octal: the sum of its bytes, its own being spaces. */
const isTar = (raw: Uint8Array) => {
  const sum = raw.reduce((sum, byte, i) => sum + (isWithin(i, 148, 155) ? 0x20 : byte), 0);
  const text = String.fromCharCode(...raw.subarray(148, 156)).replace(/[\0 ]+$/, "").trim();
  return /^[0-7]+$/.test(text) && parseInt(text, 8) === sum;
};

/** MS-VHDX: one of its two headers stands at 64 KiB, the other at 128 KiB. */
const VHDX_HEADER = { magic: "head", at: [64 * 1024, 128 * 1024] };

const ROWS: readonly Row[] = [
  { name: "a qcow2 image", magic: QCOW, isSound: isQcow2, command: CONVERT },
  { name: "a qcow image", magic: QCOW, isSound: isQcow1, command: CONVERT },
  { name: "a QED image", magic: "QED\0", isSound: isQed, command: CONVERT },
  { name: "a VMDK image", magic: "KDMV", isSound: isVmdk, command: CONVERT },
  { name: "the description of a VMDK image", magic: "# Disk DescriptorFile", command: CONVERT },
  { name: "a VDI image", magic: "<<< ", isSound: isVdi, command: CONVERT },
  { name: "a VHDX image", magic: "vhdxfile", also: VHDX_HEADER, command: CONVERT },
  {
    name: "a VHD image",
    magic: "conectix",
    isSound: (raw) => isVhd(raw, 3, 4),
    command: CONVERT,
  },
  { name: "a Parallels image", magic: "WithoutFreeSpace", isSound: isParallels, command: CONVERT },
  { name: "a Parallels image", magic: "WithouFreSpacExt", isSound: isParallels, command: CONVERT },
  {
    name: "an Apple disk image (dmg)",
    magic: "koly",
    at: -SECTOR,
    isSound: isUdif,
    command: "qemu-img convert -f dmg -O raw FILE DISK",
  },
  {
    name: "an Android sparse image",
    magic: "\x3a\xff\x26\xed",
    isSound: isAndroidSparse,
    command: "simg2img FILE DISK",
  },
  { name: "compressed by xz", magic: "\xfd7zXZ\0", isSound: isXz, command: "xz -dc <FILE >DISK" },
  {
    name: "compressed by gzip",
    magic: "\x1f\x8b\x08",
    isSound: isGzip,
    command: "gzip -dc <FILE >DISK",
  },
  {
    name: "compressed by zstd",
    magic: "\x28\xb5\x2f\xfd",
    isSound: isZstd,
    command: "zstd -dc <FILE >DISK",
  },
  { name: "compressed by bzip2", magic: "BZh", isSound: isBzip2, command: "bzip2 -dc <FILE >DISK" },
  {
    name: "compressed by lz4",
    magic: "\x04\x22\x4d\x18",
    isSound: isLz4,
    command: "lz4 -dc <FILE >DISK",
  },
  { name: "a zip archive", magic: "PK\x03\x04", isSound: isZip, command: "unzip FILE" },
  { name: "a 7z archive", magic: "7z\xbc\xaf\x27\x1c", isSound: is7z, command: "7zz x FILE" },
  { name: "a tar archive", magic: "ustar", at: 257, isSound: isTar, command: "tar -xf FILE" },
];

/** What the file is instead of a disk, by its first and its last sector; undefined: nothing known. */
export function* findWrapper(size: number): Steps<Wrapper | undefined> {
  if (size < SECTOR) return undefined;
  const first = yield* wanted(0, SECTOR);
  const last = yield* wanted(size - SECTOR, SECTOR);
  for (const { magic, at = 0, isSound, also, name, command } of ROWS) {
    const raw = at < 0 ? last : first;
    if (!hasBytes(raw, Math.max(0, at), magic) || isSound?.(raw, first) === false) continue;
    if (also === undefined || (yield* isThere(also, size))) return { name, command };
  }
  return undefined;
}

/** The format of a raw disk whose last sector says so, with its article; undefined: none that is known. */
export function* findFooter(size: number): Steps<string | undefined> {
  if (size < SECTOR) return undefined;
  const last = yield* wanted(size - SECTOR, SECTOR);
  return hasBytes(last, 0, "conectix") && isVhd(last, 2, 2)
    ? "a VHD image of fixed size"
    : undefined;
}

function* isThere({ magic, at }: NonNullable<Row["also"]>, size: number): Steps<boolean> {
  for (const offset of at) {
    if (offset + magic.length > size) continue;
    if (hasBytes(yield* wanted(offset, magic.length), 0, magic)) return true;
  }
  return false;
}

/** What is said of it, and what can be done. */
export function describeWrapper({ name, command }: Wrapper): string {
  return `it is ${name}, not a raw disk: convert it first (${command}), and attach what that makes`;
}
