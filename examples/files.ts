/**
 * Files and nodes through libc, for demo.ts: on Deno it needs --allow-ffi and nothing else so, where Deno's
 * own file API wants every permission there is for a device's node. Programs that have them, and those on
 * Bun or Node, use node:fs.
 *
 * @module
 */
import { LoopError } from "../mod.ts";

/** What is called here; each returns what libc returns, and `errno` is read at once. */
interface Libc {
  open(path: Uint8Array<ArrayBuffer>, flags: number, mode: number): number;
  pread(
    fd: number,
    buffer: Uint8Array<ArrayBuffer>,
    length: bigint,
    offset: bigint,
  ): number | bigint;
  pwrite(
    fd: number,
    buffer: Uint8Array<ArrayBuffer>,
    length: bigint,
    offset: bigint,
  ): number | bigint;
  close(fd: number): number;
  unlink(path: Uint8Array<ArrayBuffer>): number;
  errno(): number;
}

async function bunLibc(): Promise<Libc> {
  const { dlopen, read } = await import("bun:ffi");
  const { symbols } = dlopen("libc.so.6", {
    open: { args: ["ptr", "i32", "u32"], returns: "i32" },
    pread: { args: ["i32", "ptr", "u64", "i64"], returns: "i32" },
    pwrite: { args: ["i32", "ptr", "u64", "i64"], returns: "i32" },
    close: { args: ["i32"], returns: "i32" },
    unlink: { args: ["ptr"], returns: "i32" },
    __errno_location: { args: [], returns: "ptr" },
  });
  const location = symbols.__errno_location()!;
  return { ...symbols, errno: () => read.i32(location, 0) };
}

function denoLibc(): Libc {
  const { symbols } = Deno.dlopen("libc.so.6", {
    open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
    pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
    pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
    close: { parameters: ["i32"], result: "i32" },
    unlink: { parameters: ["buffer"], result: "i32" },
    __errno_location: { parameters: [], result: "pointer" },
  });
  const location = symbols.__errno_location()!;
  return { ...symbols, errno: () => new Deno.UnsafePointerView(location).getInt32() };
}

async function nodeLibc(): Promise<Libc> {
  const { dlopen, getInt32 } = await import("node:ffi");
  const { functions } = dlopen("libc.so.6", {
    open: { arguments: ["buffer", "i32", "u32"], return: "i32" },
    pread: { arguments: ["i32", "buffer", "u64", "i64"], return: "i64" },
    pwrite: { arguments: ["i32", "buffer", "u64", "i64"], return: "i64" },
    close: { arguments: ["i32"], return: "i32" },
    unlink: { arguments: ["buffer"], return: "i32" },
    __errno_location: { arguments: [], return: "pointer" },
  });
  const location = functions.__errno_location();
  return { ...functions, errno: () => getInt32(location) };
}

const libc: Libc = "Deno" in globalThis
  ? denoLibc()
  : "Bun" in globalThis
  ? await bunLibc()
  : await nodeLibc();

const O_WRONLY = 1;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_CLOEXEC = 0o2000000;

/** A path as C wants it. */
function cString(path: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(path + "\0");
}

function check(result: number | bigint, syscall: string, path: string): number {
  if (result < 0) throw new LoopError({ code: libc.errno(), syscall, path });
  return Number(result);
}

/** The first bytes of a file or a device. */
export function readBeginning(path: string, length: number): Uint8Array {
  const fd = check(libc.open(cString(path), O_CLOEXEC, 0), "open", path);
  try {
    const buffer = new Uint8Array(length);
    const read = libc.pread(fd, buffer, BigInt(length), 0n);
    return buffer.subarray(0, check(read, "pread", path));
  } finally {
    libc.close(fd);
  }
}

/** `uname -r` */
export function kernelRelease(): string {
  return new TextDecoder().decode(readBeginning("/proc/sys/kernel/osrelease", 256)).trim();
}

/** A file being written, which must not be there yet. */
export class NewFile implements Disposable {
  readonly #fd: number;

  readonly path: string;

  constructor(path: string) {
    this.path = path;
    const flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    this.#fd = check(libc.open(cString(path), flags, 0o600), "open", path);
  }

  write(bytes: Uint8Array<ArrayBuffer>, offset = 0): void {
    for (let done = 0; done < bytes.length;) {
      const rest = bytes.subarray(done);
      const written = libc.pwrite(this.#fd, rest, BigInt(rest.length), BigInt(offset + done));
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
