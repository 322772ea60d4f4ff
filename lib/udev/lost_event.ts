/**
 * One kernel bug, whole. When the oldest supported kernel has the fix, delete this file and its calls.
 *
 * Symptom: an image without partitions is attached, and udev never makes its links: /dev/disk/by-uuid and
 * by-label lack it, `mount LABEL=…` fails.
 *
 * Cause: LOOP_CONFIGURE suppresses uevents while it works. Afterwards it sent none, unless its scan found a
 * partition table. losetup is not affected: it opens the device for writing, and udevd examines a device
 * when such a descriptor is closed. Our close stays unseen (close_write_race.ts), so udevd gets no event.
 *
 * Since: Linux 5.19, 498ef5c777d9 "loop: suppress uevents while reconfiguring the device", and 5.15.106.
 * Until: Linux 6.15, e7bc0010ceb4 "loop: properly send KOBJ_CHANGED uevent for disk device", and the stable
 * releases below.
 *
 * So we have the kernel announce the device once it is usable. A second event does no harm.
 *
 * @module
 */
import { hasBug, type KernelBug, kernelRelease } from "../kernel/release.ts";
import { announce } from "./udev.ts";

/**
 * Series without a row have no fix. The backports came in April and May 2025; the releases here are some
 * weeks later, since a number that is too high costs one event, and one that is too low loses it.
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

/** Announces a usable device for which the kernel sent no event, since it scanned no partition table. */
export function announceUnheard(number: number): void {
  isLost ??= hasBug(kernelRelease(), LOST_CHANGE_EVENT);
  if (isLost) announce(number, `loop${number}`);
}
