/** Writes cpio archives in the "newc" format, which the kernel unpacks as an initramfs. */
import { closeSync, lstatSync, openSync, readdirSync, readFileSync } from "node:fs";
import { readlinkSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

/** One archive being written. The kernel unpacks several, one after another, as one tree. */
export class CpioWriter {
  readonly #fd: number;
  readonly #directories = new Set<string>();
  #ino = 0;

  constructor(path: string) {
    this.#fd = openSync(path, "w");
  }

  /** A directory and those above it; the kernel makes no parents by itself. */
  directory(name: string, mode = 0o755): void {
    if (name === "." || name === "" || this.#directories.has(name)) return;
    this.directory(dirname(name));
    this.#directories.add(name);
    this.#entry(name, S_IFDIR | mode, new Uint8Array());
  }

  file(name: string, data: Uint8Array | string, mode = 0o644): void {
    this.directory(dirname(name));
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    this.#entry(name, S_IFREG | mode, bytes);
  }

  symlink(name: string, target: string): void {
    this.directory(dirname(name));
    this.#entry(name, S_IFLNK | 0o777, new TextEncoder().encode(target));
  }

  /** The tree below `root` as `name`/…; `skip` sees paths relative to `root`. */
  tree(root: string, name: string, skip: (path: string) => boolean = () => false): void {
    const walk = (path: string) => {
      for (const child of readdirSync(join(root, path)).sort()) {
        const relative = join(path, child);
        if (skip(relative)) continue;
        const source = join(root, relative);
        const stat = lstatSync(source);
        const target = join(name, relative);
        if (stat.isDirectory()) {
          this.directory(target, stat.mode & 0o7777);
          walk(relative);
        } else if (stat.isSymbolicLink()) {
          this.symlink(target, readlinkSync(source));
        } else if (stat.isFile()) {
          this.file(target, readFileSync(source), stat.mode & 0o7777);
        } // Device nodes come from devtmpfs.
      }
    };
    walk("");
  }

  close(): void {
    this.#entry("TRAILER!!!", 0, new Uint8Array());
    closeSync(this.#fd);
  }

  #entry(name: string, mode: number, data: Uint8Array): void {
    const nameBytes = new TextEncoder().encode(name + "\0");
    // ino, mode, uid, gid, nlink, mtime, filesize, dev (2), rdev (2), namesize, check
    const fields = [++this.#ino, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, nameBytes.length, 0];
    const header = "070701" + fields.map((n) => n.toString(16).padStart(8, "0")).join("");
    this.#padded(new TextEncoder().encode(header), nameBytes);
    this.#padded(data);
  }

  #padded(...chunks: Uint8Array[]): void {
    let length = 0;
    for (const chunk of chunks) {
      for (let at = 0; at < chunk.length;) at += writeSync(this.#fd, chunk, at);
      length += chunk.length;
    }
    if (length % 4 !== 0) writeSync(this.#fd, new Uint8Array(4 - (length % 4)));
  }
}
