/**
 * ISO 9660 and UDF, the file systems of discs and of installers' images. Both begin at 32 KiB.
 *
 * @module
 */
import { __u16, __u32 } from "../base/struct.ts";
import { type Steps, wanted } from "../table/steps.ts";
import {
  beforeNul,
  decodeUtf16,
  fieldsOf,
  hasBytes,
  hex,
  type Names,
  type Row,
  type SteppedImage,
  textOf,
  utf16Text,
} from "./superblock.ts";

const SECTOR = 2048;
/** Where both have their descriptors, one a sector. */
const DESCRIPTORS = 16 * SECTOR;
/** blkid looks no further; real discs have two to four. */
const MOST_DESCRIPTORS = 16;

const ISO_VD_PRIMARY = 1;
const ISO_VD_SUPPLEMENTARY = 2;
const ISO_VD_END = 255;
/** struct iso_primary_descriptor: volume_space_size and logical_block_size, each also in the other byte order. */
const VOLUME = { blocks: [0x50, __u32], block: [0x80, __u16] } as const;
/** ECMA-35's escape sequences for the levels of UCS-2 that Joliet has. */
const JOLIET = ["%/@", "%/C", "%/E"];

/** struct iso_primary_descriptor and iso_supplementary_descriptor, include/uapi/linux/iso_fs.h. */
function volumeDescriptors(raw: Uint8Array): Uint8Array[] {
  const all = Array.from(
    { length: MOST_DESCRIPTORS },
    (_, n) => raw.subarray(n * SECTOR, (n + 1) * SECTOR),
  );
  const end = all.findIndex((each) => !hasBytes(each, 1, "CD001") || each[0] === ISO_VD_END);
  return end < 0 ? all : all.slice(0, end);
}
const primaryOf = (raw: Uint8Array) =>
  volumeDescriptors(raw).find(([type]) => type === ISO_VD_PRIMARY);
const volumeId = (descriptor: Uint8Array) => descriptor.subarray(0x28, 0x48);

export const ISO9660: Row = {
  type: "iso9660",
  start: DESCRIPTORS,
  length: SECTOR,
  magic: [[1, "CD001"]],
  isOne: (raw) => primaryOf(raw) !== undefined,
  label(raw) {
    const primary = volumeId(primaryOf(raw)!);
    const joliet = volumeDescriptors(raw).find((each) =>
      each[0] === ISO_VD_SUPPLEMENTARY && JOLIET.some((level) => hasBytes(each, 0x58, level))
    );
    return joliet ? mergedLabel(volumeId(joliet), primary) : textOf(primary);
  },
  uuid(raw) {
    // blkid takes the first that is set, even if it is damaged. udev makes a link of that alone.
    const primary = primaryOf(raw)!;
    const dates = [primary.subarray(0x33e, 0x34f), primary.subarray(0x32d, 0x33e)];
    const date = dates.find(isSet);
    return date && dateOf(date);
  },
};

/**
 * blkid's rule. Joliet has any character, but at most 16. The primary descriptor has 32, but may have capitals
 * alone, and "_" for what its maker could not write; so may Joliet. Where the 16 are the same otherwise, each is
 * taken from the descriptor that has it, and the rest from the primary one. Else the label is Joliet's.
 */
function mergedLabel(joliet: Uint8Array, primary: Uint8Array): string | undefined {
  const wide = [...decodeUtf16(joliet, false)];
  const merged: string[] = [];
  for (const [i, character] of wide.entries()) {
    const byte = String.fromCharCode(primary[i]);
    if (byte === "_") merged.push(character);
    else if (character === "_") merged.push(byte);
    else if (upperCase(byte) === upperCase(character)) {
      merged.push(byte === upperCase(byte) ? character : byte);
    } else return utf16Text(joliet, false);
  }
  const rest = String.fromCharCode(...primary.subarray(wide.length));
  return beforeNul(merged.join("") + rest);
}

/** Of ASCII alone. */
const upperCase = (text: string) => text.replace(/[a-z]/, (letter) => letter.toUpperCase());

