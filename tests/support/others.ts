/**
 * Devices that others attach, the code under test apart: losetup where it is installed, else the
 * ioctls that it made before LOOP_CONFIGURE.
 */
import { existsSync } from "node:fs";
import { isErrno } from "../../lib/base/errors.ts";
import { libcCall, must, zeroed } from "./libc_call.ts";
import { isBoundTo, missing, output, run, sysfs, until } from "./support.ts";

const open = libcCall("open", "buffer", "i32", "i32");
const close = libcCall("close", "i32");
const ioctl = libcCall("ioctl", "i32", "u64", "u64");
const ioctlBuffer = libcCall("ioctl", "i32", "u64", "buffer");

const O_RDWR = 2, O_CLOEXEC = 0o2000000;
const ENXIO = 6;
const [LOOP_SET_FD, LOOP_CLR_FD, LOOP_SET_STATUS64] = [0x4c00, 0x4c01, 0x4c04];
const [LOOP_CTL_ADD, LOOP_CTL_GET_FREE] = [0x4c80, 0x4c82];

/** Columns of `losetup --json` that few tests look at. */
export interface Identity {
  "maj:min": string;
  "back-maj:min": string;
  "back-ino": number;
  partscan: boolean;
}

const IDENTITY = "MAJ:MIN,BACK-MAJ:MIN,BACK-INO,PARTSCAN";

/** Which device, and which file, the same way. */
export function identity(device: string, file: string): Identity {
  if (missing("losetup") === undefined) {
    const json = output(["losetup", "--json", "--list", "--output", IDENTITY, device]);
    const row = JSON.parse(json).loopdevices[0];
    const [own, back] = [row["maj:min"].trim(), row["back-maj:min"].trim()];
    return { ...row, "maj:min": own, "back-maj:min": back };
  }
  const name = device.slice("/dev/".length);
  const back = output(["stat", "-c", "%Hd:%Ld %i", file]).trim().split(" ");
  return {
    "maj:min": sysfs(`${name}/dev`),
    "back-maj:min": back[0],
    "back-ino": Number(back[1]),
    partscan: sysfs(`${name}/loop/partscan`) === "1",
  };
}

/** What {@linkcode attachElsewhere} is asked for; bytes. */
export interface ElsewhereOptions {
  number?: number;
  offset?: number;
  sizelimit?: number;
  readOnly?: boolean;
}

/** Somebody else attaches `file`; gives the device's path. It stays until it is detached. */
export function attachElsewhere(file: string, options: ElsewhereOptions = {}): string {
  const { number, offset = 0, sizelimit = 0, readOnly = false } = options;
  if (missing("losetup") === undefined) {
    const flags = readOnly ? ["--read-only"] : [];
    const range = ["--offset", `${offset}`, "--sizelimit", `${sizelimit}`];
    const device = number === undefined ? ["--find", "--show"] : [`/dev/loop${number}`];
    const command = ["losetup", ...range, ...flags, ...device, file];
    const printed = number === undefined ? output(command) : whenFree(command);
    return number === undefined ? printed.trim() : device[0];
  }
  return attachByIoctls(file, options);
}

/** A wanted device is busy for a moment after its last use, and while somebody looks at it. */
function whenFree(command: string[]): string {
  for (const end = Date.now() + 30_000;;) {
    const { status, stdout, stderr } = run(command);
    if (status === 0) return stdout;
    if (!stderr.includes("busy") || Date.now() > end) {
      throw new Error(`${command.join(" ")} exited with ${status}: ${stderr}`);
    }
  }
}

/** The same without losetup. */
export function attachByIoctls(file: string, options: ElsewhereOptions = {}): string {
  const access = (options.readOnly ? 0 : O_RDWR) | O_CLOEXEC;
  const descriptors: number[] = [];
  const opened = (path: string, flags: number) => {
    descriptors.push(must(open(path, flags, 0), `open ${path}`));
    return descriptors.at(-1)!;
  };
  try {
    const control = opened("/dev/loop-control", O_RDWR | O_CLOEXEC);
    const backing = opened(file, access);
    for (;;) {
      const number = options.number ??
        must(ioctl(control, LOOP_CTL_GET_FREE, 0), "LOOP_CTL_GET_FREE");
      const added = ioctl(control, LOOP_CTL_ADD, number);
      if (!isErrno(added, "EEXIST")) must(added, "LOOP_CTL_ADD");
      const device = opened(`/dev/loop${number}`, access);
      const result = ioctl(device, LOOP_SET_FD, backing);
      // Somebody else was quicker.
      if (isErrno(result, "EBUSY") && options.number === undefined) continue;
      must(result, "LOOP_SET_FD");
      // struct loop_info64: lo_offset at 24, lo_sizelimit at 32, lo_file_name at 56.
      const info = zeroed(232);
      const view = new DataView(info.buffer);
      view.setBigUint64(24, BigInt(options.offset ?? 0), true);
      view.setBigUint64(32, BigInt(options.sizelimit ?? 0), true);
      info.set(new TextEncoder().encode(file).subarray(0, 63), 56);
      must(ioctlBuffer(device, LOOP_SET_STATUS64, info), "LOOP_SET_STATUS64");
      return `/dev/loop${number}`;
    }
  } finally {
    for (const fd of descriptors) close(fd);
  }
}

/**
 * Somebody else detaches a device; −errno if it cannot be. One whose backing file is none that `isMeant`, by its path,
 * is a neighbour's by now and stays: −ENXIO.
 */
export function detachElsewhere(
  path: string,
  isMeant: (backing: string) => boolean = () => true,
): number {
  const device = open(path, O_CLOEXEC, 0);
  if (device < 0) return device;
  try {
    // While it is open here, no other file can be bound to it.
    return isBoundTo(path, isMeant) ? ioctl(device, LOOP_CLR_FD, 0) : -ENXIO;
  } finally {
    close(device);
  }
}

/**
 * Somebody else detaches a test's own device (own_devices.ts), which no neighbour takes, and has done so: whoever
 * looks at all devices has each open for a moment, which defers it.
 */
export async function detachOwn(path: string): Promise<void> {
  must(detachElsewhere(path), `LOOP_CLR_FD ${path}`);
  const bindings = `/sys/block/${path.slice("/dev/".length)}/loop`;
  await until(() => !existsSync(bindings), `${path} to be detached`);
}
