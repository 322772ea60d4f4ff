/**
 * Images that the tools of others made (make.ts), of which the tables are kept: sketches. And what a
 * kernel with all of Debian's parsers shows of each: its own scan, recorded in a virtual machine.
 */
import { Buffer } from "node:buffer";
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

/** Bytes. */
export interface Sketch {
  readonly name: string;
  /** The commands that made it. */
  readonly by: readonly string[];
  readonly size: number;
  /** Of the device that it is for. */
  readonly sectorSize: 512 | 4096;
  /** Pieces that are not zero, where a table can be: their offsets, then gzip of all, in base64. */
  readonly pieces: readonly (readonly [offset: number, length: number])[];
  readonly bytes: string;
}

/** Number, start and size in bytes. */
export type Seen = readonly [number: number, start: number, size: number];

/** What a kernel showed of each, by the image's name. */
export interface Recorded {
  readonly kernel: string;
  readonly partitions: Readonly<Record<string, readonly Seen[]>>;
  /** A kernel of Debian's cloud flavour, where it shows something else. */
  readonly cloud: Omit<Recorded, "cloud">;
}

const read = (name: string) => JSON.parse(readFileSync(join(import.meta.dirname!, name), "utf8"));

export const SKETCHES: readonly Sketch[] = read("images.json");
export const RECORDED: Recorded = read("kernel.json");

/** Makes the image at `path`. */
export function draw({ size, pieces, bytes }: Sketch, path: string): void {
  const all = gunzipSync(Buffer.from(bytes, "base64"));
  const fd = openSync(path, "w");
  ftruncateSync(fd, size);
  let from = 0;
  for (const [offset, length] of pieces) {
    writeSync(fd, all, from, length, offset);
    from += length;
  }
  closeSync(fd);
}
