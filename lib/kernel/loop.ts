/**
 * `<linux/loop.h>`: its constants, structs and one function a request; see loop(4). A request that freezes
 * the device's queue waits for an RCU grace period, 5 to 16 ms and more, so another thread makes it.
 *
 * @module
 */
import { chainOnThread } from "./chain.ts";
import { AT_FDCWD, cString, ioctl, O_CLOEXEC, O_RDONLY, OpenFile } from "./file.ts";
import { __u32, __u64, array, bytes, struct, type Value } from "../base/struct.ts";
import { ioctlOnThread } from "./blocking.ts";

/** Size of lo_file_name and lo_crypt_name, the NUL included. */
export const LO_NAME_SIZE = 64;
const LO_KEY_SIZE = 32;

/** Bits of lo_flags. LOOP_CONFIGURE takes these four and answers EINVAL to any other. */
export const LO_FLAGS_READ_ONLY = 1;
export const LO_FLAGS_AUTOCLEAR = 4;
export const LO_FLAGS_PARTSCAN = 8;
export const LO_FLAGS_DIRECT_IO = 16;

const LOOP_CLR_FD = 0x4c01;
const LOOP_SET_STATUS64 = 0x4c04;
const LOOP_GET_STATUS64 = 0x4c05;
const LOOP_CHANGE_FD = 0x4c06;
const LOOP_SET_CAPACITY = 0x4c07;
const LOOP_SET_DIRECT_IO = 0x4c08;
const LOOP_SET_BLOCK_SIZE = 0x4c09;
const LOOP_CONFIGURE = 0x4c0a;
const LOOP_CTL_ADD = 0x4c80;
const LOOP_CTL_REMOVE = 0x4c81;
const LOOP_CTL_GET_FREE = 0x4c82;

export const loop_info64 = struct("loop_info64", 232, {
  lo_device: __u64,
  lo_inode: __u64,
  lo_rdevice: __u64,
  lo_offset: __u64,
  lo_sizelimit: __u64,
  lo_number: __u32,
  lo_encrypt_type: __u32,
  lo_encrypt_key_size: __u32,
  lo_flags: __u32,
  lo_file_name: bytes(LO_NAME_SIZE),
  lo_crypt_name: bytes(LO_NAME_SIZE),
  lo_encrypt_key: bytes(LO_KEY_SIZE),
  lo_init: array(__u64, 2),
});

export const loop_config = struct("loop_config", 304, {
  fd: __u32,
  block_size: __u32,
  info: loop_info64,
  __reserved: array(__u64, 8),
});

/** LOOP_CONFIGURE's argument without the backing file; fields left out are zero. */
export type LoopConfig = Omit<Partial<Value<typeof loop_config>>, "fd" | "info"> & {
  info: Partial<Value<typeof loop_info64>>;
};

const NO_FILE = 0xffffffff;

/** `ioctl(fd, LOOP_CTL_GET_FREE)`: the number of a free loop device, which is made if none is left. */
export function loopCtlGetFree(control: OpenFile): number {
  return ioctl(control, "LOOP_CTL_GET_FREE", LOOP_CTL_GET_FREE);
}

/** `ioctl(fd, LOOP_CTL_ADD)`: makes device `number`, or with −1 any; gives its number. EEXIST if it exists. */
export function loopCtlAdd(control: OpenFile, number: number): number {
  return ioctl(control, "LOOP_CTL_ADD", LOOP_CTL_ADD, number);
}

/**
 * `ioctl(fd, LOOP_CTL_REMOVE)`: removes device `number`; EBUSY if it is bound or open. Waits for an
 * RCU grace period.
 */
export async function loopCtlRemove(control: OpenFile, number: number): Promise<void> {
  await ioctlOnThread(control, "LOOP_CTL_REMOVE", LOOP_CTL_REMOVE, number);
}