/** How many bytes from the beginning of a disk its ISO 9660 has; undefined: it has none. */
export function* iso9660Size(): Steps<number | undefined> {
  const primary = primaryOf(yield* wanted(DESCRIPTORS, MOST_DESCRIPTORS * SECTOR));
  if (primary === undefined) return undefined;
  const { blocks, block } = fieldsOf(primary, VOLUME);
  return blocks * block;
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

/** Bytes of a block of UDF, which no descriptor says: the driver, too, looks for the anchor in this order. */
const BLOCK_SIZES = [512, 1024, 2048, 4096];
const ANCHOR = 256;
const MOST_SEQUENCE = 32;

const TAG_PRIMARY = 1;
const TAG_ANCHOR = 2;
const TAG_LOGICAL = 6;
const TAG_TERMINATING = 8;

/** struct tag, fs/udf/ecma_167.h: of which kind a descriptor is, and in which block. */
const tagOf = (raw: Uint8Array) =>
  fieldsOf(raw, { tagIdent: [0x0, __u16], tagLocation: [0xc, __u32] });

/** Whether the volume recognition sequence has UDF's descriptor (ECMA-167 2/9.1). */
function isRecognised(raw: Uint8Array): boolean {
  return [SECTOR, 2 * SECTOR].some((step) => {
    for (let n = 0; n < MOST_DESCRIPTORS; n++) {
      const ident = String.fromCharCode(...raw.subarray(n * step + 1, n * step + 6));
      if (ident === "NSR02" || ident === "NSR03") return true;
      if (!["BEA01", "BOOT2", "CD001", "CDW02", "TEA01"].includes(ident)) return false;
    }
    return false;
  });
}

export const UDF: Row = {
  type: "udf",
  start: DESCRIPTORS,
  magic: ["BEA01", "BOOT2", "CD001", "CDW02", "NSR02", "NSR03"].map((id) => [1, id]),
  isOne: isRecognised,
  *names(_, disk) {
    for (const blockSize of BLOCK_SIZES) {
      const anchor = yield* disk.read(ANCHOR * blockSize, 512);
      if (anchor.length < 512) continue;
      const { tagIdent, tagLocation } = tagOf(anchor);
      if (tagIdent !== TAG_ANCHOR || tagLocation !== ANCHOR) continue;
      return yield* namesOf(disk, blockSize, anchor);
    }
    return undefined;
  },
};

/** From the main sequence of descriptors, where struct anchorVolDescPtr points to. */
function* namesOf(disk: SteppedImage, blockSize: number, anchor: Uint8Array): Steps<Names> {
  const { length, location } = fieldsOf(anchor, { length: [0x10, __u32], location: [0x14, __u32] });
  const most = Math.min(length, MOST_SEQUENCE * blockSize);
  const sequence = yield* disk.read(location * blockSize, most);
  const names: { label?: string; uuid?: string } = {};
  for (let at = 0; at + 512 <= sequence.length; at += blockSize) {
    const raw = sequence.subarray(at, at + 512);
    const { tagIdent } = tagOf(raw);
    if (tagIdent === TAG_TERMINATING) break;
    // struct primaryVolDesc, struct logicalVolDesc
    if (tagIdent === TAG_PRIMARY) names.uuid ??= volumeSetUuid(dstring(raw.subarray(0x48, 0xc8)));
    if (tagIdent === TAG_LOGICAL) names.label ??= dstring(raw.subarray(0x54, 0xd4));
  }
  return names;
}

/** OSTA Compressed Unicode: bytes or big-endian words, by the first byte; the length stands last. */
function dstring(raw: Uint8Array): string | undefined {
  const length = Math.min(Math.max(0, raw[raw.length - 1] - 1), raw.length - 2);
  const text = raw.subarray(1, 1 + length);
  if (raw[0] === 8) return utf16Text(Uint8Array.from([...text].flatMap((byte) => [byte, 0])), true);
  return raw[0] === 16 ? utf16Text(text, false) : undefined;
}

/**
 * blkid's rule: the first 16 bytes of the set's identifier in UTF-8. UDF 2.2.2.5 wants a time in 8
 * hexadecimal digits there, and then 8 more of anything, which become hexadecimal if they are not.
 */
function volumeSetUuid(text: string | undefined): string | undefined {
  const bytes = new Uint8Array(16);
  if (new TextEncoder().encodeInto(text ?? "", bytes).written < 8) return undefined;
  const first = String.fromCharCode(...bytes);
  if (/^[\da-f]{16}$/i.test(first)) return first.toLowerCase();
  if (/^[\da-f]{8}/i.test(first)) {
    return first.slice(0, 8).toLowerCase() + hex(bytes.subarray(8, 12));
  }
  return hex(bytes.subarray(0, 8));
}
