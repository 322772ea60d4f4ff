/** What a run leaves in no case, not even when it is interrupted. */
import { rmSync } from "node:fs";
import { constants } from "node:os";
import { basename, dirname } from "node:path";
import process from "node:process";
import { scratch } from "../tests/support/support.ts";
import { detachBelow } from "../tests/support/own_devices.ts";

/** Detaches what is bound to images of this run, and removes the folder of scratch(), and no other. */
export function cleanUp(): void {
  const folder = dirname(scratch("any"));
  if (!basename(folder).startsWith("loopdev-test-")) throw new Error(`${folder} is not ours`);
  detachBelow(folder);
  rmSync(folder, { recursive: true, force: true });
}

/** Children end with their stdin, and with them what they have attached. */
export function cleanUpWhenInterrupted(): void {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      cleanUp();
      process.exit(128 + constants.signals[signal]);
    });
  }
}
