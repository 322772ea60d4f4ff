/**
 * What the table of superblocks is written in: its rows, and the fields and texts of one.
 *
 * @module
 */
import { decodeName } from "../base/names.ts";
import type { CType } from "../base/struct.ts";
import type { Steps } from "../table/steps.ts";

/**
 * What a block device or an image holds.
 *
 * @example
 * ```ts
 * import type { FileSystem, LoopDevice } from "@loopdev/loopdev";
 * const isBootable = ({ type, label }: FileSystem) => type === "vfat" && label === "EFI";
 * const isLocked = async (loop: LoopDevice) => (await loop.fileSystem(1))?.usage === "crypto";
 * const esp = { type: "vfat", label: "EFI", usage: "filesystem" } as const;
 * console.log(isBootable(esp), typeof isLocked); // true function
 * ```
 */
export interface FileSystem {
  /** blkid's TYPE: `"ext4"`, `"vfat"`, `"iso9660"`, `"crypto_LUKS"`, `"LVM2_member"`, `"swap"`. */
  readonly type: string;
  /**
   * The name that its maker gave it. Bytes that are no UTF-8 (a vfat can have any code page) stay: U+DC80
   * stands for 0x80, U+DCFF for 0xff.
   */
  readonly label?: string;
  /** As in /dev/disk/by-uuid: a volume's serial number of vfat, exfat and ntfs, a date of iso9660. */
  readonly uuid?: string;
  /** blkid's USAGE, and `"swap"`, which is "other" there. Only a `"filesystem"` can be mounted. */
  readonly usage: "filesystem" | "crypto" | "raid" | "swap" | "other";
}

/** The two names of a file system. */
export type Names = Pick<FileSystem, "label" | "uuid">;

/** A disk, or a part of one, whose reads are steps. */
export interface SteppedImage {
  /** Bytes. */
  readonly size: number;
  /** Bytes from `offset`: `length` of them, or as many as the disk has. */
  read(offset: number, length: number): Steps<Uint8Array>;
}

/** Bytes that a superblock has: where, from its beginning, and the bytes as Latin-1. */
export type Magic = readonly [offset: number, value: string];

/** How one kind of superblock is known. */
export interface Row {
  readonly type: string;
  /** Left out: `"filesystem"`. */
  readonly usage?: FileSystem["usage"];
  /** Where it begins, in bytes. Negative: a disk of this size cannot have one. */
  readonly start: number | ((size: number) => number);
  /** How many bytes of it the disk must have; left out: 512. */
  readonly length?: number;
  /** One of these is there. */
  readonly magic: readonly Magic[];
  /** Tells it from other data with the same magic number. `raw` may go on behind the superblock. */
  isOne?(raw: Uint8Array, start: number): boolean;
  /** Which of the types with this format it is, instead of `type`; undefined: none of them. */
  typeOf?(raw: Uint8Array): string | undefined;
  label?(raw: Uint8Array): string | undefined;
  uuid?(raw: Uint8Array): string | undefined;
  /** Label and UUID, where they are elsewhere on the disk. Undefined: it is not of this type. */
  names?(raw: Uint8Array, disk: SteppedImage): Steps<Names | undefined>;
}

/** Fields by name: where each begins, in bytes, and its C type. */
// deno-lint-ignore no-explicit-any -- each field has its own type; Values recovers it
type Fields = Readonly<Record<string, readonly [offset: number, type: Readable<any>]>>;
type Values<F extends Fields> = { readonly [K in keyof F]: ReturnType<F[K][1]["get"]> };

/** A C type of which values are read alone. */
type Readable<T> = Pick<CType<T>, "size" | "get">;

/** The values of fields in these bytes. */
export function fieldsOf<F extends Fields>(raw: Uint8Array, fields: F): Values<F> {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const values: Record<string, unknown> = {};
  for (const name in fields) {
    const field = fields[name];
    values[name] = field[1].get(view, field[0]);
  }
  return values as Values<F>;
}

/** A big-endian C type. */
export function bigEndian<T>(type: Readable<T>): Readable<T> {
  const swapped = (view: DataView, at: number): DataView =>
    new DataView(
      new Uint8Array(view.buffer, view.byteOffset + at, type.size).toReversed().buffer,
    );
  return {
    ...type,
    get: (view, at) => type.get(swapped(view, at), 0),
  };
}

/** Whether these bytes stand there; `text` has them as Latin-1. */
export function hasBytes(raw: Uint8Array, offset: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    if (raw[offset + i] !== text.charCodeAt(i)) return false;
  }
  return true;
}

/** Whether `n` lies between two bounds, both inclusive. */
export const isWithin = (n: number, least: number, most: number): boolean =>
  n >= least && n <= most;

export function isPowerOfTwo(n: number): boolean {
  return n > 0 && Number.isInteger(Math.log2(n));
}

/** Text up to its NUL, without white space at its end; undefined if nothing is left. */
export function textOf(raw: Uint8Array): string | undefined {
  const nul = raw.indexOf(0);
  return trimmed(decodeName(nul < 0 ? raw : raw.subarray(0, nul)));
}

/** The same of UTF-16 code units; a last odd byte is none. */
export function utf16Text(raw: Uint8Array, littleEndian: boolean): string | undefined {
  return beforeNul(decodeUtf16(raw, littleEndian));
}

/** All code units, whatever they are. */
export function decodeUtf16(raw: Uint8Array, littleEndian: boolean): string {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  let text = "";
  for (let at = 0; at + 2 <= raw.length; at += 2) {
    text += String.fromCharCode(view.getUint16(at, littleEndian));
  }
  return text;
}

/** Text up to its NUL, as {@linkcode textOf} gives it. */
export function beforeNul(text: string): string | undefined {
  const nul = text.indexOf("\0");
  return trimmed((nul < 0 ? text : text.slice(0, nul)).toWellFormed());
}

function trimmed(text: string): string | undefined {
  return text.replace(/[\t-\r ]+$/, "") || undefined;
}

/** Big-endian throughout, as RFC 9562 writes them; undefined for the nil UUID. */
export function uuidOf(raw: Uint8Array): string | undefined {
  if (isZero(raw)) return undefined;
  return hex(raw).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The serial number of a DOS volume, "1A2B-3C4D"; undefined for 0. */
export function serialOf(raw: Uint8Array): string | undefined {
  if (isZero(raw)) return undefined;
  return hex(raw.toReversed()).toUpperCase().replace(/^.{4}(?=.{4}$)/, "$&-");
}

const isZero = (raw: Uint8Array) => raw.every((byte) => byte === 0);

export function hex(raw: Uint8Array): string {
  let text = "";
  for (let i = 0; i < raw.length; i++) {
    if (raw[i] < 16) text += "0";
    text += raw[i].toString(16);
  }
  return text;
}

/** A row's label: `length` bytes of it from `offset`. */
export const labelAt = (offset: number, length: number) => (raw: Uint8Array): string | undefined =>
  textOf(raw.subarray(offset, offset + length));

/** A row's UUID. */
export const uuidAt = (offset: number) => (raw: Uint8Array): string | undefined =>
  uuidOf(raw.subarray(offset, offset + 16));
