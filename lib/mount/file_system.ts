/**
 * What is on a block device, read by another thread.
 *
 * @module
 */
import { blkGetSize64 } from "../kernel/block.ts";
import { LoopError } from "../base/errors.ts";
import { check, O_RDONLY, type OpenFile } from "../kernel/file.ts";
import { chainOnThread, type NamedStep } from "../kernel/chain.ts";
import { openWithoutWaiting } from "../kernel/blocking.ts";
import type { Image } from "../table/disk.ts";
import {
  BEGINNING,
  type FileSystem,
  findContainer,
  findFileSystems,
  findOther,
  findTorn,
  findWrapper,
  type Wrapper,
} from "../superblocks/file_systems.ts";
import { findTable } from "../table/sector_size.ts";

/** Arrays have their superblocks in the last whole 64 KiB, or behind them. */
const TAIL = 64 * 1024;
/** A stranger's image could send us around for ever. */
const MOST_READS = 1000;
const MOST_BYTES = 64 * 1024 * 1024;

/** A piece that must be read before a question can be answered. */
class Missing {
  readonly offset: number;
  readonly length: number;

  constructor(offset: number, length: number) {
    this.offset = offset;
    this.length = length;
  }
}

/** What a device holds. */
export interface Content {
  /** Of the device, in bytes. */
  readonly size: number;
  readonly fileSystems: readonly FileSystem[];
  /** What it holds instead: "LUKS", "RAID". */
  readonly container: string | undefined;
}

/** Of the device, in bytes. */
export async function sizeOf(path: string): Promise<number> {
  using device = await openWithoutWaiting(path, O_RDONLY);
  return blkGetSize64(device);
}

/** What a device holds that shows no file system. */
export interface OtherContent extends Content {
  /** Numbers of the partitions in its table; undefined if it has no table. */
  readonly partitions: readonly number[] | undefined;
  readonly wrapper: Wrapper | undefined;
  /** File systems whose superblock does not hold. */
  readonly torn: readonly string[];
  /** A file system that is judged by its driver alone. */
  readonly other: { readonly name: string; readonly type: string } | undefined;
  /** Whether all bytes are zero; undefined: those that were read are, and there are more. */
  readonly isZero: boolean | undefined;
}

/** Every file system whose superblock is on the device. */
export async function contentOf(path: string): Promise<Content> {
  using device = await openWithoutWaiting(path, O_RDONLY);
  return await ask(device, (disk): Content => {
    const fileSystems = findFileSystems(disk);
    // What shows a file system is no container: it has been asked.
    const container = fileSystems.length > 0 ? undefined : findContainer(disk);
    return { size: disk.size, fileSystems, container };
  });
}

/** All that can be said of a device without a file system, read anew. */
export async function otherContentOf(path: string): Promise<OtherContent> {
  using device = await openWithoutWaiting(path, O_RDONLY);
  const found = await ask(device, (disk) => {
    const table = findTable(disk, "auto");
    return {
      size: disk.size,
      fileSystems: findFileSystems(disk),
      container: findContainer(disk),
      partitions: table.kind === "none" ? undefined : table.partitions.map(({ number }) => number),
      wrapper: findWrapper(disk),
      torn: findTorn(disk),
      other: findOther(disk),
    };
  });
  return { ...found, isZero: await isZero(device) };
}

/** A question about a device, asked again with more of it until it can be answered. */
async function ask<T>(device: OpenFile, question: (disk: Image) => T): Promise<T> {
  const size = blkGetSize64(device);
  const tail = Math.max(0, size - size % TAIL - TAIL);
  const pieces = await readOnThread(device, [
    { offset: 0, length: Math.min(BEGINNING, size) },
    { offset: tail, length: size - tail },
  ]);
  const read = (offset: number, length: number) => {
    for (const piece of pieces) {
      const from = offset - piece.offset;
      if (from >= 0 && from + length <= piece.bytes.length) {
        return piece.bytes.subarray(from, from + length);
      }
    }
    throw new Missing(offset, length);
  };
  for (let reads = 0, bytes = 0; reads < MOST_READS && bytes < MOST_BYTES; reads++) {
    try {
      return question({ size, read });
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      bytes += error.length;
      pieces.push(...await readOnThread(device, [error]));
    }
  }
  throw new LoopError({
    code: "EUCLEAN",
    syscall: "pread",
    path: device.path,
    hint: "its superblocks have no end: no mkfs makes such",
  });
}

const CHUNK = 1024 * 1024;

/** Whether a device has nothing but zeros; undefined if only its first {@linkcode MOST_BYTES} were read. */
async function isZero(device: OpenFile): Promise<boolean | undefined> {
  const size = blkGetSize64(device);
  for (let offset = 0; offset < Math.min(size, MOST_BYTES); offset += CHUNK) {
    const length = Math.min(CHUNK, size - offset);
    const [{ bytes }] = await readOnThread(device, [{ offset, length }]);
    // A device has whole sectors, and a piece its own memory: words are there to be looked at.
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, length / 4);
    for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false;
  }
  return size <= MOST_BYTES ? true : undefined;
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

interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** By another thread, in as few turns as it takes; zeros behind the device's end. */
async function readOnThread(
  file: OpenFile,
  asked: readonly { offset: number; length: number }[],
): Promise<Piece[]> {
  const pieces = asked.map(({ offset, length }) => ({
    offset,
    bytes: new Uint8Array(new ArrayBuffer(Math.max(1, length))).subarray(0, length),
    done: 0,
  }));
  for (let rest = pieces; rest.length > 0;) {
    const results = await file.callOnThread((fd) =>
      chainOnThread(rest.map(({ offset, bytes, done }): NamedStep => {
        const buffer = bytes.subarray(done);
        return { name: "pread64", args: [fd, buffer, buffer.length, offset + done] };
      }))
    );
    const isAtEnd = results.map((n, i) => {
      rest[i].done += check(n, "pread", file.path);
      return n === 0;
    });
    rest = rest.filter(({ bytes, done }, i) => done < bytes.length && !isAtEnd[i]);
  }
  return pieces;
}
