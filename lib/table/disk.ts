/**
 * What tables are read from, and what they say.
 *
 * @module
 */

/** The bytes of a disk, whatever its sector size. */
export interface Image {
  /** Bytes. */
  readonly size: number;
  /** `length` bytes from `offset`, none of them beyond the last whole sector. */
  read(offset: number, length: number): Uint8Array;
}

/**
 * A partition as a table describes it; bytes.
 *
 * @example
 * ```ts
 * import { type TablePartition } from "@loopdev/loopdev";
 * const isReadOnly = ({ attributes }: TablePartition) => attributes?.includes(60);
 * ```
 */
export interface TablePartition {
  /** As in the node's name: 1 for /dev/loop4p1. */
  readonly number: number;
  /** Where it begins on the disk, in bytes. */
  readonly start: number;
  /** Bytes. */
  readonly size: number;
  /**
   * GPT: type GUID in lower case. MBR: system id, "0x83"; for a slice within one of its partitions the
   * number in the slice's own table. Apple: "Apple_HFS". Amiga: DosType, "0x444f5303". Atari: "GEM".
   * BSD, Sun, SGI: a number, "0x7". Absent where the table has none. Apple's and the Atari's are arbitrary
   * text: do not trust it.
   */
  readonly type?: string;
  /** What sfdisk calls the type, if it is well known: "Linux filesystem". */
  readonly typeName?: string;
  /** PARTUUID, as in /dev/disk/by-partuuid. Only of a GPT, and of an MBR whose identifier is not 0. */
  readonly uuid?: string;
  /** Name in a GPT, an Apple map or an Amiga's table. Arbitrary text, or empty: do not trust it. */
  readonly name?: string;
  /**
   * The attribute bits that are set. GPT: 0 required, 2 legacy BIOS bootable, the others by type; for Linux
   * file systems 59 grow, 60 read-only, 63 no automatic mount. MBR: 7 active (0x80).
   */
  readonly attributes: readonly number[];
  /** Present if the table lets the partition end beyond the disk, so that it is cut at the disk's end. */
  readonly truncated?: Truncation;
}

/**
 * How a partition that ends beyond the disk is cut; bytes. The image is shorter than the disk that the table
 * was made for: it was cut off, or not copied to its end.
 *
 * @example
 * ```ts
 * import { type Truncation } from "@loopdev/loopdev";
 * const show = ({ from, to }: Truncation) => `${from - to} of ${from} bytes are missing`;
 * ```
 */
export interface Truncation {
  /** The size that the table says. */
  readonly from: number;
  /** The partition's size. */
  readonly to: number;
}

/**
 * The kinds of tables that are read:
 *
 * - `"gpt"`, GUID partition table
 * - `"mbr"`, of MS-DOS, with logical partitions and the slices of BSD, Minix, Solaris and UnixWare
 * - `"mac"`, Apple's partition map
 * - `"bsd"`, a BSD disklabel over the whole disk
 * - `"sun"`, `"sgi"`, `"amiga"`, `"atari"`, `"ultrix"`, `"karma"`, `"sysv68"`
 * - `"none"`
 *
 * @example
 * ```ts
 * import { readPartitions, type TableKind } from "@loopdev/loopdev";
 * const hasUuids = (kind: TableKind) => kind === "gpt" || kind === "mbr";
 * ```
 */
// deno-fmt-ignore
export type TableKind =
  | "gpt" | "mbr" | "mac" | "bsd" | "sun" | "sgi" | "amiga" | "atari" | "ultrix" | "karma" | "sysv68"
  | "none";

/**
 * A partition table, and the sector size with which it was read.
 *
 * @example
 * ```ts
 * import { type PartitionTable } from "@loopdev/loopdev";
 * const describe = ({ kind, uuid, partitions }: PartitionTable) =>
 *   `${kind} ${uuid ?? "without a UUID"}: ${partitions.length} partitions`;
 * ```
 */
export interface PartitionTable {
  /** "none": the disk has no table that is read. */
  readonly kind: TableKind;
  /** Bytes. */
  readonly sectorSize: number;
  /** Which of a GPT's two headers was read: the backup only if the primary is damaged. */
  readonly header?: "primary" | "backup";
  /** GPT: disk GUID in lower case. MBR: disk identifier, "1a2b3c4d"; absent if that is 0. */
  readonly uuid?: string;
  /** In the order of their numbers. */
  readonly partitions: readonly TablePartition[];
}

/** Why a GPT that the MBR announces is not shown. */
export interface Damage {
  /** In words, with the wrong value. */
  readonly what: string;
  /** If the primary header is undamaged, but says that the disk is longer: how many bytes it should have. */
  readonly asks?: number;
  /** What helps, if the header is whole and nothing is to be repaired. */
  readonly remedy?: string;
}

/** What was found on a disk: a table, or what is known of one that cannot be read. */
export interface FoundTable extends PartitionTable {
  /** What the table is, in words, if only its magic number is known here; then `kind` is `"none"`. */
  readonly unreadable?: string;
  /** Why `kind` is `"gpt"` and there is no `header`, if there is a damaged one. */
  readonly damage?: Damage;
}
