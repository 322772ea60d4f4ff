/**
 * What a table is read from, and what is read.
 *
 * @module
 */

/** Bytes to read a table from, in sectors of whatever size. */
export interface Image {
  /** Bytes. */
  readonly size: number;
  /** `length` bytes from `offset`; never asked for any beyond the last whole sector. */
  read(offset: number, length: number): Uint8Array;
}

/** A disk to read a table from. */
export interface Disk extends Image {
  /** Logical sector size in bytes: the unit of every number in a table. */
  readonly sectorSize: number;
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
   * GPT: type GUID in lower case. MBR: system id, "0x83"; of a slice within one of its partitions the
   * number in the slice's own table. Apple: "Apple_HFS". Amiga: DosType, "0x444f5303". Atari: "GEM".
   * BSD, Sun, SGI: a number, "0x7". Absent where the table has none. Apple's and the Atari's are
   * whatever a stranger wrote there.
   */
  readonly type?: string;
  /** What sfdisk calls the type, if it is well known: "Linux filesystem". */
  readonly typeName?: string;
  /**
   * PARTUUID, as in /dev/disk/by-partuuid; absent where the table has none: only a GPT does, and an MBR
   * whose identifier is not 0.
   */
  readonly uuid?: string;
  /** Name in a GPT, an Apple map or an Amiga's table; may be empty, and is whatever a stranger wrote. */
  readonly name?: string;
  /**
   * Which attribute bits are set. GPT: 0 required, 2 legacy BIOS bootable, and by type; of Linux file
   * systems 59 grow, 60 read-only, 63 do not mount by itself. MBR: 7 active (0x80).
   */
  readonly attributes: readonly number[];
  /** Only of a partition that is cut at the disk's end, since the table lets it end beyond. */
  readonly truncated?: Truncation;
}

/**
 * How a partition is cut that ends beyond the disk; bytes. The image is shorter than what the table was
 * made for: cut off, or not copied to its end.
 *
 * @example
 * ```ts
 * import { type Truncation } from "@loopdev/loopdev";
 * const show = ({ from, to }: Truncation) => `${from - to} of ${from} bytes are missing`;
 * ```
 */
export interface Truncation {
  /** What the table says. */
  readonly from: number;
  /** What is left: the partition's size. */
  readonly to: number;
}

/**
 * Which kind of table it is, of those that are read:
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
export type TableKind =
  | "gpt"
  | "mbr"
  | "mac"
  | "bsd"
  | "sun"
  | "sgi"
  | "amiga"
  | "atari"
  | "ultrix"
  | "karma"
  | "sysv68"
  | "none";

/**
 * A partition table, in the unit in which it was read.
 *
 * @example
 * ```ts
 * import { type PartitionTable } from "@loopdev/loopdev";
 * const describe = ({ kind, uuid, partitions }: PartitionTable) =>
 *   `${kind} ${uuid ?? "without a UUID"}: ${partitions.length} partitions`;
 * ```
 */
export interface PartitionTable {
  /** What the table is, or `"none"`. */
  readonly kind: TableKind;
  /** Bytes. */
  readonly sectorSize: number;
  /** Which of a GPT's two headers was read: the backup only where the primary is damaged. */
  readonly header?: "primary" | "backup";
  /**
   * The disk's. GPT: disk GUID in lower case. MBR: disk identifier, "1a2b3c4d", or none if that is 0.
   */
  readonly uuid?: string;
  /** In the order of their numbers. */
  readonly partitions: readonly TablePartition[];
}

/** Why a GPT that the MBR announces is not shown. */
export interface Damage {
  /** In words, with the value that is wrong. */
  readonly what: string;
  /** How many bytes the disk must have for its primary header, which is whole, to be right. */
  readonly asks?: number;
}

/** What was found on a disk: a table, or what there is of one that cannot be read. */
export interface FoundTable extends PartitionTable {
  /** What the table is, in words, where it is known by its magic alone; then `kind` is `"none"`. */
  readonly unreadable?: string;
  /** Of `"gpt"` without a `header`, where a header is there and cannot be right. */
  readonly damage?: Damage;
}
