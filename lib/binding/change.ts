/**
 * Changing a loop device by its descriptor, and taking the device itself away.
 *
 * @module
 */
import { retry, type RetryPolicy } from "../base/retry.ts";
import { O_RDWR, open, type OpenFile } from "../kernel/file.ts";
import { loop_info64, loopCtlRemove, loopGetStatus64, loopSetStatus64 } from "../kernel/loop.ts";

/** Older kernels refuse what freezes the queue while pages are dirty. */
const FROZEN: RetryPolicy = { codes: ["EAGAIN"], tries: 64, longestPause: 250 };

/** LOOP_SET_BLOCK_SIZE claims the device, as a program may for a moment that asks whether it is free. */
const EXCLUSIVE_OWNER: RetryPolicy = { codes: ["EBUSY"], tries: 8, longestPause: 50 };

/** Makes the request again while somebody is in its way who is there for a moment. */
export async function changeDevice(
  device: OpenFile,
  request: (device: OpenFile) => void | Promise<void>,
): Promise<void> {
  await retry(FROZEN, () => retry(EXCLUSIVE_OWNER, () => request(device)));
}

/** Rewrites the flags of a bound device; everything else stays. */
export async function changeFlags(
  device: OpenFile,
  change: (lo_flags: number) => number,
  signal?: AbortSignal,
): Promise<void> {
  await retry(FROZEN, async () => {
    // LOOP_SET_STATUS64 rewrites offset, size limit, name and flags together: keep them all.
    const info = loopGetStatus64(device);
    loop_info64.write(info, { lo_flags: change(loop_info64.reader(info)("lo_flags")) });
    await loopSetStatus64(device, info);
  }, signal);
}

/** LOOP_CTL_REMOVE. A device that somebody uses by now stays: EBUSY. */
export async function removeDevice(number: number): Promise<void> {
  using control = open("/dev/loop-control", O_RDWR);
  await loopCtlRemove(control, number);
}
