/**
 * The partition table in a file, or on a loop device.
 *
 * @module
 */
import { blkGetSize64 } from "../kernel/block.ts";
import { type ErrorCode, isRefusal, LoopError } from "../base/errors.ts";
import type { OpenFile } from "../kernel/file.ts";
import { fileStatus } from "../kernel/stat.ts";
import { readAllWithoutWaiting, readWithoutWaiting } from "../kernel/blocking.ts";
import { libc } from "../runtime/libc.ts";
import { yieldToEventLoop } from "../runtime/event_loop.ts";
import type { FoundTable } from "../table/disk.ts";
import { findTableSteps } from "../table/sector_size.ts";
import { runStepsOnThread, type Steps, type Wanted } from "../table/steps.ts";

/** Sizes of a page on x86-64 and aarch64. */
const PAGE_SIZES = [4096, 16_384, 65_536];

/** What a device is, or would be; bytes. */
export interface Geometry {
  readonly size: number;
  /** `"auto"`: the one that the GPT is made for, or else the kernel's default. */
  readonly sectorSize: number | "auto";
  /** Instead of the kernel's default. */
  readonly usual?: number;
  /** Where it begins in the file. */
  readonly offset?: number;
  /** Stops the reading. */
  readonly signal?: AbortSignal;
}

/**
 * The event loop turns after so many rests in any case, each of which comes after some reads: a table can take
 * 25,000 of them.
 */
const RESTS_A_TURN = 8;

/** Runs a reader while the event loop goes on: another thread waits for storage. */
function readInTurns<T>(
  steps: Steps<T>,
  read: (offset: number, length: number) => Uint8Array | Promise<Uint8Array>,
  signal?: AbortSignal,
): Promise<T> {
  let count = 0;
  return runStepsOnThread(steps, read, async () => {
    if (++count % RESTS_A_TURN === 0) await libc().turn();
    else await yieldToEventLoop();
    signal?.throwIfAborted();
  });
}

/** A part of a file; bytes. */
type Range = Pick<Geometry, "offset" | "size" | "signal">;

/** The same of a part of a file, of which no more is read than it has. */
export async function readPart<T>(
  file: OpenFile,
  { offset = 0, size, signal }: Range,
  steps: Steps<T>,
): Promise<T> {
  const read = (from: number, length: number) =>
    readWhole(file, offset + from, Math.min(length, size - from));
  return await readInTurns(steps, read, signal);
}

/**
 * The same for a reader whose result refers to none of the bytes: their memory is used again. `ahead`: what
 * it reads first, in one trip to the other thread.
 */
export async function findInPart<T>(
  file: OpenFile,
  range: Range,
  steps: Steps<T>,
  ahead: readonly Wanted[] = [],
): Promise<T> {
  const scratch = spare ?? new Scratch();
  spare = undefined;
  const { offset = 0, size, signal } = range;
  const pieces = ahead.flatMap(({ offset: from, length }) => {
    const bytes = length > 0 && from + length <= size ? scratch.take(length) : undefined;
    return bytes ? { offset: offset + from, bytes } : [];
  });
  const isRead = pieces.length > 0 && await readAllWithoutWaiting(file, pieces);
  const read = (from: number, length: number) => {
    const at = offset + from;
    const piece = pieces.find(({ offset, bytes }) => offset === at && bytes.length === length);
    if (isRead && piece) return piece.bytes;
    return readWhole(file, at, Math.min(length, size - from), scratch);
  };
  const found = await readInTurns(steps, read, signal);
  // Not after an error: a thread may still be reading.
  scratch.clear();
  spare = scratch;
  return found;
}

/**
 * Memory for the reads of one reader. New memory for each attach would cost more than the reads: it is
 * zeroed, and it makes the runtime collect garbage.
 */
class Scratch {
  readonly #bytes = new Uint8Array(new ArrayBuffer(SCRATCH_BYTES));
  #used = 0;

  /** So many bytes that nobody else has; undefined if there are no more. */
  take(length: number): Uint8Array<ArrayBuffer> | undefined {
    const end = this.#used + length;
    if (end > SCRATCH_BYTES) return undefined;
    const bytes = this.#bytes.subarray(this.#used, end);
    this.#used = end;
    return bytes;
  }

  clear(): void {
    this.#used = 0;
  }
}

/** Both ends of a disk, as findFileSystems() wants them. */
const SCRATCH_BYTES = 136 * 1024;
/** The one that nobody uses. */
let spare: Scratch | undefined;

/**
 * The table of the device that begins at `offset` in `file`. It can be one of another sector size
 * than the wanted one: {@linkcode refuseUnreadable} says so.
 */
export async function readTableIn(file: OpenFile, geometry: Geometry): Promise<FoundTable> {
  const { size, sectorSize, usual } = geometry;
  return await findInPart(file, geometry, findTableSteps(size, sectorSize, usual));
}

/** All of the bytes, since a table that is read in part would pass for "no table". */
function readWhole(
  file: OpenFile,
  offset: number,
  length: number,
  scratch?: Scratch,
): Uint8Array | Promise<Uint8Array> {
  const wanted = Math.max(0, length);
  if (wanted === 0) return new Uint8Array();
  const read = readWithoutWaiting(file, offset, wanted, scratch?.take(wanted));
  const whole = (bytes: Uint8Array) => checkWhole(file, offset, wanted, bytes);
  return read instanceof Uint8Array ? whole(read) : (async () => whole(await read))();
}

function checkWhole(file: OpenFile, offset: number, wanted: number, bytes: Uint8Array): Uint8Array {
  if (bytes.length === wanted) return bytes;
  const hint = `only ${bytes.length} of ${wanted} bytes at ${offset} could be read`;
  throw new LoopError({ code: "EIO", syscall: "pread", path: file.path, hint });
}

