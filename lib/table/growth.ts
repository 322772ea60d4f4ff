/**
 * What grows a partition in its table: which bytes to write, and in which order.
 *
 * @module
 */
import type { ErrorCode } from "../base/errors.ts";

/** Bytes to write to a disk, in whole sectors. */
export interface TableWrite {
  /** Where, in bytes from the beginning of the disk. */
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** What they are, in words: "the primary header". */
  readonly what: string;
}

/** How a partition and its table change; bytes. */
export interface TableGrowth {
  readonly kind: "gpt" | "mbr";
  readonly partition: {
    readonly number: number;
    readonly start: number;
    readonly from: number;
    readonly to: number;
  };
  /**
   * What to write, in groups. A group must have reached the disk before the next one begins; within a group
   * the order does not matter. A disk writes a sector whole or not at all, and sectors in any order: after a
   * cut at any moment there is a whole table, for those, too, who read the first one only, as the kernel
   * does of a GPT.
   */
  readonly groups: readonly (readonly TableWrite[])[];
}

/** Why a partition cannot grow. */
export interface Refusal {
  readonly code: ErrorCode;
  readonly why: string;
}

export const isRefused = (growth: TableGrowth | Refusal): growth is Refusal => "why" in growth;

/** A partition's place, in sectors: the first one, and the one behind the last. */
export interface Place {
  readonly number: number;
  readonly first: number;
  readonly end: number;
}

/** The one that begins last; of two that begin together, the one that ends last. */
export function lastOf<P extends Place>(places: readonly P[]): P | undefined {
  return places.toSorted((a, b) => a.first - b.first || a.end - b.end).at(-1);
}

/** The place of that number, or without one the last place of all. */
export function placeOf<P extends Place>(
  places: readonly P[],
  number: number | undefined,
  byDefault = places,
): P | Refusal {
  if (places.length === 0) return { code: "ENXIO", why: "its table has no partition" };
  if (number === undefined) return lastOf(byDefault)!;
  const numbers = places.map((place) => place.number);
  return places.find((place) => place.number === number) ??
    { code: "ENXIO", why: `its table has no partition ${number}: it has ${numbers.join(", ")}` };
}

/** File systems count in blocks of at most so many bytes: less than one block is of no use to them. */
const BLOCK = 4096;

/** How far it is free behind a partition: up to `limit`, or to the partition that comes next. */
interface Room {
  readonly free: number;
  readonly next?: Place;
}

/** The room behind a partition, in sectors. */
export function roomBehind(
  { number, first, end }: Place,
  others: readonly Place[],
  limit: number,
): Room | Refusal {
  const inside = others.find((other) => other.first < end && first < other.end);
  if (inside) {
    const why = `partition ${number} cannot grow: it overlaps partition ${inside.number}`;
    return { code: "EINVAL", why };
  }
  const behind = others.filter((other) => other.first >= end);
  const next = behind.toSorted((a, b) => a.first - b.first)[0];
  return { free: Math.min(limit, next?.first ?? limit), next };
}

/**
 * The new end of a partition: all of the room behind it, in whole blocks. As it is, if it is the last one
 * and there is no room.
 */
export function newEnd(
  { number, first, end }: Place,
  { free, next }: Room,
  sectorSize: number,
): number | Refusal {
  const block = Math.max(1, BLOCK / sectorSize);
  const grown = first + Math.floor((free - first) / block) * block;
  if (grown > end) return grown;
  if (!next || free < next.first) return end;
  const why = `partition ${number} cannot grow: partition ${next.number} begins right behind it, ` +
    `at ${next.first * sectorSize}`;
  return { code: "ENOSPC", why };
}

/** How a partition grows to its new end: from sectors to bytes. */
export function growthOf(
  { number, first, end }: Place,
  newEnd: number,
  sectorSize: number,
): TableGrowth["partition"] {
  const bytes = (sectors: number) => sectors * sectorSize;
  return { number, start: bytes(first), from: bytes(end - first), to: bytes(newEnd - first) };
}