/**
 * `ioctl(fd, LOOP_CONFIGURE)`: binds a backing file and sets everything in one step. Linux 5.8;
 * LO_FLAGS_PARTSCAN and lo_sizelimit work in it from 5.9. Without a file it is EBADF on kernels that know
 * the request.
 */
export function loopConfigure(
  device: OpenFile,
  backing: OpenFile | undefined,
  config: LoopConfig,
): void {
  const configure = (fd: number) => {
    const argument = loop_config.encode({ ...config, fd } as Value<typeof loop_config>);
    ioctl(device, "LOOP_CONFIGURE", LOOP_CONFIGURE, argument);
  };
  if (backing) backing.call(configure);
  else configure(NO_FILE);
}

/** `ioctl(fd, LOOP_GET_STATUS64)`: an encoded loop_info64; ENXIO if no file is bound. */
export function loopGetStatus64(device: OpenFile): Uint8Array {
  const info = loop_info64.buffer();
  ioctl(device, "LOOP_GET_STATUS64", LOOP_GET_STATUS64, info);
  return info;
}

/**
 * The same for the device at `path`, by another thread, since opening, asking or closing it waits if its
 * disk hangs. Undefined where the kernel refuses.
 */
export async function loopStatusAt(path: string): Promise<Uint8Array | undefined> {
  const info = loop_info64.buffer();
  const results = await chainOnThread([
    { name: "openat", args: [AT_FDCWD, cString(path), O_RDONLY | O_CLOEXEC, 0] },
    { name: "ioctl", on: 0, args: [LOOP_GET_STATUS64, info] },
  ]);
  if (results[0] >= 0) await new OpenFile(results[0], path).closeOnThread();
  return results.length === 2 && results[1] >= 0 ? info : undefined;
}

/**
 * `ioctl(fd, LOOP_SET_STATUS64)`: overwrites offset, sizelimit, name and flags together, so start from what
 * LOOP_GET_STATUS64 gave. Freezes the queue.
 */
export async function loopSetStatus64(device: OpenFile, info: Uint8Array): Promise<void> {
  await ioctlOnThread(device, "LOOP_SET_STATUS64", LOOP_SET_STATUS64, info);
}

/**
 * `ioctl(fd, LOOP_CHANGE_FD)`: another backing file of the same size, on a read-only device; EINVAL
 * otherwise. Freezes the queue.
 */
export async function loopChangeFd(device: OpenFile, backing: OpenFile): Promise<void> {
  await backing.callOnThread((fd) => ioctlOnThread(device, "LOOP_CHANGE_FD", LOOP_CHANGE_FD, fd));
}

/**
 * `ioctl(fd, LOOP_CLR_FD)`: unbinds the file; with other openers, and from 6.11 always, only at the last
 * close of the device. ENXIO if no file is bound. Up to 6.10 it freezes the queue and writes back.
 */
export async function loopClrFd(device: OpenFile): Promise<void> {
  await ioctlOnThread(device, "LOOP_CLR_FD", LOOP_CLR_FD);
}

/** `ioctl(fd, LOOP_SET_CAPACITY)`: adopts the backing file's current size. */
export function loopSetCapacity(device: OpenFile): void {
  ioctl(device, "LOOP_SET_CAPACITY", LOOP_SET_CAPACITY);
}

/** `ioctl(fd, LOOP_SET_DIRECT_IO)`: EINVAL where the backing file cannot do it. Freezes the queue. */
export async function loopSetDirectIo(device: OpenFile, on: boolean): Promise<void> {
  await ioctlOnThread(device, "LOOP_SET_DIRECT_IO", LOOP_SET_DIRECT_IO, Number(on));
}

/**
 * `ioctl(fd, LOOP_SET_BLOCK_SIZE)`: the logical sector size in bytes; EAGAIN while pages are dirty.
 * Freezes the queue.
 */
export async function loopSetBlockSize(device: OpenFile, size: number): Promise<void> {
  await ioctlOnThread(device, "LOOP_SET_BLOCK_SIZE", LOOP_SET_BLOCK_SIZE, size);
}
