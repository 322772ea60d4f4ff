/**
 * A disk in memory of which only the written parts take room, however large it claims to be.
 *
 * @module
 */
import type { Disk } from "./read_table.ts";

const PAGE = 4096;

export class SparseDisk implements Disk {
  readonly #pages: Map<number, Uint8Array>;

  size: number;
  readonly sectorSize: number;

  constructor(size: number, sectorSize: number, pages = new Map<number, Uint8Array>()) {
    this.size = size;
    this.sectorSize = sectorSize;
    this.#pages = pages;
  }

  /** The same bytes, of a disk with other sectors. */
  inSectorsOf(sectorSize: number): SparseDisk {
    return new SparseDisk(this.size, sectorSize, this.#pages);
  }

  /** Number of the last whole sector; −1 if there is none. */
  get lastLba(): number {
    return Math.floor(this.size / this.sectorSize) - 1;
  }

  read(offset: number, length: number): Uint8Array {
    const end = Math.min(offset + length, this.size);
    const bytes = new Uint8Array(Math.max(0, end - offset));
    for (let at = offset; at < end;) {
      const begin = at % PAGE;
      const n = Math.min(PAGE - begin, end - at);
      const page = this.#pages.get((at - begin) / PAGE);
      if (page) bytes.set(page.subarray(begin, begin + n), at - offset);
      at += n;
    }
    return bytes;
  }

  /** What lies beyond the end is dropped. */
  write(offset: number, bytes: Uint8Array): void {
    const end = Math.min(offset + bytes.length, this.size);
    for (let at = offset; at < end;) {
      const begin = at % PAGE;
      const n = Math.min(PAGE - begin, end - at);
      const index = (at - begin) / PAGE;
      let page = this.#pages.get(index);
      if (!page) this.#pages.set(index, page = new Uint8Array(PAGE));
      page.set(bytes.subarray(at - offset, at - offset + n), begin);
      at += n;
    }
  }

  /** The written parts that lie on the disk, in ascending order. */
  *written(): Generator<{ offset: number; bytes: Uint8Array }> {
    for (const index of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const offset = index * PAGE;
      if (offset < this.size) {
        yield { offset, bytes: this.#pages.get(index)!.subarray(0, this.size - offset) };
      }
    }
  }

  /** What is not zero, in the format of xxd(1): `xxd -r` makes the image again. */
  hexdump(): string {
    const lines: string[] = [];
    const line = (offset: number, bytes: Uint8Array) => {
      const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
      const groups = hex.match(/.{1,4}/g)!.join(" ");
      const text = String.fromCharCode(...bytes).replace(/[^ -~]/g, ".");
      lines.push(`${offset.toString(16).padStart(8, "0")}: ${groups.padEnd(39)}  ${text}\n`);
    };
    for (const { offset, bytes } of this.written()) {
      for (let at = 0; at < bytes.length; at += 16) {
        const part = bytes.subarray(at, at + 16);
        if (part.some((byte) => byte !== 0)) line(offset + at, part);
      }
    }
    return lines.join("");
  }
}
