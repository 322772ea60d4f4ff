/**
 * The libc calls that loopdev makes, as a written contract with one implementation a runtime, and
 * the one place that picks.
 *
 * @module
 */

/**
 * Every call returns what the system call returns (≥ 0), or −errno. Paths are bytes with a NUL at
 * their end. Nothing here throws, allocates on success, or retries.
 */
export interface Libc {
  /** `open(path, flags, mode)` */
  open(path: Uint8Array, flags: number, mode: number): number;
  /** `close(fd)`: never repeated, the descriptor is gone even if it fails. */
  close(fd: number): number;
  /** `pread(fd, buffer, sizeof buffer, offset)` */
  pread(fd: number, buffer: Uint8Array, offset: number): number;
  /** `pwrite(fd, buffer, sizeof buffer, offset)` */
  pwrite(fd: number, buffer: Uint8Array, offset: number): number;
  /** `unlink(path)` */
  unlink(path: Uint8Array): number;
  /** `readlink(path, buffer, sizeof buffer)`: the length, without a NUL. */
  readlink(path: Uint8Array, buffer: Uint8Array): number;
  /** `fcntl(fd, command, argument)` */
  fcntl(fd: number, command: number, argument: number): number;
  /** `ioctl(fd, request, argument)` with an integer. */
  ioctl(fd: number, request: number, argument: number): number;
  /** `ioctl(fd, request, buffer)` with the address of a buffer. */
  ioctlBuffer(fd: number, request: number, buffer: Uint8Array): number;
  /** `statx(dirfd, path, flags, mask, buffer)`: one layout on all architectures, unlike stat. */
  statx(dirfd: number, path: Uint8Array, flags: number, mask: number, buffer: Uint8Array): number;
  /** `syscall(number, fd, buffer, c, d)`, for what older libcs do not wrap. */
  syscall(number: number, fd: number, buffer: Uint8Array, c: number, d: number): number;
  /** `memfd_create(name, flags)` */
  memfd_create(name: Uint8Array, flags: number): number;
  /** `uname(buffer)` */
  uname(buffer: Uint8Array): number;
  /** Where `buffer` lies, for a struct that points to another one. */
  addressOf(buffer: Uint8Array): bigint;
}

/** A literal import each, so that both stay in the module graph; only one is ever evaluated. */
const adapter: { load(): Libc } | undefined = "Deno" in globalThis
  ? await import("./libc_deno.ts")
  : "Bun" in globalThis
  ? await import("./libc_bun.ts")
  : undefined;

let loaded: Libc | undefined;

/** The runtime's libc, opened at the first call: importing loopdev needs no permission. */
export function libc(): Libc {
  if (!loaded) {
    if (!adapter) {
      throw new TypeError(
        "loopdev calls libc through the FFI of Bun or Deno; this runtime is neither",
      );
    }
    loaded = adapter.load();
  }
  return loaded;
}
