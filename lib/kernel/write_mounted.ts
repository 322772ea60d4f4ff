/**
 * Kernels that let nobody write to a block device on which a file system is mounted.
 *
 * Symptom: a mount is EBUSY while any process has the device open for writing; and while it is mounted,
 * also read-only, open(2) for writing is EBUSY. A disk and its partitions are different devices here.
 *
 * Cause: bdev_allow_write_mounted=0 on the kernel's command line, or a build without
 * CONFIG_BLK_DEV_WRITE_MOUNTED, whose default the parameter overrules. Since Linux 6.8 (ed5cc702d311).
 *
 * @module
 */
import { toExplain } from "../base/errors.ts";
import { readText } from "./file.ts";

const PARAMETER = "bdev_allow_write_mounted";
/** As kstrtobool() takes them. */
const OFF = /=(?:[nNfF0]|[oO][fF])/;

/** Whether this is such a kernel; undefined: its build decides, which nothing tells. */
export function forbidsWrites(): boolean | undefined {
  const words = toExplain(() => readText("/proc/cmdline"))?.split(/\s+/) ?? [];
  const last = words.findLast((word) => word.startsWith(`${PARAMETER}=`));
  return last === undefined ? undefined : OFF.test(last);
}

/** For a message, of such a kernel. */
export const NO_WRITES = `the kernel's command line has ${PARAMETER}=0`;

/** For a message, where it is unknown. */
export const PERHAPS_NO_WRITES =
  `this kernel lets nobody write to what is mounted (CONFIG_BLK_DEV_WRITE_MOUNTED=n)`;
