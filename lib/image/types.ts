/**
 * Where the Discoverable Partitions Specification (UAPI.2) has a partition by its type, with the rules of
 * systemd-dissect(1) where the specification is silent.
 *
 * @module
 */
import type { DpsName } from "../base/selector.ts";
import { machine } from "../kernel/syscalls.ts";
import { discover, discoverable } from "../table/dps.ts";
import type { Part } from "./parts.ts";

/** GPT attribute bits: of the specification, and of UEFI for an ESP ("no block IO protocol"). */
const READ_ONLY = 60;
const NO_AUTO = 63;
const NO_BLOCK_IO = 1;

/** What systemd-sysupdate calls a partition without a version in it. */
const EMPTY = "_empty";

export const isReadOnlyByTable = ({ attributes, type = "" }: Part): boolean =>
  type.length === 36 && attributes.includes(READ_ONLY);

/** Whether the table forbids that it is mounted without being asked for. */
function isForbidden({ attributes, type = "" }: Part, name: DpsName): boolean {
  if (type.length !== 36) return false;
  return attributes.includes(name === "esp" ? NO_BLOCK_IO : NO_AUTO);
}

/**
 * Those of a name that are mounted by their type, the best first: of root and /usr the one whose name has
 * the newest version (the specification's A/B updates), of all others the first.
 */
export function byType(
  parts: readonly Part[],
  name: DpsName,
  architecture?: string,
): readonly Part[] {
  const usable = parts.filter((part) =>
    !isForbidden(part, name) && part.name !== EMPTY &&
    (architecture === undefined || discoverable(part)?.architecture === architecture)
  );
  const found = discover(usable, name, machine());
  if (name !== "root" && name !== "usr") return found;
  // Only a GPT has these types, and each of its partitions a name, if an empty one.
  return found.toSorted((a, b) => compareVersions(b.name!, a.name!));
}

/** Whether the table has data for dm-verity about that partition's kind. */
export function verityOf(parts: readonly Part[], { name, architecture }: {
  name: DpsName;
  architecture?: string;
}): readonly Part[] {
  return parts.filter((part) => {
    const found = discoverable(part);
    return found?.verity !== undefined && found.name === name &&
      found.architecture === architecture;
  });
}

/** Numbers in a name count as numbers, as strverscmp(3) has it; "~" comes before the end of a name. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => text.match(/\d+|~|[^\d~]+/g) ?? []);
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const order = compareParts(left[i], right[i]);
    if (order !== 0) return order;
  }
  return 0;
}

function compareParts(a: string | undefined, b: string | undefined): number {
  if (a === b) return 0;
  if (a === "~" || b === undefined) return a === "~" ? -1 : 1;
  if (b === "~" || a === undefined) return b === "~" ? 1 : -1;
  if (/^\d/.test(a) && /^\d/.test(b)) return Number(a) - Number(b);
  return a < b ? -1 : 1;
}
