/**
 * What an attached image consists of: its partitions and what each holds, or the whole device.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
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
  /** Bytes. */
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

/** What of an image can be mounted. */
export interface Parts {
  readonly whole: Part;
  /** In the order of their numbers. */
  readonly partitions: readonly Part[];
}

export async function readParts(loop: LoopDevice): Promise<Parts> {
  const { path, size, partitions } = loop;
  const nameless = { type: undefined, typeName: undefined, name: undefined, partuuid: undefined };
  const whole = { ...nameless, number: undefined, path, size, attributes: [] };
  const known = partitions.map(({ uuid, type, typeName, name, attributes = [], ...rest }) => ({
    ...{ number: rest.number, path: rest.path, size: rest.size, attributes },
    ...{ type, typeName, name, partuuid: uuid },
  }));
  const [first, ...others] = await Promise.all([whole, ...known].map(lookInto));
  return { whole: first, partitions: others };
}

async function lookInto(part: Omit<Part, "content" | "unreadable">): Promise<Part> {
  try {
    return { ...part, content: await fileSystemsOn(part.path), unreadable: undefined };
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return { ...part, content: [], unreadable: error.code };
  }
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

/** A line for each of them, for an error. */
export function listParts(parts: readonly Part[]): string[] {
  return listPartitions(parts.map((part) => ({
    partition: { ...part, number: part.number ?? 0, uuid: part.partuuid },
    content: part.unreadable ?? part.content,
  })));
}
