/**
 * Files and nodes through libc, for examples that need --allow-ffi and nothing else on Deno.
 *
 * @module
 */
import { LoopError } from "../mod.ts";
import { cString, libc, O_CLOEXEC } from "./libc.ts";

const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const O_WRONLY = 1;

function check(result: number, syscall: string, path: string): number {
  if (result < 0) throw new LoopError({ code: libc.errno(), syscall, path });
  return result;
}

/** The first bytes of a file or a device. */
export function readBeginning(path: string, length: number): Uint8Array {
  const fd = check(libc.open(cString(path), O_CLOEXEC, 0), "open", path);
  try {
    const buffer = new Uint8Array(length);
    return buffer.subarray(0, check(libc.pread(fd, buffer, length, 0), "pread", path));
  } finally {
    libc.close(fd);
  }
}

/** `uname -r` */
export function kernelRelease(): string {
  return new TextDecoder().decode(readBeginning("/proc/sys/kernel/osrelease", 256)).trim();
}

/** A file being written. */
export class NewFile implements Disposable {
  readonly #fd: number;

  /** `"exclusive"`: it must not be there yet. */
  constructor(readonly path: string, how: "exclusive" | "replace") {
    const flags = how === "exclusive" ? O_EXCL : O_TRUNC;
    const mode = how === "exclusive" ? 0o600 : 0o644;
    const fd = libc.open(cString(path), O_WRONLY | O_CREAT | flags | O_CLOEXEC, mode);
    this.#fd = check(fd, "open", path);
  }

  write(bytes: Uint8Array<ArrayBuffer>, offset = 0): void {
    for (let done = 0; done < bytes.length;) {
      const rest = bytes.subarray(done);
      const written = libc.pwrite(this.#fd, rest, rest.length, offset + done);
      done += check(written, "pwrite", this.path);
    }
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd);
  }
}

/** Removes a file's name, if it has one. */
export function remove(path: string): void {
  libc.unlink(cString(path));
}
