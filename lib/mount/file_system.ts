/**
 * What a block device or an image holds. Another thread makes the reads that wait for storage.
 *
 * @module
 */
import { LoopError } from "../base/errors.ts";
import { findInPart, readTableIn } from "../binding/image_table.ts";
import { openWithoutWaiting, readWithoutWaiting } from "../kernel/blocking.ts";
import { blkGetSize64 } from "../kernel/block.ts";
import { O_RDONLY, type OpenFile } from "../kernel/file.ts";
import { endsOf, type FileSystem, findFileSystems } from "../superblocks/file_systems.ts";
import { findWrapper, type Wrapper } from "../superblocks/wrappers.ts";

/** So much of a device is looked through for bytes that are not zero. */
const MOST_BYTES = 64 * 1024 * 1024;
const CHUNK = 1024 * 1024;

/** Of the device, in bytes. */
export async function sizeOf(path: string): Promise<number> {
  using device = await openWithoutWaiting(path, O_RDONLY);
  return blkGetSize64(device);
}

/** All file systems and containers that a part of a file shows. Sizes are in bytes. */
export async function fileSystemsIn(
  file: OpenFile,
  part: { size: number; offset?: number; signal?: AbortSignal },
): Promise<FileSystem[]> {
  return await findInPart(file, part, findFileSystems(part.size), endsOf(part.size));
}

/** The same of a device. */
export async function fileSystemsOn(path: string): Promise<FileSystem[]> {
  using device = await openWithoutWaiting(path, O_RDONLY);
  return await fileSystemsIn(device, { size: blkGetSize64(device) });
}

/** What a device holds; undefined: nothing that is known. */
export async function fileSystemOn(path: string): Promise<FileSystem | undefined> {
  using device = await openWithoutWaiting(path, O_RDONLY);
  return await fileSystemIn(device);
}

/** The same of one that is open. The reads have begun when this returns its promise. */
export async function fileSystemIn(device: OpenFile): Promise<FileSystem | undefined> {
  return onlyOne(await fileSystemsIn(device, { size: blkGetSize64(device) }), device.path);
}

/** The only one. Throws if there are two: nothing tells which of them is in use. */
export function onlyOne(
  [found, ...others]: readonly FileSystem[],
  path: string,
): FileSystem | undefined {
  if (others.length === 0) return found;
  const types = [found, ...others].map(({ type }) => type).join(" and of ");
  const hint = `it has the superblocks of ${types}: mount() takes the type that is meant, and ` +
    "wipefs removes the other";
  throw new LoopError({ code: "EUCLEAN", syscall: "pread", path, hint });
}

/** What else is on a device without a known superblock. */
export interface OtherContent {
  /** Of the device, in bytes. */
  readonly size: number;
  /** Numbers of the partitions in its table; undefined if it has no table. */
  readonly partitions: readonly number[] | undefined;
  readonly wrapper: Wrapper | undefined;
  /** Whether all bytes are zero; undefined: those that were read are, and there are more. */
  readonly isZero: boolean | undefined;
}

export async function otherContentOn(path: string): Promise<OtherContent> {
  using device = await openWithoutWaiting(path, O_RDONLY);
  const size = blkGetSize64(device);
  const table = await readTableIn(device, { size, sectorSize: "auto" });
  return {
    size,
    partitions: table.kind === "none" ? undefined : table.partitions.map(({ number }) => number),
    wrapper: await findInPart(device, { size }, findWrapper(size)),
    isZero: await isZero(device, size),
  };
}

async function isZero(device: OpenFile, size: number): Promise<boolean | undefined> {
  for (let offset = 0; offset < Math.min(size, MOST_BYTES); offset += CHUNK) {
    const { buffer } = await readWithoutWaiting(device, offset, Math.min(CHUNK, size - offset));
    // The size of a device is a multiple of 512 bytes: all of it can be read as words.
    const words = new Uint32Array(buffer);
    if (words.some((word) => word !== 0)) return false;
  }
  return size <= MOST_BYTES ? true : undefined;
}
