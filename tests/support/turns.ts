/** Suites that run side by side on one machine: a test that a neighbour would disturb has it for itself. */
import { openSync } from "node:fs";
import process from "node:process";
import { setTimeout as wait } from "node:timers/promises";
import { LOCK_EX, LOCK_SH } from "../../lib/kernel/flock.ts";
import { libc } from "../../lib/runtime/libc.ts";
import { SYS } from "../../lib/kernel/syscalls.ts";

const LOCK_UN = 8;
const LOCK_NB = 4;

/** A file that dev/side_by_side.mjs makes; without it nobody runs beside these tests. */
const path = process.env.LOOPDEV_TEST_TURNS;
/** Whoever waits for all others to end has the gate, so that none of them begins another test. */
let files: { gate: number; turn: number } | undefined;

const flock = (fd: number, kind: number) => libc().syscall(SYS("flock"), fd, kind | LOCK_NB) === 0;

async function untilLocked(fd: number, kind: number): Promise<void> {
  while (!flock(fd, kind)) await wait(5);
}

/** Resolves when this test may run; `alone`: when no other one does. */
export async function beginTurn(alone: boolean): Promise<void> {
  if (path === undefined) return;
  files ??= { gate: openSync(`${path}.gate`, "w"), turn: openSync(path, "r") };
  await untilLocked(files.gate, LOCK_EX);
  await untilLocked(files.turn, alone ? LOCK_EX : LOCK_SH);
  flock(files.gate, LOCK_UN);
}

export function endTurn(): void {
  if (files) flock(files.turn, LOCK_UN);
}
