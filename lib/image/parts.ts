/**
 * What an attached image consists of: its partitions and what each holds, or the whole device.
 *
 * @module
 */
import { LoopError, orRefusal } from "../base/errors.ts";
import type { LoopDevice } from "../device.ts";
import { fileSystemsOn } from "../mount/file_system.ts";
import { listPartitions } from "../mount/select.ts";
import { describeContainer } from "../mount/unknown.ts";
import type { FileSystem } from "../superblocks/file_systems.ts";

/** A partition, or the whole device. */
export interface Part {
  /** undefined: the whole device. */
  readonly number: number | undefined;
  /** Its node. */
  readonly path: string;
  /** Where it begins on the device; bytes, as `size`. */
  readonly start: number;
  readonly size: number;
  readonly type: string | undefined;
  readonly typeName: string | undefined;
  readonly name: string | undefined;
  readonly partuuid: string | undefined;
  /** The table's attribute bits. */
  readonly attributes: readonly number[];
  /** What its superblocks say; empty where it cannot be read. */
  readonly content: readonly FileSystem[];
  /** The error's code where it cannot be read. */
  readonly unreadable: string | undefined;
}

/** A partition. */
export type PartitionPart = Part & { readonly number: number };

/** What of an image can be mounted. */
export interface Parts {
  readonly whole: Part;
  /** In the order of their numbers. */
  readonly partitions: readonly PartitionPart[];
}

export async function readParts(loop: LoopDevice): Promise<Parts> {
  const { path, size, partitions } = loop;
  const nameless = { type: undefined, typeName: undefined, name: undefined, partuuid: undefined };
  const whole = { ...nameless, number: undefined, path, start: 0, size, attributes: [] };
  const known = partitions.map(({ uuid, type, typeName, name, attributes = [], ...rest }) => ({
    ...{ number: rest.number, path: rest.path, start: rest.start, size: rest.size, attributes },
    ...{ type, typeName, name, partuuid: uuid },
  }));
  const [first, others] = await Promise.all([lookInto(whole), Promise.all(known.map(lookInto))]);
  return { whole: first, partitions: others };
}

async function lookInto<T extends Omit<Part, "content" | "unreadable">>(
  part: T,
): Promise<T & Pick<Part, "content" | "unreadable">> {
  const content = await orRefusal(() => fileSystemsOn(part.path));
  return content instanceof LoopError
    ? { ...part, content: [], unreadable: content.code }
    : { ...part, content, unreadable: undefined };
}

/** Whether it has a file system that can be mounted. */
export const isMountable = ({ content }: Part): boolean =>
  content.some(({ usage }) => usage === "filesystem");

/** Why it cannot be mounted; undefined if it can. */
export function whyNot(part: Part): string | undefined {
  if (part.unreadable !== undefined) return `it cannot be read: ${part.unreadable}`;
  if (isMountable(part)) return undefined;
  const [found] = part.content;
  return found ? describeContainer(found, part.path) : "it holds no file system that is known here";
}

/** A line for each of the partitions, for an error. */
export function listParts(partitions: readonly PartitionPart[]): string[] {
  return listPartitions(partitions.map((part) => ({
    partition: { ...part, uuid: part.partuuid },
    content: part.unreadable ?? part.content,
  })));
}
