/**
 * mountImage(): options → attach → the root → what belongs below it → MountedImage.
 *
 * @module
 */
import { attachChecked } from "../attach.ts";
import { checkPath } from "../base/checks.ts";
import { endLate, heeding } from "../base/retry.ts";
import { absolutePath } from "../kernel/file.ts";
import { withAbsoluteAt } from "../mount/mounts.ts";
import { loadOptions, loadTree } from "./late.ts";
import type { MountedImage } from "./mounted_image.ts";
import type { MountImageOptions } from "./options.ts";

/**
 * Attaches an image, finds its root, and mounts what belongs below it: all of an installed system in one
 * call. On failure everything is undone, and if the process is killed all of it ends as well.
 *
 * The root is, in this order:
 *
 * 1. what `root` says; without a partition table the whole device, and so it is with an ISO image
 * 2. the partition whose type says so (Discoverable Partitions Specification, UAPI.2), of several versions
 *    the newest by its name
 * 3. the one that the boot loaders' configurations in the image name, or else its fstab
 * 4. the only file system with an os-release file, or the only one whose type gives it no other purpose
 *
 * Below it lies what the image's own /etc/fstab names, by UUID, LABEL, PARTUUID, PARTLABEL, /dev/disk or the
 * kernel's name of the first disk; and where fstab is silent, by type, /usr, /home, /srv, /var, /var/tmp,
 * /boot and /efi, as systemd-dissect(1) has it. Points are resolved inside the image, and nothing outside it
 * is mounted. {@linkcode MountedImage.skipped} has what could not be mounted, each with its reason: only
 * the root's failure is an error.
 *
 * Throws (rejects with) TypeError or RangeError for a bad option, before any system call;
 * {@linkcode LoopError} for whatever the system refuses, and EINVAL, with the candidates, where nothing
 * tells the root; the signal's reason if aborted.
 *
 * @param file Path of the image, or its file: URL; a regular file or a block device.
 *
 * @example
 * ```ts
 * import { mountImage } from "@loopdev/loopdev";
 * async function release(image: string): Promise<string | undefined> {
 *   await using tree = await mountImage(image, { readOnly: true });
 *   for (const { point, mount } of tree.mounts) console.log(mount.device, point);
 *   for (const { partition, reason } of tree.skipped) console.log(partition, reason);
 *   return tree.osRelease?.PRETTY_NAME;
 * }
 * console.log(typeof release); // function
 * ```
 */
export async function mountImage(
  file: string | URL,
  options: MountImageOptions = {},
): Promise<MountedImage> {
  const path = absolutePath(checkPath("file", file));
  const meant = withAbsoluteAt(options);
  const [{ checkMountImageOptions }, { mountTree }] = await Promise.all([
    loadOptions(),
    loadTree(),
  ]);
  const asked = checkMountImageOptions(meant);
  const overlap = asked.overlap ?? (asked.readOnly ? "allow" : "refuse");
  const mounting = async () => {
    const loop = await attachChecked(path, { ...asked, partscan: true, overlap });
    return await mountTree(loop, asked);
  };
  return await heeding(mounting(), asked.signal, endLate);
}
