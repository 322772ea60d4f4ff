/**
 * What stands at the end of a disk or a partition, and is looked for there. Once that has grown, nobody finds
 * it, and the backup of a GPT may be written over it.
 *
 * @module
 */
import { readPart } from "../binding/image_table.ts";
import type { OpenFile } from "../kernel/file.ts";
import { findAtEnd } from "../superblocks/file_systems.ts";
import { findFooter } from "../superblocks/wrappers.ts";

/** A part of a file; bytes. */
interface Part {
  readonly offset: number;
  readonly size: number;
}

/** Why a disk must not grow, and what helps; undefined: it may. */
export async function whyNotDisk(file: OpenFile, part: Part): Promise<string | undefined> {
  const footer = await readPart(file, part, findFooter(part.size));
  if (footer === undefined) return await whyNotPart(file, part);
  return `it is ${footer}: its last 512 bytes are no part of the disk, and must stay its last. Make a raw ` +
    "image of it (qemu-img convert -f vpc -O raw FILE DISK), and grow that";
}

/** The same of a partition. */
export async function whyNotPart(file: OpenFile, part: Part): Promise<string | undefined> {
  const found = await readPart(file, part, findAtEnd(part.size));
  if (!found) return undefined;
  return `it holds a ${found.type} with its superblock at the end, where mdadm would not find it any more. ` +
    `If the array is not used any more, wipefs -a -t ${found.type} removes the superblock`;
}
