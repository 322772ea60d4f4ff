/**
 * Attaches files as Linux loop devices from Bun, Deno and Node.js, with partitions that never flicker.
 *
 * ```ts ignore
 * import { attach } from "@loopdev/loopdev";
 *
 * await using loop = await attach("disk.img", { partscan: true });
 * console.log(loop.path, loop.strategy); // /dev/loop0 one-step
 * for (const { path, size, type } of loop.partitions) console.log(path, size, type);
 * ```
 *
 * Sizes and positions are in bytes. On Deno, `--allow-ffi` is all the permission it needs.
 *
 * @module
 */
export { attach } from "./lib/attach.ts";
export { attachAll } from "./lib/attach_all.ts";
export type { AttachAllOptions, LoopDevices } from "./lib/attach_all.ts";
export { detach, openLoop } from "./lib/open_loop.ts";
export type { AttachOptions, ReadPartitionsOptions } from "./lib/binding/options.ts";
export { mountImage } from "./lib/image/mount_image.ts";
export type { MountImageOptions } from "./lib/image/options.ts";
export type { MountedImage, SkippedMount, TreeMount } from "./lib/image/mounted_image.ts";
export { readPartitions } from "./lib/read_partitions.ts";
export type { PartitionTable, TableKind, TablePartition, Truncation } from "./lib/table/disk.ts";
export { growImage } from "./lib/grow_image.ts";
export type { GrowImageOptions } from "./lib/grow_image.ts";
export type {
  GrownFileSystem,
  GrownSize,
  GrowOptions,
  GrowProgress,
  Growth,
  TableWritten,
} from "./lib/grow/options.ts";
export { fileSystem } from "./lib/file_system.ts";
export type { FileSystemOptions } from "./lib/file_system.ts";
export { find, list, status } from "./lib/status.ts";
export type { LoopStatus } from "./lib/binding/facts.ts";
export type { Holder } from "./lib/holders/holders.ts";
export { LoopDevice } from "./lib/device.ts";
export type { DetachOptions } from "./lib/binding/detach.ts";
export type { HeldLock } from "./lib/udev/lock.ts";
export { mount } from "./lib/mount_device.ts";
export type { FrozenMount } from "./lib/mount/freeze.ts";
export type { LoopMount } from "./lib/mount/mounted.ts";
export type { MountOptions } from "./lib/mount/options.ts";
export type { RunOptions, RunOutput } from "./lib/mount/run_options.ts";
export type { FileSystem } from "./lib/superblocks/file_systems.ts";
export type { PartitionSelector } from "./lib/base/selector.ts";
export type { LoopDeviceField } from "./lib/base/shown.ts";
export type { Partition, SkippedPartition } from "./lib/binding/partitions.ts";
export { isAffected, PARTSCAN_RACE, probePartscanRace } from "./lib/binding/partscan_race.ts";
export type { Strategy } from "./lib/binding/partscan_race.ts";
export type { KernelBug } from "./lib/kernel/release.ts";
export { report } from "./lib/report.ts";
export type { Report } from "./lib/report.ts";
export { LoopError } from "./lib/base/errors.ts";
export type { ErrorCode, LoopErrorInit } from "./lib/base/errors.ts";
export type { SectorSize } from "./lib/table/sectors.ts";
