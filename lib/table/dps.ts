/**
 * What the Discoverable Partitions Specification (UAPI.2) says of a partition's type.
 *
 * @module
 */
import type { DpsName } from "../base/selector.ts";
import type { TablePartition } from "./disk.ts";

/** A partition of the specification. */
export interface Discoverable {
  readonly name: DpsName;
  /** Of root and usr: as sfdisk writes it, "x86-64". */
  readonly architecture?: string;
  /** Data for dm-verity about the partition of that name, or the signature of them. */
  readonly verity?: "hash" | "signature";
}

/** By sfdisk's words for the types, or by the byte in an MBR, for those that have one architecture. */
const NAMES = new Map<string, DpsName>([
  ["EFI System", "esp"],
  ["0xef", "esp"],
  ["Linux extended boot", "xbootldr"],
  ["0xea", "xbootldr"],
  ["Linux home", "home"],
  ["Linux server data", "srv"],
  ["Linux variable data", "var"],
  ["Linux temporary data", "tmp"],
  ["Linux swap", "swap"],
  ["0x82", "swap"],
]);

const BY_ARCHITECTURE = /^Linux (root|\/usr)( verity)?( sign\.)? \((.+)\)$/;

/** undefined: the specification does not know its type. */
export function discoverable(
  { type = "", typeName = "" }: Pick<TablePartition, "type" | "typeName">,
): Discoverable | undefined {
  const name = NAMES.get(typeName) ?? NAMES.get(type);
  if (name !== undefined) return { name };
  const found = BY_ARCHITECTURE.exec(typeName);
  if (!found) return undefined;
  const [, what, verity, signature, architecture] = found;
  return {
    name: what === "root" ? "root" : "usr",
    architecture,
    ...verity ? { verity: signature ? "signature" : "hash" } : {},
  };
}

/** Which architectures a machine runs, its own first, in sfdisk's words. */
const RUNS: Record<string, readonly string[]> = {
  x86_64: ["x86-64", "x86"],
  aarch64: ["ARM-64", "ARM"],
};

/**
 * Those that the specification calls `name`. Of root and usr those of one architecture, where `machine` runs
 * one of theirs: its own first. Else all of them.
 */
export function discover<P extends Pick<TablePartition, "type" | "typeName">>(
  partitions: readonly P[],
  name: string,
  machine: string,
): P[] {
  const all = partitions.filter((one) => {
    const found = discoverable(one);
    return found?.name === name && found.verity === undefined;
  });
  const of = (architecture: string) =>
    all.filter((one) => discoverable(one)?.architecture === architecture);
  return (RUNS[machine] ?? []).map(of).find((found) => found.length > 0) ?? all;
}
