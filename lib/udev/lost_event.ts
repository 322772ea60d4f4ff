/**
 * One kernel bug, whole. When the oldest supported kernel has the mend, delete this file and its calls.
 *
 * Symptom: an image without partitions is attached, and udev never makes its links: /dev/disk/by-uuid and
 * by-label lack it, `mount LABEL=…` fails.
 *
 * Cause: LOOP_CONFIGURE suppresses uevents while it works, and sent none afterwards but those of a scan
 * that finds a partition table. losetup did not notice: it opens the device for writing, and udev looks at
 * whatever is closed after that. We keep out of that (udev_reread.ts), and so nobody told udev anything.
 *
 * Since: Linux 5.19, 498ef5c777d9 "loop: suppress uevents while reconfiguring the device", and 5.15.106.
 * Until: Linux 6.15, e7bc0010ceb4 "loop: properly send KOBJ_CHANGED uevent for disk device", and the stable
 * releases below.
 *
 * So we have the kernel announce the device once it is usable. One event too many does no harm.
 *
 * @module
 */
import { hasBug, type KernelBug, kernelRelease } from "../kernel/release.ts";
import { announce } from "./udev.ts";

/**
 * Series without a row have no mend. The backports came in April and May 2025; these releases are some
 * weeks younger, since a number that is too high costs one event, and one that is too low loses it.
 */
export const LOST_CHANGE_EVENT: KernelBug = {
  name: "LOST_CHANGE_EVENT",
  symptom: "udev never hears of an attached image without partitions",
  oldest: "5.8",
  since: { release: "5.15", commit: "498ef5c777d9" },
  until: { release: "6.15", commit: "e7bc0010ceb4" },
  backports: [
    { release: "5.15.186" },
    { release: "6.1.142" },
    { release: "6.6.94" },
    { release: "6.12.34" },
    { release: "6.14.11" },
  ],
};

let isLost: boolean | undefined;

/** Announces a usable device of which the kernel has said nothing: no partition table was scanned. */
export function announceUnheard(number: number): void {
  isLost ??= hasBug(kernelRelease(), LOST_CHANGE_EVENT);
  if (isLost) announce(number, `loop${number}`);
}
