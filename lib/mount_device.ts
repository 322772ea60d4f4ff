/**
 * mount(): what is on a block device that something else has made.
 *
 * @module
 */
import { checkPath } from "./base/checks.ts";
import { heeding } from "./base/retry.ts";
import { startThread } from "./kernel/chain.ts";
import { absolutePath } from "./kernel/file.ts";
import { loadMount } from "./mount/late.ts";
import type { LoopMount } from "./mount/mounted.ts";
import { withAbsoluteAt } from "./mount/mounts.ts";
import type { MountOptions } from "./mount/options.ts";
import { yieldToEventLoop } from "./runtime/event_loop.ts";

/**
 * Mounts what is on a block device: the volume that cryptsetup, LVM or veritysetup has opened on a
 * partition of a loop device, or any other. No loop device is made. The mount is as that of
 * {@linkcode LoopDevice.mount}, with the same options; it belongs to no handle, so unmount it, or let `await
 * using` do that, before the device is closed. {@linkcode LoopDevice.holders} of the loop device below
 * names it.
 *
 * The device stays open until the unmount, so that no other one gets its number.
 *
 * Throws (rejects with) TypeError or RangeError for a bad option, before any system call;
 * {@linkcode LoopError} as {@linkcode LoopDevice.mount} does, ENOTBLK if it is no block device, ESTALE if
 * the path leads to another one while it is mounted; the signal's reason if aborted.
 *
 * @param device Path of its node, or a link to it, or the file: URL: `"/dev/mapper/secret"`.
 *
 * @example
 * ```ts
 * import { attach, type LoopMount, mount } from "@loopdev/loopdev";
 * import { execFileSync } from "node:child_process";
 *
 * async function readSecret(image: string, keyFile: string): Promise<void> {
 *   await using loop = await attach(image, { partscan: true });
 *   const name = "secret";
 *   execFileSync("cryptsetup", ["open", "--key-file", keyFile, loop.partitions[0].path, name]);
 *   try {
 *     await using root: LoopMount = await mount(`/dev/mapper/${name}`);
 *     console.log(root.path);
 *   } finally {
 *     execFileSync("cryptsetup", ["close", name]);
 *   }
 * }
 * console.log(typeof readSecret); // function
 * ```
 */
export async function mount(
  device: string | URL,
  options: MountOptions = {},
): Promise<LoopMount> {
  const path = absolutePath(checkPath("device", device));
  const meant = withAbsoluteAt(options);
  const signal = options?.signal instanceof AbortSignal ? options.signal : undefined;
  await yieldToEventLoop();
  startThread();
  const { mountDevice } = await loadMount();
  // It looks at the signal after its last wait, and undoes itself.
  return await heeding(mountDevice(path, meant), signal);
}
