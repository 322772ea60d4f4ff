/**
 * ISO 9660 and UDF, the file systems of discs and of installers' images. Both leave the first 32 KiB
 * to others.
 *
 * @module
 */
import { __u16, __u32, __u8, bytes } from "../base/struct.ts";
import { crc_itu_t } from "../base/checksums.ts";
import type { Image } from "../table/disk.ts";
import {
  fieldsOf,
  type FileSystem,
  type Format,
  has,
  hex,
  readWithin,
  textOf,
  unitsOf,
  utf16Text,
} from "./superblock.ts";

const SECTOR = 2048;
/** Where both have their descriptors, one a sector. */
const DESCRIPTORS = 16 * SECTOR;
/** blkid looks no further; real discs have two to four. */
const MOST_DESCRIPTORS = 16;

/** struct iso_primary_descriptor and iso_supplementary_descriptor, include/uapi/linux/iso_fs.h. */
const VOLUME_DESCRIPTOR = {
  type: [0x0, __u8],
  volume_id: [0x28, bytes(32)],
  escape: [0x58, bytes(32)],
  logical_block_size: [0x80, __u16],
  root_directory_record: [0x9c, bytes(34)],
  creation_date: [0x32d, bytes(17)],
  modification_date: [0x33e, bytes(17)],
} as const;

const ISO_VD_PRIMARY = 1;
const ISO_VD_SUPPLEMENTARY = 2;
const ISO_VD_END = 255;

function volumeDescriptors(disk: Image) {
  const found = [];
  for (let n = 0; n < MOST_DESCRIPTORS; n++) {
    const raw = readWithin(disk, DESCRIPTORS + n * SECTOR, SECTOR);
    if (!raw || !has(raw, 1, "CD001") || raw[0] === ISO_VD_END) break;
    found.push(fieldsOf(raw, VOLUME_DESCRIPTOR));
  }
  return found;
}

/** isofs_fill_super(); and the root directory must be one, as newer blkid wants it. */
const ISO9660: Format = {
  type: "iso9660",
  start: DESCRIPTORS,
  length: SECTOR,
  magic: [[1, "CD001"]],
  describe(_, disk) {
    const all = volumeDescriptors(disk);
    const primary = all.find(({ type }) => type === ISO_VD_PRIMARY);
    if (!primary || ![512, 1024, 2048].includes(primary.logical_block_size)) return undefined;
    if (!hasRootDirectory(disk, primary.root_directory_record, primary.logical_block_size)) {
      return undefined;
    }
    const joliet = all.find(({ type, escape }) =>
      type === ISO_VD_SUPPLEMENTARY &&
      ["%/@", "%/C", "%/E"].some((level) => has(escape, 0, level))
    );
    // blkid takes the first that is set, damaged or not: of the other there would be no link.
    const date = [primary.modification_date, primary.creation_date].find(isSet);
    return {
      label: joliet ? jolietLabel(joliet.volume_id, primary.volume_id) : textOf(primary.volume_id),
      uuid: date && dateOf(date),
    };
  },
};

const RECORD_SIZE = 34;

/** struct iso_directory_record: the first one of a directory names the directory itself. */
function hasRootDirectory(disk: Image, record: Uint8Array, blockSize: number): boolean {
  const extentOf = (raw: Uint8Array) => fieldsOf(raw, { extent: [2, __u32] }).extent;
  const extent = extentOf(record);
  const self = readWithin(disk, extent * blockSize, RECORD_SIZE);
  return self !== undefined && self[0] >= RECORD_SIZE && self[32] === 1 && self[33] === 0 &&
    extentOf(self) === extent;
}

/** ECMA-119, 8.4.26.1: sixteen digits 0 and an offset of 0 say that there is no date. */
const isSet = (raw: Uint8Array) =>
  raw[16] !== 0 || raw.subarray(0, 16).some((digit) => digit !== 0x30);

/** "2026-01-31-23-59-59-00"; undefined if it is no date. */
function dateOf(raw: Uint8Array): string | undefined {
  const digits = String.fromCharCode(...raw.subarray(0, 16));
  const fields = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$/.exec(digits);
  return fields?.slice(1).join("-");
}

