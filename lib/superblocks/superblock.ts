/**
 * What the table of file systems is written in: rows of fields, and the texts within them.
 *
 * @module
 */
import { decodeName } from "../base/names.ts";
import type { CType, Value } from "../base/struct.ts";
import type { Image } from "../table/disk.ts";

/**
 * What is on a block device or in a file.
 *
 * @example
 * ```ts
 * import type { FileSystem, LoopDevice } from "@loopdev/loopdev";
 * const isBootable = ({ type, label }: FileSystem) => type === "vfat" && label === "EFI";
 * const look = async (loop: LoopDevice) => (await loop.fileSystem(1))?.uuid;
 * console.log(isBootable({ type: "vfat", label: "EFI" }), typeof look); // true function
 * ```
 */
export interface FileSystem {
  /** The kernel's name, as mount(2) takes it: "ext4", "vfat", "iso9660". */
  readonly type: string;
  /**
   * As whoever made the file system named it. One that is no UTF-8 (vfat has a code page of its
   * maker's) keeps its bytes: U+DC80 stands for 0x80, U+DCFF for 0xff.
   */
  readonly label?: string;
  /** As in /dev/disk/by-uuid: a volume's serial number of vfat and exfat, a date of iso9660. */
  readonly uuid?: string;
}

/** Fields by name: where each begins in the superblock, in bytes, and its C type. */
// deno-lint-ignore no-explicit-any -- each field has its own type; Values recovers it
type Fields = Readonly<Record<string, readonly [offset: number, type: CType<any>]>>;
type Values<F extends Fields> = { readonly [K in keyof F]: Value<F[K][1]> };

/** How one file system's superblock is known. */
export interface Format {
  readonly type: string;
  /** Where the superblock begins on the disk, in bytes. */
  readonly start: number;
  /** Bytes of it that are read. */
  readonly length: number;
  /** Bytes that it has, one string of them: their offset, and their values as Latin-1. */
  readonly magic: readonly (readonly [offset: number, value: string])[];
  /** The label and the UUID if the rest holds too; undefined if it is no such file system. */
  describe(superblock: Uint8Array, disk: Image): Omit<FileSystem, "type"> | undefined;
}

/** A row of the table, with its fields read. */
export interface Row<F extends Fields> extends Omit<Format, "describe"> {
  readonly fields: F;
  /** What the kernel's driver, or blkid, wants beyond the magic bytes. */
  isSound(fields: Values<F>, superblock: Uint8Array, disk: Image): boolean;
  label?(fields: Values<F>, disk: Image): string | undefined;
  uuid?(fields: Values<F>): string | undefined;
}

/** Makes a row one that can be asked. */
export function format<F extends Fields>({ fields, isSound, label, uuid, ...row }: Row<F>): Format {
  return {
    ...row,
    describe(superblock, disk) {
      const values = fieldsOf(superblock, fields);
      if (!isSound(values, superblock, disk)) return undefined;
      return { label: label?.(values, disk), uuid: uuid?.(values) };
    },
  };
}

/** The values of fields in these bytes. */
export function fieldsOf<F extends Fields>(raw: Uint8Array, fields: F): Values<F> {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const entries = Object.entries(fields);
  return Object.fromEntries(
    entries.map(([name, [offset, type]]) => [name, type.get(view, offset)]),
  ) as Values<F>;
}

/** `length` bytes from `offset`; undefined if the disk does not have them all. */
export function readWithin(disk: Image, offset: number, length: number): Uint8Array | undefined {
  if (!(offset >= 0 && offset + length <= disk.size)) return undefined;
  const bytes = disk.read(offset, length);
  return bytes.length === length ? bytes : undefined;
}

/** Whether these bytes stand there; `text` has them as Latin-1. */
export function has(raw: Uint8Array, offset: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    if (raw[offset + i] !== text.charCodeAt(i)) return false;
  }
  return true;
}

/** Whether one of the row's magic strings stands in the superblock; a row without any needs none. */
export function hasMagic({ magic }: Format, superblock: Uint8Array): boolean {
  return magic.length === 0 || magic.some(([offset, value]) => has(superblock, offset, value));
}

export function isPowerOfTwo(n: number): boolean {
  return n > 0 && Number.isInteger(Math.log2(n));
}

/** The bytes with some of them zero: how a checksum stands in its own sum. */
export function withZeros(raw: Uint8Array, offset: number, length: number): Uint8Array {
  return raw.slice().fill(0, offset, offset + length);
}

/** A label up to its NUL, without white space at its end; undefined if nothing is left. */
export function textOf(raw: Uint8Array): string | undefined {
  const nul = raw.indexOf(0);
  return trimmed(decodeName(nul < 0 ? raw : raw.subarray(0, nul)));
}

/** The same of UTF-16 code units. */
export function utf16Text(units: readonly number[]): string | undefined {
  const nul = units.indexOf(0);
  const text = String.fromCharCode(...nul < 0 ? units : units.slice(0, nul));
  return trimmed(text.toWellFormed());
}

function trimmed(text: string): string | undefined {
  return text.replace(/[\t-\r ]+$/, "") || undefined;
}

/** Code units of UTF-16; a last odd byte is none. */
export function unitsOf(raw: Uint8Array, littleEndian: boolean): number[] {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const length = Math.floor(raw.length / 2);
  return Array.from({ length }, (_, i) => view.getUint16(2 * i, littleEndian));
}

/** Big-endian throughout, as RFC 9562 writes them; undefined for the nil UUID. */
export function uuidOf(raw: Uint8Array): string | undefined {
  if (raw.every((byte) => byte === 0)) return undefined;
  return hex(raw).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The serial number of a DOS volume, "1A2B-3C4D"; undefined for 0. */
export function serialOf(raw: Uint8Array): string | undefined {
  if (raw.every((byte) => byte === 0)) return undefined;
  return hex(raw.toReversed()).toUpperCase().replace(/^.{4}/, "$&-");
}

export function hex(raw: Uint8Array): string {
  return Array.from(raw, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A big-endian C type, of a file system from a big-endian machine. */
export function bigEndian<T>(type: CType<T>): CType<T> {
  const swapped = (view: DataView, at: number): DataView =>
    new DataView(
      new Uint8Array(view.buffer, view.byteOffset + at, type.size).toReversed().buffer,
    );
  return {
    ...type,
    get: (view, at) => type.get(swapped(view, at), 0),
    set() {
      throw new TypeError("superblocks are read, not written");
    },
  };
}
