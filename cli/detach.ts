/**
 * Detaching, with and without waiting for the kernel to let go.
 *
 * @module
 */
import { describeHolders, detachUnchecked, removeDevice as remove } from "../lib/losetup/change.ts";
import type { Command } from "./command.ts";
import { Failure } from "./failure.ts";

/**
 * Detaches the device at `path`; the kernel does it later if the device is in use, and only `wait`
 * waits for that.
 */
export async function detachDevice(path: string, { wait, timeout }: Command): Promise<void> {
  const holders = await detachUnchecked(path, wait ? timeout : undefined).catch((error) => {
    throw new Failure(`${path}: detach failed`, error);
  });
  if (holders === undefined) return;
  const who = describeHolders(holders) || "somebody out of sight";
  throw new Failure(
    `${path}: still in use after ${timeout} ms (${who}); it goes with its last user`,
  );
}

/** Removes the device itself; its number is in its name. */
export async function removeDevice(path: string): Promise<void> {
  const [, digits] = /\/(?:loop)?(\d+)[^/]*$/.exec(path) ?? [];
  if (digits === undefined) throw new Failure(`${path}: remove failed: Invalid argument`);
  await remove(Number(digits)).catch((error) => {
    throw new Failure(`${path}: remove failed`, error);
  });
}
