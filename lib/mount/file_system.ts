/**
 * What is on a block device or in an image: by another thread where a read waits for storage.
 *
 * @module
 */
import { LoopError } from "../base/errors.ts";
import { readPart, readTableIn } from "../binding/image_table.ts";
import { openWithoutWaiting, readWithoutWaiting } from "../kernel/blocking.ts";
import { blkGetSize64 } from "../kernel/block.ts";
import { O_RDONLY, type OpenFile } from "../kernel/file.ts";
import { type FileSystem, findFileSystems } from "../superblocks/file_systems.ts";
import { findWrapper, type Wrapper } from "../superblocks/wrappers.ts";

/** More is not looked through for anything but zeros. */
const MOST_BYTES = 64 * 1024 * 1024;
const CHUNK = 1024 * 1024;

/** Of the device, in bytes. */
export async function sizeOf(path: string): Promise<number> {
  using device = await openWithoutWaiting(path, O_RDONLY);
  return blkGetSize64(device);
}

/** All that a part of a file shows; bytes. */
export async function fileSystemsIn(
  file: OpenFile,
  part: { size: number; offset?: number; signal?: AbortSignal },
): Promise<FileSystem[]> {
  return await readPart(file, part, findFileSystems(part.size));
}

/** All that a device shows. */
export async function fileSystemsOn(path: string): Promise<FileSystem[]> {
  using device = await openWithoutWaiting(path, O_RDONLY);
  return await fileSystemsIn(device, { size: blkGetSize64(device) });
}

/** What a device holds; undefined: nothing that is known. */
export async function fileSystemOn(path: string): Promise<FileSystem | undefined> {
  return onlyOne(await fileSystemsOn(path), path);
}

/** Throws if there are two: what such a disk holds is anybody's guess. */
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

/** A device that shows none. */
export interface OtherContent {
  /** Of the device, in bytes. */
  readonly size: number;
  /** Numbers of the partitions in its table; undefined if it has no table. */
  readonly partitions: readonly number[] | undefined;
  readonly wrapper: Wrapper | undefined;
  /** Whether all bytes are zero; undefined: those that were read are, and there are more. */
  readonly isZero: boolean | undefined;
}

/** All that can be said of a device that shows no file system. */
export async function otherContentOn(path: string): Promise<OtherContent> {
  using device = await openWithoutWaiting(path, O_RDONLY);
  const size = blkGetSize64(device);
  const table = await readTableIn(device, { size, sectorSize: "auto" });
  return {
    size,
    partitions: table.kind === "none" ? undefined : table.partitions.map(({ number }) => number),
    wrapper: await readPart(device, { size }, findWrapper(size)),
    isZero: await isZero(device, size),
  };
}

async function isZero(device: OpenFile, size: number): Promise<boolean | undefined> {
  for (let offset = 0; offset < Math.min(size, MOST_BYTES); offset += CHUNK) {
    const { buffer } = await readWithoutWaiting(device, offset, Math.min(CHUNK, size - offset));
    // A device has whole sectors: words are there to be looked at.
    const words = new Uint32Array(buffer);
    if (words.some((word) => word !== 0)) return false;
  }
  return size <= MOST_BYTES ? true : undefined;
}
