/**
 * Opening what shall be attached, and refusing what cannot be, with a reason.
 *
 * @module
 */
import { blkGetSize64, blkRoGet } from "../kernel/block.ts";
import { type ErrorCode, isRefusal, LoopError } from "../base/errors.ts";
import { O_NONBLOCK, O_RDONLY, O_RDWR, type OpenFile, setStatusFlags } from "../kernel/file.ts";
import { fileSystemMagic, isTmpfs, pseudoFileSystem } from "../kernel/pseudo.ts";
import { fileStatus, unwritableBy } from "../kernel/stat.ts";
import { noteInMemory, openWithoutWaiting } from "../kernel/blocking.ts";

/** An open backing file, and whether the device on it shall refuse writes. */
export interface BackingFile extends Disposable {
  readonly file: OpenFile;
  readonly readOnly: boolean;
  /** Bytes. */
  readonly size: number;
  /** Device number and inode: which file it is, whatever its name. */
  readonly identity: string;
  readonly isBlockDevice: boolean;
  /** Disposing it leaves the file open from now on: somebody else closes it. */
  handOver(): void;
}

/**
 * A file that can be attached from `offset` on. Opens once and asks the open file, never the name
 * again: nobody can swap it in between.
 */
export async function openBackingFile(
  path: string,
  { readOnly, offset, signal }: { readOnly?: boolean; offset: number; signal?: AbortSignal },
): Promise<BackingFile> {
  const opened = await openWritableOrNot(path, readOnly, signal);
  const { file } = opened;
  try {
    const { type, size: fileSize, dev, inode } = fileStatus(file);
    if (type === "directory") throw refusal(file, "a directory cannot be attached", "EISDIR");
    if (type !== "file" && type !== "block device") {
      throw refusal(file, `it is a ${type}; only regular files and block devices can be attached`);
    }
    // A file system without a disk below it: those of the kernel's own are among them.
    if (type === "file" && dev.startsWith("0:")) {
      const magic = fileSystemMagic(file);
      refusePseudo(file, magic);
      if (isTmpfs(magic)) noteInMemory(file);
    }
    const size = type === "file" ? fileSize : blkGetSize64(file);
    if (size === 0) throw refusal(file, "it is empty");
    if (size < 512) throw refusal(file, `it has ${size} bytes, less than one 512-byte sector`);
    if (offset > size - 512) {
      throw refusal(file, `offset ${offset} leaves no whole 512-byte sector of its ${size} bytes`);
    }
    // A block device can be opened for writing and refuse the writes themselves.
    const readOnlyDevice = type === "block device" && blkRoGet(file);
    if (readOnlyDevice && readOnly === false) {
      throw refusal(file, "this block device is read-only", "EROFS");
    }
    // Without O_NONBLOCK a FIFO would have blocked the open; the kernel's reads should not have it.
    setStatusFlags(file, 0);
    let isOurs = true;
    return {
      file,
      size,
      identity: `${dev} ${inode}`,
      isBlockDevice: type === "block device",
      readOnly: opened.readOnly || readOnlyDevice,
      handOver: () => void (isOurs = false),
      [Symbol.dispose]: () => void (isOurs && file.close()),
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

/**
 * Throws if the kernel makes the file up: what a disk's user reads there is no disk, and what he writes is
 * a setting of the machine. The kernel itself binds such a file, at least up to Linux 7.3.
 */
export function refusePseudo(file: OpenFile, magic = fileSystemMagic(file)): void {
  const name = pseudoFileSystem(magic);
  if (name === undefined) return;
  throw refusal(
    file,
    `it is a file of ${name}, which the kernel makes up: copy it, and attach the copy`,
  );
}

/** Which part of a file; bytes, `sizelimit` 0: up to the end. */
interface Range {
  readonly offset: number;
  readonly sizelimit: number;
}

/** How many bytes of a file of `size` bytes are in its part. */
export function partSize(size: number, { offset, sizelimit }: Range): number {
  return Math.min(size - offset, sizelimit || Infinity);
}

/** How many bytes the device has, as the kernel reckons it: whole 512-byte sectors. */
export function deviceSize(size: number, range: Range): number {
  const part = partSize(size, range);
  return part - part % 512;
}

/** `readOnly` left out: writable if the file is, as losetup does. */
export async function openWritableOrNot(
  path: string,
  readOnly: boolean | undefined,
  signal?: AbortSignal,
): Promise<{ file: OpenFile; readOnly: boolean }> {
  const attempt = async (readOnly: boolean) => {
    const flags = (readOnly ? O_RDONLY : O_RDWR) | O_NONBLOCK;
    try {
      return { file: await openWithoutWaiting(path, flags, signal), readOnly };
    } catch (error) {
      throw isRefusal(error, "EPERM") ? explainUnwritable(error, path) : error;
    }
  };
  if (readOnly !== undefined) return await attempt(readOnly);
  try {
    return await attempt(false);
  } catch (error) {
    if (!isRefusal(error, "EACCES", "EROFS", "ETXTBSY")) throw error;
    return await attempt(true);
  }
}

/** EPERM comes of more than this: what chattr(1) did is seen, the rest is not. */
function explainUnwritable(error: LoopError, path: string): LoopError {
  const by = unwritableBy(path);
  if (by === undefined) return error;
  return error.withHint(
    `the file is ${by.name} (chattr +${by.attribute}): attach it with readOnly: true, or take that ` +
      `away (chattr -${by.attribute})`,
  );
}

/** A refusal of our own that the kernel would give later, or not at all, without a reason. */
export function refusal(file: OpenFile, hint: string, code: ErrorCode = "EINVAL"): LoopError {
  return new LoopError({ code, path: file.path, hint });
}