const UNDERSCORE = 0x5f;

/**
 * Joliet has 16 characters of Unicode, the primary descriptor up to 32 in capitals, with "_" for what
 * it cannot write: together they give the name that the maker of the disc was told.
 */
function jolietLabel(joliet: Uint8Array, primary: Uint8Array): string | undefined {
  const units = unitsOf(joliet, false);
  return utf16Text(mergedLabel(units, primary) ?? units);
}

/** Undefined if one is no beginning of the other. */
function mergedLabel(units: readonly number[], primary: Uint8Array): number[] | undefined {
  const merged: number[] = [];
  let at = 0;
  for (let i = 0; i < units.length && at < primary.length; i++, at++) {
    if (isSurrogate(units[i], 0xd800) && isSurrogate(units[i + 1], 0xdc00)) merged.push(units[i++]);
    const [unit, byte] = [units[i], primary[at]];
    if (byte === UNDERSCORE) merged.push(unit);
    else if (unit === UNDERSCORE) merged.push(byte);
    else if (capital(unit) !== capital(byte)) return undefined;
    else merged.push(byte === capital(byte) ? unit : byte);
  }
  return [...merged, ...primary.subarray(at)];
}

const isSurrogate = (unit: number | undefined, first: number) =>
  unit !== undefined && unit >= first && unit < first + 0x400;
const capital = (code: number) => code >= 0x61 && code <= 0x7a ? code - 0x20 : code;

/** Bytes of a block of UDF, which the descriptors do not say. */
const BLOCK_SIZES = [512, 1024, 2048, 4096];
const MOST_STRUCTURES = 64;
const MOST_SEQUENCE = 64;
const ANCHORS = [256, 512];
const TAG_PRIMARY = 1;
const TAG_ANCHOR = 2;
const TAG_LOGICAL = 6;
const TAG_TERMINATING = 8;

/** struct tag, fs/udf/ecma_167.h. */
const TAG = {
  tagIdent: [0x0, __u16],
  descVersion: [0x2, __u16],
  tagChecksum: [0x4, __u8],
  descCRC: [0x8, __u16],
  descCRCLength: [0xa, __u16],
  tagLocation: [0xc, __u32],
} as const;

/** A descriptor that is whole, as udf_read_tagged() wants it: tag, checksum and CRC. */
function taggedBlock(disk: Image, blockSize: number, block: number) {
  const raw = readWithin(disk, block * blockSize, blockSize);
  if (!raw) return undefined;
  const tag = fieldsOf(raw, TAG);
  const sum = raw.subarray(0, 16).reduce((sum, byte) => sum + byte) - tag.tagChecksum;
  if ((sum & 0xff) !== tag.tagChecksum || tag.tagLocation !== block) return undefined;
  if (tag.descVersion !== 2 && tag.descVersion !== 3) return undefined;
  const end = 16 + tag.descCRCLength;
  if (end > blockSize || crc_itu_t(raw.subarray(16, end)) !== tag.descCRC) return undefined;
  return { ident: tag.tagIdent, raw };
}

/** Whether the volume recognition sequence has UDF's descriptor (ECMA-167 2/9.1). */
function isRecognised(disk: Image, blockSize: number): boolean {
  const step = Math.max(SECTOR, blockSize);
  for (let n = 0; n < MOST_STRUCTURES; n++) {
    const raw = readWithin(disk, DESCRIPTORS + n * step, 7);
    const ident = raw && String.fromCharCode(...raw.subarray(1, 6));
    if (ident === "NSR02" || ident === "NSR03") return true;
    if (!["BEA01", "BOOT2", "CD001", "CDW02", "TEA01"].includes(ident ?? "")) return false;
  }
  return false;
}

