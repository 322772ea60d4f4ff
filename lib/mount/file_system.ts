/**
 * What is on a block device, read by another thread.
 *
 * @module
 */
import { blkGetSize64 } from "../kernel/blkpg.ts";
import { LoopError } from "../base/errors.ts";
import { check, O_RDONLY, type OpenFile } from "../kernel/file.ts";
import { openUncached, uninterruptedLater } from "../kernel/waiting.ts";
import type { Image } from "../table/disk.ts";
import { type FileSystem, findContainer, findFileSystems } from "../superblocks/file_systems.ts";

/** Here all superblocks begin but the copies, and those of discs' roots. */
const HEAD = 128 * 1024;
/** Where arrays have theirs. */
const TAIL = 128 * 1024;
/** A stranger's image could send us around for ever. */
const MOST_READS = 1000;
const MOST_BYTES = 64 * 1024 * 1024;

/** A piece that must be read before a question can be answered. */
class Missing {
  constructor(readonly offset: number, readonly length: number) {}
}

/** What a device holds. */
export interface Content {
  readonly fileSystems: readonly FileSystem[];
  /** What it holds instead: "LUKS", "RAID". */
  readonly container: string | undefined;
}

/** Every file system whose superblock is on the device. */
export async function contentOf(path: string): Promise<Content> {
  using device = await openUncached(path, O_RDONLY);
  const size = blkGetSize64(device);
  const ends = [[0, Math.min(HEAD, size)], [Math.max(0, size - TAIL), Math.min(TAIL, size)]];
  const pieces = await Promise.all(
    ends.map(async ([offset, length]) => ({
      offset,
      bytes: await readLater(device, offset, length),
    })),
  );
  const read = (offset: number, length: number) => {
    for (const piece of pieces) {
      const from = offset - piece.offset;
      if (from >= 0 && from + length <= piece.bytes.length) {
        return piece.bytes.subarray(from, from + length);
      }
    }
    throw new Missing(offset, length);
  };
  const ask = (disk: Image): Content => {
    const fileSystems = findFileSystems(disk);
    // What shows a file system is no container: it has been asked.
    return { fileSystems, container: fileSystems.length > 0 ? undefined : findContainer(disk) };
  };
  for (let reads = 0, bytes = 0; reads < MOST_READS && bytes < MOST_BYTES; reads++) {
    try {
      return ask({ size, read });
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      const { offset, length } = error;
      bytes += length;
      pieces.push({ offset, bytes: await readLater(device, offset, length) });
    }
  }
  throw new LoopError({
    code: "EUCLEAN",
    syscall: "pread",
    path,
    hint: "its superblocks have no end: no mkfs makes such",
  });
}

/** The one whose superblock is on the device; undefined: none that is known. */
export async function onlyFileSystem(path: string): Promise<FileSystem | undefined> {
  const { fileSystems: [found, ...others] } = await contentOf(path);
  if (others.length === 0) return found;
  const types = [found, ...others].map(({ type }) => type).join(" and of ");
  const hint = `it has the superblocks of ${types}: mount() takes the type that is meant, and ` +
    "wipefs removes the other";
  throw new LoopError({ code: "EUCLEAN", syscall: "pread", path, hint });
}

/** `length` bytes from `offset`, zeros behind the device's end. */
async function readLater(file: OpenFile, offset: number, length: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(new ArrayBuffer(Math.max(1, length)));
  for (let done = 0; done < length;) {
    const rest = buffer.subarray(done);
    const at = offset + done;
    const n = await file.callLater((fd) =>
      uninterruptedLater("pread64", fd, rest, length - done, at)
    );
    if (check(n, "pread", file.path) === 0) break;
    done += n;
  }
  return buffer.subarray(0, length);
}