/**
 * The table of a bound device. Where the device ends within a sector, the kernel cannot read the page
 * around that end, and its own scan finds no table.
 */
export async function readTable(
  device: OpenFile,
  sectorSize: number,
  signal?: AbortSignal,
): Promise<FoundTable> {
  const size = blkGetSize64(device);
  const end = size - size % sectorSize;
  const read = async (from: number, length: number) => {
    let last = end;
    for (const page of end < size ? PAGE_SIZES : []) {
      try {
        return await readWhole(device, from, Math.min(length, last - from));
      } catch (error) {
        if (!isRefusal(error, "EIO")) throw error;
        last = size - size % page;
      }
    }
    return await readWhole(device, from, Math.min(length, last - from));
  };
  return await readInTurns(findTableSteps(end, sectorSize), read, signal);
}

/**
 * Whether a table accounts for all partitions of its device, so that one that is not in it is left over.
 * Where we find no table, the kernel may know one of another kind, or a user added partitions by hand.
 */
export function isComplete({ kind, header }: FoundTable): boolean {
  return kind === "gpt" ? header !== undefined : kind !== "none";
}

/** What the caller can do, by the call. */
const REMEDIES = {
  attach: {
    otherSize: (size: number) => `attach it with sectorSize: ${size}, or "auto"`,
    damaged: "repair it (gdisk), or attach it without partscan",
    ofOtherKind: "attach it without partscan",
  },
  read: {
    otherSize: (size: number) => `read it with sectorSize: ${size}, or "auto"`,
    damaged: "repair it (gdisk)",
    ofOtherKind: "attach() without partscan shows the whole of it",
  },
  grow: {
    otherSize: (size: number) => `attach it with sectorSize: ${size}, or "auto"`,
    damaged: "repair it (gdisk); nothing was changed",
    ofOtherKind: "nothing was changed",
  },
  rescan: {
    otherSize: (size: number) => `call setSectorSize(${size}) first`,
    damaged: "repair it (gdisk); no partition was touched",
    ofOtherKind: "no partition was touched",
  },
};

/** The part of a file that is, or would be, a device. */
export interface Part {
  readonly file: OpenFile;
  readonly offset: number;
  readonly sizelimit: number;
}

/** What a refusal of a table is about: which file or device, and which part of a file, if it is one. */
export interface Refused {
  readonly path: string;
  readonly sectorSize: number;
  readonly call: keyof typeof REMEDIES;
  readonly part?: Part;
  /** Of a device: the most bytes it may have; 0: no limit. */
  readonly sizelimit?: number;
}

/**
 * Throws if there is a GPT that sectors of this size do not show, or a table of a kind that is not
 * read: a full disk must not pass for an empty one.
 */
export function refuseUnreadable(table: FoundTable, refused: Refused): void {
  const { path, sectorSize, call } = refused;
  const { otherSize, ofOtherKind } = REMEDIES[call];
  const refuse = (code: ErrorCode, hint: string) =>
    new LoopError({ code, syscall: "pread", path, hint });
  if (table.unreadable !== undefined) {
    const what = `its partition table is ${table.unreadable}, a kind that loopdev cannot read`;
    throw refuse("EMEDIUMTYPE", `${what}; ${ofOtherKind}`);
  }
  if (table.kind === "gpt" && table.header === undefined) {
    throw refuse("EUCLEAN", explainDamage(table, refused));
  }
  if (table.sectorSize !== sectorSize) {
    const what =
      `its GPT is made for sectors of ${table.sectorSize} bytes, and would look empty in ` +
      `sectors of ${sectorSize}`;
    throw refuse("EMEDIUMTYPE", `${what}; ${otherSize(table.sectorSize)}`);
  }
}

/** Why a GPT has no whole header, and what helps. */
function explainDamage({ damage }: FoundTable, { call, part, sizelimit }: Refused): string {
  if (damage?.asks !== undefined) {
    const orElse = call === "attach" ? "attach it without partscan, or " : "";
    return `it is cut off: its GPT is made for a disk of ${damage.asks} bytes; ${orElse}` +
      regrow(damage.asks, part, sizelimit);
  }
  if (damage?.remedy !== undefined) {
    return `the kernel cannot read its GPT: ${damage.what}; ${damage.remedy}`;
  }
  const what = "its MBR announces a GPT (type 0xee), but at no sector size is a header whole, " +
    "neither the primary nor the backup: it is damaged or cut off";
  return `${what}${damage ? ` (${damage.what})` : ""}; ${REMEDIES[call].damaged}`;
}

/**
 * How a disk gets the size again that its GPT asks for. The kernel takes a GPT whose backup header is
 * missing, but none that has more sectors than the disk.
 */
function regrow(asks: number, part: Part | undefined, most = 0): string {
  if (!part && most > 0 && most < asks) {
    return `detach it, and attach it with a sizelimit of ${asks}, or none; no partition was touched`;
  }
  if (!part) {
    return `give its backing file ${asks} bytes from its offset on (truncate -s), call ` +
      "setCapacity(), then rescan(); no partition was touched";
  }
  const { file, offset, sizelimit } = part;
  if (sizelimit > 0 && sizelimit < asks) return `give it a sizelimit of ${asks}, or none`;
  if (fileStatus(file).type !== "file") return "copy it to a device that is large enough";
  return "give it that size, though what was cut off stays lost: " +
    `truncate -s ${offset + asks} ${shellWord(file.path)}`;
}

/** A path as a word of a shell's command line. */
function shellWord(path: string): string {
  return /^[\w./][\w./-]*$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
