/**
 * A few calls of libc, so that on Deno the examples need --allow-ffi and nothing else: its own file API
 * wants every permission there is for a device's node. Programs that have them, and those on Bun, use
 * node:fs.
 *
 * @module
 */

/** What the examples call; each returns what libc returns, and `errno` is read at once. */
export interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array<ArrayBuffer>, length: number): number;
  setsockopt(
    fd: number,
    level: number,
    name: number,
    value: Uint8Array<ArrayBuffer>,
    length: number,
  ): number;
  recv(fd: number, buffer: Uint8Array<ArrayBuffer>, length: number, flags: number): number;
  poll(fds: Uint8Array<ArrayBuffer>, count: number, milliseconds: number): number;
  open(path: Uint8Array<ArrayBuffer>, flags: number, mode: number): number;
  pread(fd: number, buffer: Uint8Array<ArrayBuffer>, length: number, offset: number): number;
  pwrite(fd: number, buffer: Uint8Array<ArrayBuffer>, length: number, offset: number): number;
  close(fd: number): number;
  unlink(path: Uint8Array<ArrayBuffer>): number;
  errno(): number;
}

async function bunLibc(): Promise<Libc> {
  const { dlopen, read } = await import("bun:ffi");
  const { symbols } = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
    setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
    recv: { args: ["i32", "ptr", "usize", "i32"], returns: "i32" },
    poll: { args: ["ptr", "u64", "i32"], returns: "i32" },
    open: { args: ["ptr", "i32", "u32"], returns: "i32" },
    pread: { args: ["i32", "ptr", "u64", "i64"], returns: "i32" },
    pwrite: { args: ["i32", "ptr", "u64", "i64"], returns: "i32" },
    close: { args: ["i32"], returns: "i32" },
    unlink: { args: ["ptr"], returns: "i32" },
    __errno_location: { args: [], returns: "ptr" },
  });
  const location = symbols.__errno_location()!;
  return { ...symbols, errno: () => read.i32(location, 0) } as unknown as Libc;
}

function denoLibc(): Libc {
  const { symbols } = Deno.dlopen("libc.so.6", {
    socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
    bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
    setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
    recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
    poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
    open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
    pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
    pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    unlink: { parameters: ["buffer"], result: "i32" },
    __errno_location: { parameters: [], result: "pointer" },
  });
  const location = symbols.__errno_location()!;
  return {
    socket: symbols.socket,
    bind: symbols.bind,
    setsockopt: (fd, level, name, value, length) =>
      symbols.setsockopt(fd, level, name, value, length),
    recv: (fd, buffer, length, flags) => Number(symbols.recv(fd, buffer, BigInt(length), flags)),
    poll: (fds, count, milliseconds) => symbols.poll(fds, BigInt(count), milliseconds),
    open: symbols.open,
    pread: (fd, buffer, length, offset) =>
      symbols.pread(fd, buffer, BigInt(length), BigInt(offset)),
    pwrite: (fd, buffer, length, offset) =>
      symbols.pwrite(fd, buffer, BigInt(length), BigInt(offset)),
    close: symbols.close,
    unlink: symbols.unlink,
    errno: () => new Deno.UnsafePointerView(location).getInt32(),
  };
}

export const libc: Libc = "Bun" in globalThis ? await bunLibc() : denoLibc();

/** Of open(2). */
export const O_CLOEXEC = 0o2000000;

/** A path as C wants it. */
export function cString(path: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(path + "\0");
}

/** Opens a node O_RDONLY and closes it: what udevd does when it probes, and what wakes the race. */
export function openAndClose(path: Uint8Array<ArrayBuffer>): boolean {
  const fd = libc.open(path, O_CLOEXEC, 0);
  if (fd < 0) return false;
  libc.close(fd);
  return true;
}
