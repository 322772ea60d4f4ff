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
import { bindFreeDevice, changeFlags } from "./bind.ts";
import { blkpgAddPartition, blkpgDelPartition } from "./blkpg.ts";
import { LoopError } from "./errors.ts";
import { memoryFile, O_RDONLY, open, type OpenFile } from "./file.ts";
import { hasBug, type KernelBug } from "./kernel.ts";
import { LO_FLAGS_PARTSCAN, loopChangeFd } from "./loop.ts";
import { removePartitions, WHILE_PROBED } from "./partitions.ts";
import { poll, retry } from "./retry.ts";
import { sysfsPartitions } from "./sysfs.ts";

/**
 * The race of LOOP_CONFIGURE's partition scan with udev's. Releases measured on both sides of each
 * mend where they could be had: 6.12.90 and 7.0.9 affected, 6.12.94, 6.18.44, 7.0.10 and 7.1.3 not.
 * 5.15, 6.1 and every series without a row have no mend.
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

const PROBE_BYTES = 1024 * 1024;
const PROBE_PARTITION = { number: 1, start: PROBE_BYTES / 2, size: PROBE_BYTES / 4 };
const SEVERAL_OPENS_MS = 5;

/**
 * Asks the running kernel itself whether it has {@linkcode PARTSCAN_RACE}, on a device of its own
 * that is gone afterwards: what a release string hides, this shows. `"inconclusive"`: another program
 * works on the same device. Takes about 1 ms on an affected kernel and up to 60 ms on others. Rejects
 * with {@linkcode LoopError} where attach() would.
 *
 * @example
 * ```ts
 * import { probePartscanRace } from "@loopdev/loopdev";
 * const verdict = await probePartscanRace();
 * console.log(verdict); // "affected", "fixed" or "inconclusive"
 * ```
 */
export async function probePartscanRace(): Promise<"affected" | "fixed" | "inconclusive"> {
  using backing = memoryFile("loopdev-probe", PROBE_BYTES);
  using other = memoryFile("loopdev-probe", PROBE_BYTES);
  const { device, number } = await bindFreeDevice({ backing, readOnly: true, partscan: false });
  using _ = device;
  const isDropped = () => {
    drain(device);
    return !sysfsPartitions(number, true).some((p) => p.number === PROBE_PARTITION.number) ||
      undefined;
  };
  try {
    // While scanning is suppressed, only one thing drops a partition: an open() that consumes
    // GD_NEED_PART_SCAN, which LOOP_CONFIGURE has set on an affected kernel.
    blkpgAddPartition(device, PROBE_PARTITION);
    if (isDropped()) return "affected";
    // Or somebody's open() consumed it before our partition was there. LOOP_CHANGE_FD sets it anew,
    // now behind the partition, and whoever opens next drops it; unless udev has the partition itself
    // open all the while. That makes removing it EBUSY too, but for a moment: so it is asked twice.
    for (const next of [other, backing]) {
      await loopChangeFd(device, next);
      const dropped = await retry(WHILE_PROBED, async () => {
        if (await poll(isDropped, SEVERAL_OPENS_MS)) return true;
        blkpgDelPartition(device, PROBE_PARTITION.number);
        return false;
      });
      if (dropped) return "affected";
      blkpgAddPartition(device, PROBE_PARTITION);
    }
    return "fixed";
  } catch (error) {
    // ENXIO and the like: another program unbound the device or took the partition away.
    if (error instanceof LoopError && ["ENXIO", "EBUSY", "EINVAL"].includes(error.code)) {
      return "inconclusive";
    }
    throw error;
  } finally {
    await removePartitions(device, [PROBE_PARTITION.number]).catch(() => {});
  }
}