/** struct anchorVolDescPtr: where the descriptors lie. */
const ANCHOR = { extLength: [0x10, __u32], extLocation: [0x14, __u32] } as const;
/** struct primaryVolDesc. */
const PRIMARY = { volSetIdent: [0x48, bytes(128)], descCharSet: [0xc8, bytes(64)] } as const;
/** struct logicalVolDesc. */
const LOGICAL = {
  descCharSet: [0x14, bytes(64)],
  logicalVolIdent: [0x54, bytes(128)],
  domainIdent: [0xd9, bytes(23)],
} as const;

const isOsta = (charset: Uint8Array) =>
  charset[0] === 0 && has(charset, 1, "OSTA Compressed Unicode\0");

/** fs/udf/super.c: recognition sequence, anchor, then the main sequence of descriptors. */
const UDF: Format = {
  type: "udf",
  start: DESCRIPTORS,
  length: 7,
  magic: ["BEA01", "BOOT2", "CD001", "CDW02", "NSR02", "NSR03", "TEA01"].map((id) => [1, id]),
  describe(_, disk) {
    for (const blockSize of BLOCK_SIZES) {
      if (!isRecognised(disk, blockSize)) continue;
      for (const block of ANCHORS) {
        const anchor = taggedBlock(disk, blockSize, block);
        if (anchor?.ident !== TAG_ANCHOR) continue;
        const found = describeSequence(disk, blockSize, fieldsOf(anchor.raw, ANCHOR));
        if (found) return found;
      }
    }
    return undefined;
  },
};

function describeSequence(
  disk: Image,
  blockSize: number,
  { extLength, extLocation }: { readonly extLength: number; readonly extLocation: number },
): Omit<FileSystem, "type"> | undefined {
  const blocks = Math.min(Math.floor(extLength / blockSize), MOST_SEQUENCE);
  let isUdf = false;
  let label: string | undefined;
  let uuid: string | undefined;
  for (let n = 0; n < blocks; n++) {
    const block = taggedBlock(disk, blockSize, extLocation + n);
    if (!block || block.ident === TAG_TERMINATING) break;
    if (block.ident === TAG_PRIMARY) {
      const { volSetIdent, descCharSet } = fieldsOf(block.raw, PRIMARY);
      if (isOsta(descCharSet)) uuid ??= volumeSetUuid(dstring(volSetIdent));
    } else if (block.ident === TAG_LOGICAL) {
      const { logicalVolIdent, descCharSet, domainIdent } = fieldsOf(block.raw, LOGICAL);
      isUdf ||= has(domainIdent, 0, "*OSTA UDF Compliant\0");
      if (isOsta(descCharSet)) label ??= utf16Text(dstring(logicalVolIdent));
    }
  }
  return isUdf ? { label, uuid } : undefined;
}

/** OSTA Compressed Unicode: bytes or big-endian words, by the first byte; the length stands last. */
function dstring(raw: Uint8Array): number[] {
  const length = Math.min(Math.max(0, raw[raw.length - 1] - 1), raw.length - 2);
  const text = raw.subarray(1, 1 + length);
  return raw[0] === 8 ? [...text] : raw[0] === 16 ? unitsOf(text, false) : [];
}

/**
 * blkid's rule: the first 16 bytes of the set's identifier in UTF-8. UDF 2.2.2.5 wants a time in 8
 * hexadecimal digits there, and then 8 more of anything, which become hexadecimal if they are not.
 */
function volumeSetUuid(units: readonly number[]): string | undefined {
  const text = String.fromCharCode(...units).replace(/\0.*$/s, "").toWellFormed();
  const bytes = new Uint8Array(16);
  if (new TextEncoder().encodeInto(text, bytes).written < 8) return undefined;
  const first = String.fromCharCode(...bytes);
  if (/^[\da-f]{16}$/i.test(first)) return first.toLowerCase();
  if (/^[\da-f]{8}/i.test(first)) {
    return first.slice(0, 8).toLowerCase() + hex(bytes.subarray(8, 12));
  }
  return hex(bytes.subarray(0, 8));
}

/** blkid asks UDF first, and takes it for a disc that has both. */
export const DISC_SUPERBLOCKS: readonly Format[] = [UDF, ISO9660];
