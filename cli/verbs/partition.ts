/**
 * A partition as the command line names it.
 *
 * @module
 */
import type { PartitionSelector } from "../../mod.ts";
import { UsageError } from "../getopt.ts";
import { PARTITION_WORDS } from "../verb_table.ts";

/** Beside the names of the library's own, the one that fstab has for `name`. */
const KEYS = new Map([["partlabel", "name"]]);

/**
 * A number, or `LABEL=boot` and the like: the key in upper or lower case. `remedy`: what else the word may
 * have been meant for.
 */
export function parsePartition(word: string, remedy = ""): PartitionSelector {
  if (/^[1-9]\d{0,6}$/.test(word)) return Number(word);
  const [, given = "", value] = /^(name|partlabel|label|uuid|partuuid|type)=(.+)$/i.exec(word) ??
    [];
  const key = given.toLowerCase();
  if (value !== undefined) return { [KEYS.get(key) ?? key]: value } as PartitionSelector;
  throw new UsageError(
    `'${word}' is no partition: ${PARTITION_WORDS}${remedy}`,
    true,
  );
}

/** The same, unless there is none. */
export function optionalPartition(word: string | undefined): PartitionSelector | undefined {
  return word === undefined ? undefined : parsePartition(word);
}
