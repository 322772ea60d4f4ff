/**
 * One kernel bug, whole. When the oldest supported kernel has the fix, delete this file and its
 * calls: nothing else knows the bug.
 *
 * Symptom: partition nodes appear, vanish and appear again after an attach with partition scanning;
 * a systemd unit with `BindsTo=` on one is stopped, or fails with the result 'dependency', and is
 * started again only where a udev rule wants it (SYSTEMD_WANTS=) when the partition is back.
 *
 * Cause: LOOP_CONFIGURE with LO_FLAGS_PARTSCAN (1) sets GD_NEED_PART_SCAN, (2) sends a change uevent,
 * (3) drops its locks, (4) scans. Whoever opens the device between 2 and 4 (udev does, because of the
 * uevent) triggers a scan of its own; the scan of step 4 then drops every partition of that first
 * scan and adds them again.
 *
 * Since: Linux 5.15, 9f65c489b68d "loop: raise media_change event".
 * Until: Linux 7.1, 267ec4d7223a "loop: fix partition scan race between udev and
 * loop_reread_partitions()", and the stable releases below.
 *
 * The way around it is systemd's (d3cb7a4e0fc9, "loop-util: work around kernel loop driver partition
 * scan race"), where it is taken on every kernel. It costs 5 to 16 ms, so here a gate decides.
 *
 * @module
 */
import { changeFlags } from "./change.ts";
import { isRefusal } from "../base/errors.ts";
import {
  memoryFile,
  O_RDONLY,
  O_RDWR,
  open,
  type OpenFile,
  readAt,
  writeAt,
} from "../kernel/file.ts";
import { hasBug, type KernelBug } from "../kernel/release.ts";
import { LO_FLAGS_PARTSCAN } from "../kernel/loop.ts";
import { bindScratchDevice } from "./scratch_device.ts";
import { sysfsMaxPart } from "../kernel/sysfs.ts";

/**
 * The race of LOOP_CONFIGURE's partition scan with udev's. Releases measured on both sides of each
 * fix where they could be had: 6.12.90 and 7.0.9 affected, 6.12.94, 6.18.44, 7.0.10 and 7.1.3 not.
 * 5.15, 6.1 and every series without a row have no fix.
 *
 * @example
 * ```ts
 * import { PARTSCAN_RACE } from "@loopdev/loopdev";
 * console.log(PARTSCAN_RACE.symptom, PARTSCAN_RACE.until.release); // … 7.1
 * ```
 */
export const PARTSCAN_RACE: KernelBug = {
  name: "PARTSCAN_RACE",
  symptom: "partitions of a newly attached loop device appear, vanish and appear again",
  // LOOP_CONFIGURE itself.
  oldest: "5.8",
  since: { release: "5.15", commit: "9f65c489b68d" },
  until: { release: "7.1", commit: "267ec4d7223a" },
  backports: [
    { release: "6.6.141", commit: "5dd9d864eb96" },
    { release: "6.12.91", commit: "3cef9aa17bf7" },
    { release: "6.18.33", commit: "37466ec483ea" },
    { release: "7.0.10" },
  ],
};

/**
 * Whether a kernel of this release (as `uname -r` prints it) must be treated as having `bug`, by
 * default {@linkcode PARTSCAN_RACE}. Unknown, hidden or unparsable releases count as affected: the
 * detour around the bug is harmless, only slow.
 *
 * @example
 * ```ts
 * import { isAffected } from "@loopdev/loopdev";
 * isAffected("6.12.90"); // true
 * isAffected("6.12.91"); // false
 * isAffected("6.1.0-56-amd64"); // true: the stable level is hidden
 * ```
 */
export function isAffected(release: string, bug: KernelBug = PARTSCAN_RACE): boolean {
  return hasBug(release, bug);
}

/**
 * How partitions came to be: `"none"` not by this handle; `"one-step"` LOOP_CONFIGURE scanned;
 * `"two-step"` around {@linkcode PARTSCAN_RACE}; `"userspace"` added by us, the kernel never scanned.
 *
 * @example
 * ```ts
 * import { type Strategy } from "@loopdev/loopdev";
 * const isDetour = (strategy: Strategy) => strategy === "two-step";
 * ```
 */
export type Strategy = "none" | "one-step" | "two-step" | "userspace";

