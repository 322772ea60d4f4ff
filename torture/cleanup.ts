/** What a run leaves in no case, not even when it is interrupted. */
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { basename, dirname } from "node:path";
import process from "node:process";
import { say } from "../dev/terminal.ts";
import { scratch } from "../tests/support/support.ts";
import type { Row } from "./common.ts";
import { killInterleavers } from "./interleave_process.ts";
import { removeDeadOwners } from "./owners.ts";
import { devicesOfOurs, mountsOfOurs, tidy } from "./tidy.ts";

/**
 * Unmounts and detaches what is of images of this run, and removes what its dead owners left in /run/loopdev
 * and the folder of scratch(), and no other.
 * Gives what it has taken away, and what is left all the same.
 */
export function cleanUp(): { found: readonly string[]; left: readonly string[] } {
  const folder = dirname(scratch("any"));
  if (!basename(folder).startsWith("loopdev-test-")) throw new Error(`${folder} is not ours`);
  const isOurs = (path: string) => path.startsWith(`${folder}/`);
  const found = [...tidy(isOurs), ...removeDeadOwners()];
  const mounts = mountsOfOurs(isOurs).map(({ point }) => `a mount on ${point}`);
  // Not through a mount.
  if (mounts.length === 0) rmSync(folder, { recursive: true, force: true });
  const devices = devicesOfOurs(isOurs).map((number) => `/dev/loop${number}`);
  return { found, left: [...mounts, ...devices, ...existsSync(folder) ? [folder] : []] };
}

/** A killed process is gone a moment later, and its keeper has unmounted another moment later. */
const END_MS = 500;

/** Children end with their stdin, and with them what they have attached. */
export function cleanUpWhenInterrupted(): void {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      killInterleavers();
      setTimeout(() => {
        const { found, left } = cleanUp();
        say(
          `torture: ended by ${signal}; taken away: ${found.join(", ") || "nothing"}; ` +
            `left: ${left.join(", ") || "nothing"}`,
        );
        process.exit(128 + constants.signals[signal]);
      }, END_MS);
    });
  }
}

/**
 * Runs a program that gives verdicts, cleans up, and ends the process: with 0 if each is a pass, and there
 * is one. `name`: what its errors begin with. `json`: a file for the verdicts.
 */
export async function endWithVerdicts(
  name: string,
  main: () => Row[] | Promise<Row[]>,
  json: string | undefined,
): Promise<never> {
  cleanUpWhenInterrupted();
  let rows: Row[] = [];
  try {
    rows = await main();
    if (json !== undefined) writeFileSync(json, JSON.stringify({ rows }, null, 2) + "\n");
  } catch (error) {
    console.error(`${name}: ${error instanceof Error ? error.message : error}`);
  } finally {
    cleanUp();
  }
  process.exit(rows.length > 0 && rows.every(({ outcome }) => outcome === "pass") ? 0 : 1);
}
