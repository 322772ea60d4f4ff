/** A partition table as the kernel reads it by itself, and as we do. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { blkGetSize64, blkSszGet } from "../../lib/kernel/block.ts";
import {
  memoryFile,
  O_RDONLY,
  O_RDWR,
  open,
  type OpenFile,
  readAt,
  writeAt,
} from "../../lib/kernel/file.ts";
import {
  LO_FLAGS_AUTOCLEAR,
  LO_FLAGS_PARTSCAN,
  loopConfigure,
  loopCtlGetFree,
} from "../../lib/kernel/loop.ts";
import { LoopError } from "../../mod.ts";
import type { SparseDisk } from "../../tests/cases/sparse_disk.ts";
import { explain, type Extent, ourView, type Views } from "./table_differences.ts";

const SECTOR = 512;
const DEADLINE_MS = 10_000;

/** /dev/loop0 may be gone: systemd-dissect removes the devices that it has used. */
export function freeDevice(): string {
  using control = open("/dev/loop-control", O_RDWR);
  return `loop${loopCtlGetFree(control)}`;
}

/** The partitions of `disk` that the kernel has, by their numbers. */
export function kernelView(disk: string): Extent[] {
  const sys = `/sys/block/${disk}`;
  return readdirSync(sys).filter((name) => name.startsWith(`${disk}p`)).map((name) => {
    const read = (attribute: string) => readFileSync(`${sys}/${name}/${attribute}`, "utf8").trim();
    return {
      number: Number(read("partition")),
      start: BigInt(read("start")) * BigInt(SECTOR),
      size: BigInt(read("size")) * BigInt(SECTOR),
    };
  }).sort((a, b) => a.number - b.number);
}

export async function detached(disk: string): Promise<void> {
  for (const end = Date.now() + DEADLINE_MS; existsSync(`/sys/block/${disk}/loop`);) {
    if (Date.now() > end) throw new Error(`${disk} is still bound`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** In memory. The kernel counts in units of 512 bytes, and knows nothing of the rest. */
export function makeFile(image: SparseDisk): OpenFile {
  const size = image.size - image.size % SECTOR;
  const file = memoryFile("table", size);
  for (const { offset, bytes } of image.written()) {
    writeAt(file, offset, bytes.subarray(0, Math.max(0, size - offset)));
  }
  return file;
}

/** Around a part of a sector at a device's end nothing can be read: the kernel's scan passes over it. */
function readOrNothing(device: OpenFile, offset: number, length: number): Uint8Array {
  try {
    return readAt(device, offset, length);
  } catch (error) {
    if (error instanceof LoopError && error.code === "EIO") return new Uint8Array();
    throw error;
  }
}

/** Both views of a table. */
export interface Compared {
  views: Views;
  /** The differences between them; undefined: there is one that nobody has named. */
  names?: string[];
}

/** Has the kernel scan an image, adds nothing, and looks. */
export function whileScanned<T>(
  disk: string,
  image: SparseDisk,
  look: (device: OpenFile) => T,
): T {
  using backing = makeFile(image);
  using device = open(`/dev/${disk}`, O_RDONLY);
  loopConfigure(device, backing, {
    block_size: image.sectorSize,
    info: { lo_flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN },
  });
  return look(device);
}

/** What the kernel finds by itself, and what we do. */
export function compare(disk: string, image: SparseDisk): Compared {
  const size = image.size - image.size % SECTOR;
  return whileScanned(disk, image, (device) => {
    const bound = {
      size: blkGetSize64(device),
      sectorSize: blkSszGet(device),
      read: (offset: number, length: number) => readOrNothing(device, offset, length),
    };
    if (bound.size !== size || bound.sectorSize !== image.sectorSize) {
      throw new Error(`bound ${size} bytes, got ${bound.size} in sectors of ${bound.sectorSize}`);
    }
    const views = { ours: ourView(bound), kernel: kernelView(disk) };
    return { views, names: explain(views, bound) };
  });
}
