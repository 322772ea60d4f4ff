/**
 * A device as the lists show it. Each fact is read when it is asked for: a list shows few of them.
 *
 * @module
 */
import {
  blkSszGet,
  decodeName,
  encodeDev,
  type FileStatus,
  fileStatus,
  ifExists,
  isRefusal,
  isThere,
  listDirectory,
  loop_info64,
  loopGetStatus64,
  O_RDONLY,
  open,
  type OpenFile,
  readSteadily,
  readText,
  unlessRefused,
} from "../lib/losetup/list.ts";

/** A device that was named, or one with a file. What cannot be known is undefined. */
export class Device {
  /** As the user named it. */
  readonly path: string;
  readonly #folder: string | undefined;
  #info: ReturnType<typeof loop_info64.reader> | undefined;
  #hasNoInfo = false;

  /** `folder`: its place in sysfs, if it has one. */
  constructor(path: string, folder: string | undefined) {
    this.path = path;
    this.#folder = folder;
  }

  /** Its own number, "7:4". */
  get dev(): string | undefined {
    const attribute = this.attribute("dev");
    if (attribute !== undefined) return attribute;
    const rdev = statusOf(this.path)?.rdev;
    return rdev === "0:0" ? undefined : rdev;
  }

  /** Whether the kernel has it and /dev does not. */
  get lost(): boolean {
    return this.#folder !== undefined && statusOf(this.path) === undefined;
  }

  /** Whether a file is bound to it. */
  get isBound(): boolean {
    return this.#folder !== undefined && isThere(`${this.#folder}/loop`);
  }

  /** Undefined also for a path of more than a page, which the kernel does not tell. */
  get backingFile(): string | undefined {
    return unlessRefused(() => this.attribute("loop/backing_file"), "ENAMETOOLONG");
  }

  /** Of the file's file system, as stat(2) gives it: both halves in one number. */
  get backingDev(): number | undefined {
    const lo_device = this.#read()?.("lo_device");
    return lo_device === undefined ? undefined : Number(lo_device);
  }

  get backingInode(): bigint | undefined {
    return this.#read()?.("lo_inode");
  }

  /** lo_file_name. */
  get reference(): string | undefined {
    const name = this.#read()?.("lo_file_name");
    if (name === undefined) return undefined;
    // The kernel makes its last byte 0.
    return decodeName(name.subarray(0, name.indexOf(0)));
  }

  get sectorSize(): string | undefined {
    const size = this.attribute("queue/logical_block_size");
    if (size !== undefined) return size;
    return this.#ask((device) => String(blkSszGet(device)));
  }

  /**
   * What `read` gives, all of one use of the device: others detach it, and attach another file, while it is
   * being read.
   */
  inOneUse<T>(read: (device: Device) => T): T {
    return readSteadily(() => this.#use, () => read(new Device(this.path, this.#folder)));
  }

  /** Tells one use from the next: by its number, or before Linux 5.15 by its file. Undefined: unbound. */
  get #use(): string | undefined {
    return this.isBound ? this.attribute("diskseq") ?? this.backingFile ?? "" : undefined;
  }

  /** An attribute in sysfs, as it stands there. */
  attribute(name: string): string | undefined {
    const folder = this.#folder;
    return folder === undefined ? undefined : ifExists(() => readText(`${folder}/${name}`));
  }

  /** Whether its file is this one, by the inode. Undefined: it cannot be known. */
  isBackedBy({ dev, inode }: FileStatus): boolean | undefined {
    const device = this.backingDev;
    return device === undefined
      ? undefined
      : inode === this.backingInode && device === encodeDev(dev);
  }

  /** What only the ioctl tells, and only those who may open the device. */
  #read() {
    if (!this.#info && !this.#hasNoInfo) {
      this.#info = this.#ask((device) => loop_info64.reader(loopGetStatus64(device)));
      this.#hasNoInfo = !this.#info;
    }
    return this.#info;
  }

  #ask<T>(question: (device: OpenFile) => T): T | undefined {
    try {
      using device = open(this.path, O_RDONLY);
      return question(device);
    } catch (error) {
      if (isRefusal(error)) return undefined;
      throw error;
    }
  }
}

/** Every device with a file, in the order of /sys/block, as in losetup. */
export function* boundDevices(): Generator<Device> {
  for (const name of ifExists(() => listDirectory("/sys/block")) ?? []) {
    if (!/^loop\d+$/.test(name)) continue;
    const folder = `/sys/block/${name}`;
    if (isThere(`${folder}/loop`)) yield new Device(`/dev/${name}`, folder);
  }
}

/** The device of this name; without a node the one that the kernel calls so. */
export function namedDevice(path: string): Device {
  const node = statusOf(path);
  const folder = node === undefined
    ? `/sys/block/${path.replace(/^\/dev\//, "").replaceAll("/", "!")}`
    : `/sys/dev/block/${node.rdev}`;
  const isBlock = node === undefined || node.type === "block device";
  return new Device(path, isBlock && statusOf(folder) !== undefined ? folder : undefined);
}

/** What a name leads to; undefined: nothing, or it may not be asked. */
export function statusOf(path: string): FileStatus | undefined {
  try {
    return fileStatus(path);
  } catch (error) {
    if (isRefusal(error)) return undefined;
    throw error;
  }
}
