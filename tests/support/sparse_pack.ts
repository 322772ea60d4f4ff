/** Sparse files as one small block of bytes, for machines that get them without tools. */
import { closeSync, ftruncateSync, openSync, readSync, statSync, writeSync } from "node:fs";

const BLOCK = 64 * 1024;

/** A file's name, its size, and the offsets of its blocks that are not all zeros. */
interface Packed {
  readonly name: string;
  readonly size: number;
  readonly blocks: readonly number[];
}

/** Packs files, by name. */
export function packSparse(files: Readonly<Record<string, string>>): Uint8Array {
  const parts: Uint8Array[] = [];
  const head = Object.entries(files).map(([name, path]): Packed => {
    const { size } = statSync(path);
    const fd = openSync(path, "r");
    const blocks: number[] = [];
    for (let offset = 0; offset < size; offset += BLOCK) {
      const block = new Uint8Array(BLOCK);
      readSync(fd, block, 0, BLOCK, offset);
      if (!block.some((byte) => byte !== 0)) continue;
      blocks.push(offset);
      parts.push(block);
    }
    closeSync(fd);
    return { name, size, blocks };
  });
  const text = new TextEncoder().encode(JSON.stringify(head) + "\n");
  return new Uint8Array(Buffer.concat([text, ...parts]));
}

/** Makes the files again, in `folder`; gives their names. */
export function unpackSparse(bytes: Uint8Array, folder: string): string[] {
  let at = bytes.indexOf(10) + 1;
  const head: Packed[] = JSON.parse(new TextDecoder().decode(bytes.subarray(0, at)));
  for (const { name, size, blocks } of head) {
    const fd = openSync(`${folder}/${name}`, "w");
    ftruncateSync(fd, size);
    for (const offset of blocks) {
      writeSync(fd, bytes, at, Math.min(BLOCK, size - offset), offset);
      at += BLOCK;
    }
    closeSync(fd);
  }
  return head.map(({ name }) => name);
}
