/**
 * One kernel bug, whole. When the oldest supported kernel has the mend, delete this file and its
 * calls: nothing else knows the bug.
 *
 * Symptom: partition nodes appear, vanish and appear again after an attach with partition scanning;
 * a systemd unit with `BindsTo=` on one fails with result 'dependency' and is not tried again.
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
import { O_RDONLY, open, type OpenFile } from "./file.ts";
import { hasBug, type KernelBug } from "./kernel.ts";
import { LO_FLAGS_PARTSCAN, loopGetStatus64, loopSetStatus64 } from "./loop.ts";
import { retry, type RetryPolicy } from "./retry.ts";

/**
 * The race of LOOP_CONFIGURE's partition scan with udev's. Releases measured on both sides of each
 * mend where they could be had: 6.12.90 and 7.0.9 affected, 6.12.94, 6.18.44, 7.0.10 and 7.1.3 not.
 * 5.15, 6.1 and every series without a row have no mend.
 */
export const PARTSCAN_RACE: KernelBug = {
  name: "PARTSCAN_RACE",
  symptom: "partitions of a newly attached loop device appear, vanish and appear again",
  since: { release: "5.15", commit: "9f65c489b68d" },
  until: { release: "7.1", commit: "267ec4d7223a" },
  backports: [
    { release: "6.6.141", commit: "5dd9d864eb96" },
    { release: "6.12.91", commit: "267ec4d7223a" },
    { release: "6.18.33", commit: "37466ec483ea" },
    { release: "7.0.10", commit: "267ec4d7223a" },
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

/** EAGAIN: dirty pages on older kernels. EBUSY (from 6.19): somebody holds the device O_EXCL. */
const SET_STATUS: RetryPolicy = {
  codes: new Set(["EAGAIN", "EBUSY"]),
  tries: 64,
  longestPause: 250,
};

/**
 * Turns partition scanning on, on a device that was bound by LOOP_CONFIGURE *without*
 * LO_FLAGS_PARTSCAN, so that exactly one scan takes place.
 */
export async function scanOnce(device: OpenFile, signal?: AbortSignal): Promise<void> {
  // 1. LOOP_CONFIGURE without LO_FLAGS_PARTSCAN (the caller's) left GD_SUPPRESS_PART_SCAN set, but
  //    GD_NEED_PART_SCAN too: the next open() of the device consumes it. Nothing may be left of it
  //    when suppression ends in step 3, or any open after that scans a second time. So we open, at
  //    a moment when the scan that this triggers is suppressed and adds nothing.
  open(device.path, O_RDONLY).close();

  await retry(SET_STATUS, () => {
    // 2. LOOP_SET_STATUS64 rewrites offset, size limit, name and flags together: keep them all.
    const info = loopGetStatus64(device);
    // 3. Clears GD_SUPPRESS_PART_SCAN and scans, once. No uevent of the disk precedes this scan, and
    //    no flag is left that would make another opener scan again.
    loopSetStatus64(device, { ...info, lo_flags: info.lo_flags | LO_FLAGS_PARTSCAN });
  }, signal);
}