/**
 * Opens the device and closes it: on an affected kernel this consumes GD_NEED_PART_SCAN, which
 * LOOP_CONFIGURE leaves behind. Before LO_FLAGS_PARTSCAN is set the scan that it triggers is
 * suppressed and adds nothing, though it drops what BLKPG added.
 */
export function drain(device: OpenFile): void {
  open(device.path, O_RDONLY).close();
}

/**
 * Turns partition scanning on, on a device that was bound *without* LO_FLAGS_PARTSCAN, so that
 * exactly one scan takes place.
 */
export async function scanOnce(device: OpenFile, signal?: AbortSignal): Promise<void> {
  // 1. LOOP_CONFIGURE (the caller's) left GD_SUPPRESS_PART_SCAN set, but GD_NEED_PART_SCAN too.
  // 2. Nothing may be left of that flag when suppression ends, or any open after it scans again.
  drain(device);
  // 3. LOOP_SET_STATUS64 with LO_FLAGS_PARTSCAN clears GD_SUPPRESS_PART_SCAN and scans, once. No
  //    uevent of the disk precedes this scan, so nobody is called to open the device before it.
  await changeFlags(device, (lo_flags) => lo_flags | LO_FLAGS_PARTSCAN, signal);
}

/** One page, so that one read gets all of it. */
const PROBE_BYTES = 4096;

/** Rounds in which nobody else opened the device, and at most so many in all. */
const UNDISTURBED_ROUNDS = 2;
const MOST_ROUNDS = 16;

/**
 * Asks the running kernel itself whether it has {@linkcode PARTSCAN_RACE}: what a release string hides,
 * this shows. It binds a page of memory to a free loop device, read-only, and lets it go, once where the
 * kernel is affected and twice where it is not; each time the kernel announces a change of that device
 * three times. No partition comes or goes for it. `"inconclusive"`: no free device can be had, others open
 * it all the time, or the kernel scans whatever we do (loop.max_part). Takes a few ms. Rejects with
 * {@linkcode LoopError} where attach() would.
 *
 * @example
 * ```ts
 * import { probePartscanRace } from "@loopdev/loopdev";
 * const verdict = await probePartscanRace();
 * console.log(verdict); // "affected", "fixed" or "inconclusive"
 * ```
 */
export async function probePartscanRace(): Promise<"affected" | "fixed" | "inconclusive"> {
  // LOOP_CONFIGURE scans by itself then, which consumes the flag that we look for.
  if (sysfsMaxPart() > 0) return "inconclusive";
  // What keeps everybody from attaching is no answer.
  open("/dev/loop-control", O_RDWR).close();
  try {
    for (let round = 0, undisturbed = 0; round < MOST_ROUNDS; round++) {
      const answer = await askOnce();
      if (answer === "affected") return answer;
      if (answer === "fixed" && ++undisturbed === UNDISTURBED_ROUNDS) return answer;
    }
    return "inconclusive";
  } catch (error) {
    if (isRefusal(error, ...NO_SCRATCH_DEVICE)) return "inconclusive";
    throw error;
  }
}

/** Opening or binding a free device is refused, or others are always faster. */
const NO_SCRATCH_DEVICE = [
  ...["EACCES", "EPERM", "ENOENT", "ENODEV", "ENXIO", "EBUSY", "EINVAL"] as const,
];

/** Whether LOOP_CONFIGURE leaves GD_NEED_PART_SCAN behind, so that the next open() has to scan. */
async function askOnce(): Promise<"affected" | "fixed" | "disturbed"> {
  using backing = memoryFile("loopdev-probe", PROBE_BYTES);
  using scratch = await bindScratchDevice(backing);
  const { device } = scratch;
  // 1. The page is in the device's cache now, as it was.
  readAt(device, 0, PROBE_BYTES);
  // 2. In the file it is another.
  writeAt(backing, 0, Uint8Array.of(1));
  // 3. Whoever has opened the device before step 1 has consumed the flag, if there was one.
  const isDisturbed = scratch.wasOpened;
  // 4. Only one thing makes the kernel forget what it has cached (bdev_disk_changed() calls
  //    invalidate_bdev()): an open() that finds the flag. Scanning is suppressed, nothing else happens.
  drain(device);
  // 5. The kernel has read the page anew, or shows what it had.
  if (readAt(device, 0, 1)[0] === 1) return "affected";
  return isDisturbed ? "disturbed" : "fixed";
}
