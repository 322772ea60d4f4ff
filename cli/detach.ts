/**
 * Detaches devices, and with --wait waits until the kernel has let go.
 *
 * @module
 */
import {
  describeHolders,
  type Detaching,
  detachUnchecked,
  removeDevice as remove,
  waitDetached,
} from "../lib/losetup/change.ts";
import { Failure } from "./failure.ts";

/** Detaches the device at `path`. If it is in use the kernel does that later; gives what to wait for then. */
export async function detachDevice(path: string): Promise<Detaching | undefined> {
  return await detachUnchecked(path).catch((error) => {
    throw new Failure(`${path}: detach failed`, error);
  });
}

/** Waits up to `left` of `timeout` ms until the kernel has detached it. */
export async function waitFor(
  detaching: Detaching,
  { timeout, left }: { timeout: number; left: number },
): Promise<void> {
  const { path } = detaching;
  const holders = await waitDetached(detaching, left).catch((error) => {
    throw new Failure(`${path}: detach failed`, error);
  });
  if (holders === undefined) return;
  const who = describeHolders(holders) || "something that this process cannot see";
  throw new Failure(
    `${path}: still in use after ${timeout} ms (${who}); the kernel detaches it after its last user`,
  );
}

/** Removes a device. As in losetup, the number in its name says which. */
export async function removeDevice(path: string): Promise<void> {
  const [, digits] = /\/(?:loop)?(\d+)[^/]*$/.exec(path) ?? [];
  if (digits === undefined) throw new Failure(`${path}: remove failed: Invalid argument`);
  await remove(Number(digits)).catch((error) => {
    throw new Failure(`${path}: remove failed`, error);
  });
}
