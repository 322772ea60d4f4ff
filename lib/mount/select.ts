/**
 * Finds the partition that a selector means, and says what there is where it means none or several.
 *
 * @module
 */
import { isRefusal, LoopError } from "../base/errors.ts";
import type { NamedSelector } from "../base/selector.ts";
import { machine } from "../kernel/syscalls.ts";
import type { FileSystem } from "../superblocks/file_systems.ts";
import type { TablePartition } from "../table/disk.ts";
import { discover } from "../table/dps.ts";

/** What a selector can tell a partition by. */
export type Selectable = Pick<
  TablePartition,
  "number" | "size" | "type" | "typeName" | "name" | "uuid"
>;

/** From what one is selected. */
export interface Selection<P extends Selectable> {
  readonly partitions: readonly P[];
  /** The device or image, for errors. */
  readonly path: string;
  /** Why it has no partitions, for errors. */
  readonly whyNone: string;
  /** All that its superblocks say. What it rejects with, if it is a LoopError, counts as unreadable. */
  readonly contentOf: (partition: P) => Promise<readonly FileSystem[]>;
}

/** A partition, and what it holds as far as that was asked: the error's code if it cannot be read. */
export interface Known<P> {
  readonly partition: P;
  readonly content: readonly FileSystem[] | string;
}

/** The only one that matches. Rejects with LoopError, which lists all, if it is none or several. */
export async function selectPartition<P extends Selectable>(
  selector: NamedSelector,
  from: Selection<P>,
): Promise<P> {
  const [[key, value]] = Object.entries(selector).filter(([, value]) => value !== undefined);
  const { partitions, path } = from;
  let known: readonly Known<P>[] | undefined;
  let found: readonly P[];
  if (key === "label" || key === "uuid") {
    known = await lookInto(from);
    found = known.filter(({ content }) => holds(content, key, value)).map((one) => one.partition);
  } else {
    found = matchingIn(partitions, key, value);
  }
  if (found.length === 1) return found[0];
  const wanted = `${key} ${JSON.stringify(value)}`;
  if (partitions.length === 0) {
    const hint = `there is no partition with the ${wanted}: ${from.whyNone}`;
    throw new LoopError({ code: "ENXIO", path, hint });
  }
  const numbers = found.map(({ number }) => number).join(" and ");
  throw new LoopError({
    code: found.length === 0 ? "ENXIO" : "EINVAL",
    path,
    hint: found.length === 0
      ? `none of its partitions has the ${wanted}`
      : `the partitions ${numbers} have the ${wanted}: select one by its number`,
    lines: listPartitions(known ?? await lookInto(from), key),
  });
}

/** What the table alone says. */
function matchingIn<P extends Selectable>(
  partitions: readonly P[],
  key: string,
  value: string,
): readonly P[] {
  const lower = value.toLowerCase();
  if (key === "name") return partitions.filter(({ name }) => name === value);
  if (key === "partuuid") return partitions.filter(({ uuid }) => uuid?.toLowerCase() === lower);
  if (lower.length === 36) return partitions.filter(({ type }) => type === lower);
  const byte = /^(?:0x)?([\da-f]{1,2})$/.exec(lower)?.[1];
  if (byte === undefined) return discover(partitions, value, machine());
  const isByte = ({ type = "" }: Selectable) =>
    /^0x/.test(type) && parseInt(type, 16) === parseInt(byte, 16);
  return partitions.filter(isByte);
}

function holds(content: Known<unknown>["content"], key: "label" | "uuid", value: string): boolean {
  if (typeof content === "string") return false;
  return content.some(({ label, uuid }) =>
    key === "label" ? label === value : uuid?.toLowerCase() === value.toLowerCase()
  );
}

/** One that cannot be read keeps none of the others from being found. */
async function lookInto<P extends Selectable>(
  { partitions, contentOf }: Selection<P>,
): Promise<Known<P>[]> {
  return await Promise.all(partitions.map(async (partition) => {
    try {
      return { partition, content: await contentOf(partition) };
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return { partition, content: error.code };
    }
  }));
}

/** A line for each, below one that names the columns; a column in which nothing stands is left out. */
export function listPartitions(known: readonly Known<Selectable>[], key?: string): string[] {
  const rows = known.map(({ partition, content }) => {
    const { number, size, type = "", typeName, name, uuid } = partition;
    const all = typeof content === "string" ? [] : content;
    const fields = (field: "type" | "label" | "uuid") =>
      all.flatMap((each) => each[field] ?? []).join(" and ");
    const types = typeof content === "string" ? `unreadable: ${content}` : fields("type");
    return {
      NUMBER: String(number),
      TYPE: typeName ?? type,
      ID: key === "type" && typeName !== undefined ? type : "",
      NAME: name ?? "",
      PARTUUID: key === "partuuid" ? uuid ?? "" : "",
      HOLDS: types,
      LABEL: fields("label"),
      UUID: fields("uuid"),
      SIZE: String(size),
    };
  });
  return alignedLines(rows);
}

/** The rows below their columns' names, aligned. */
function alignedLines(rows: readonly Readonly<Record<string, string>>[]): string[] {
  const names = Object.keys(rows[0]).filter((name) => rows.some((row) => row[name] !== ""));
  const head = Object.fromEntries(names.map((name) => [name, name]));
  const all = [head, ...rows];
  const widths = names.map((name) => Math.max(...all.map((row) => row[name].length)));
  return all.map((row) => names.map((name, i) => row[name].padEnd(widths[i])).join("  ").trimEnd());
}
