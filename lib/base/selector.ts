/**
 * Which partition is meant: its number, or what tells it from the others.
 *
 * @module
 */
import { checkNames, checkText, checkWholeNumber, show } from "./checks.ts";

/**
 * Which partition is meant: its number, or one thing that tells it from the others of its table.
 *
 * - `name`: the table's name of it, as GPT has
 * - `label`, `uuid`: of the file system or container that it holds, as blkid(8) shows them
 * - `partuuid`: the table's UUID of it, as in /dev/disk/by-partuuid
 * - `type`: a GUID of GPT; a byte of MBR, `"0x83"` or `"83"`; or what the Discoverable Partitions
 *   Specification (UAPI.2) calls it: `"root"`, `"usr"`, `"esp"`, `"xbootldr"`, `"home"`, `"srv"`, `"var"`,
 *   `"tmp"`, `"swap"`. Of `"root"` and `"usr"` with several architectures in one table the host's counts,
 *   then that which the host runs as well (x86 on x86-64), as for systemd. An MBR can say esp, xbootldr
 *   and swap.
 *
 * UUIDs and types may be in any case. Exactly one partition must match: for none or several what takes a
 * selector rejects with {@linkcode LoopError} ENXIO or EINVAL, whose message lists what there is.
 *
 * @example
 * ```ts
 * import type { LoopDevice, PartitionSelector } from "@loopdev/loopdev";
 * const data: PartitionSelector = { label: "data" };
 * const sizes = async (loop: LoopDevice) => [
 *   (await loop.partition(data)).size,
 *   (await loop.partition({ type: "esp" })).size,
 * ];
 * console.log(typeof sizes); // function
 * ```
 */
export type PartitionSelector =
  | number
  | { readonly name: string }
  | { readonly label: string }
  | { readonly uuid: string }
  | { readonly partuuid: string }
  | { readonly type: string };

/** A selector that is no number. */
export type NamedSelector = Exclude<PartitionSelector, number>;

/** What the Discoverable Partitions Specification calls its types. */
export const DPS_NAMES = [
  "root",
  "usr",
  "esp",
  "xbootldr",
  "home",
  "srv",
  "var",
  "tmp",
  "swap",
] as const;
export type DpsName = typeof DPS_NAMES[number];

const KEYS = ["name", "label", "uuid", "partuuid", "type"];

const GUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;
const MBR_BYTE = /^(0x)?[\da-f]{1,2}$/i;

/** `undefined` stands for the whole device. Throws a TypeError or RangeError for what is no selector. */
export function checkPartition(
  partition: unknown,
): asserts partition is PartitionSelector | undefined {
  if (partition !== undefined) checkSelector("partition", partition);
}

/** The same where a partition must be said. */
export function checkSelector(what: string, value: unknown): asserts value is PartitionSelector {
  if (typeof value === "number") return checkWholeNumber(what, value, 1, 2 ** 20);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError(
      `${what} must be a whole number from 1 on, or an object like { label: "data" }, not ${
        show(value)
      }`,
    );
  }
  checkNames(value, KEYS, `a ${what}`);
  const given = Object.entries(value).filter(([, text]) => text !== undefined);
  if (given.length !== 1) {
    throw new TypeError(
      `a ${what} is selected by one of ${KEYS.join(", ")}; this has ` +
        (given.map(([key]) => key).join(" and ") || "none"),
    );
  }
  const [[key, text]] = given;
  if (typeof text !== "string" || text === "") {
    throw new TypeError(`${key} of a ${what} must be a text that is not empty, not ${show(text)}`);
  }
  checkText(key, text);
  const isType = (DPS_NAMES as readonly string[]).includes(text) || GUID.test(text) ||
    MBR_BYTE.test(text);
  if (key !== "type" || isType) return;
  throw new TypeError(
    `type of a ${what} must be a GUID, an MBR's byte like "0x83", or one of ` +
      `${DPS_NAMES.join(", ")}; not ${show(text)}`,
  );
}
