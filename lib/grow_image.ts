/**
 * growImage(): attach → grow → detach.
 *
 * @module
 */
import { attach } from "./attach.ts";
import { checkPath } from "./base/checks.ts";
import { afterUndoing } from "./base/errors.ts";
import { checkPartition, type PartitionSelector } from "./base/selector.ts";
import type { AttachOptions } from "./binding/options.ts";
import { loadGrow } from "./grow/late.ts";
import type { GrowOptions, Growth } from "./grow/options.ts";
import { absolutePath } from "./kernel/file.ts";
import { refuseWrapped } from "./refuse_wrapped.ts";

/**
 * Options of {@linkcode growImage}: those of {@linkcode LoopDevice.grow}, and those of {@linkcode attach}
 * that say which part of the file is the disk.
 *
 * @example
 * ```ts
 * import type { GrowImageOptions } from "@loopdev/loopdev";
 * const options: GrowImageOptions = { size: 8 * 2 ** 30, partition: { label: "root" } };
 * console.log(options.partition);
 * ```
 */
export interface GrowImageOptions
  extends GrowOptions, Pick<AttachOptions, "offset" | "sizelimit" | "sectorSize"> {
  /** The partition that grows. Default: the last one on the disk. */
  partition?: PartitionSelector;
}

/**
 * Grows an image: the file to `size`, its last partition or another one, and the file system in that.
 * {@linkcode LoopDevice.grow} says how, and what it resolves to. `sectorSize` is `"auto"` by default.
 *
 * With `dryRun` it needs neither root nor a loop device. Rejects with {@linkcode LoopError}, nothing
 * changed: EEXIST if the image is attached already, since it must be grown by who has it then, and what
 * {@linkcode attach} and {@linkcode LoopDevice.grow} reject with. EIO or ENOSPC if anything that was
 * written is lost.
 *
 * @param file Path of the image, or its file: URL; a regular file.
 *
 * @example
 * ```ts
 * import { growImage } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 * const image = "/tmp/loopdev-example.img";
 * writeFileSync(image, new Uint8Array(2 ** 20));
 * const { partition } = await growImage(image, { size: 2 ** 24, dryRun: true });
 * console.log(partition?.number, partition?.from, partition?.to);
 * ```
 */
export async function growImage(
  file: string | URL,
  options: GrowImageOptions = {},
): Promise<Growth> {
  const path = absolutePath(checkPath("file", file));
  const { partition, offset, sizelimit, sectorSize = "auto", ...rest } = options;
  checkPartition(partition);
  const range = { offset, sizelimit, sectorSize };
  const { planGrowth } = await loadGrow();
  if (rest.dryRun) return await planGrowth(path, range, partition, rest, refuseWrapped);
  const { signal } = rest;
  const asked = { ...range, partscan: true, readOnly: false, overlap: "refuse", signal } as const;
  const loop = await attach(path, asked);
  let growth: Growth;
  try {
    growth = await loop.grow(partition, rest);
  } catch (error) {
    // The first error wins.
    throw await afterUndoing(error, loop[Symbol.asyncDispose]());
  }
  await loop[Symbol.asyncDispose]();
  return growth;
}
