/** Suites that run side by side on one machine: a test that a neighbour would disturb has it for itself. */
import process from "node:process";
import { setTimeout as wait } from "node:timers/promises";
import { O_CREAT, O_RDONLY, O_RDWR, open, type OpenFile } from "../../lib/kernel/file.ts";
import { LOCK_EX, LOCK_SH, tryFlock } from "../../lib/kernel/flock.ts";

const LOCK_UN = 8;

/** A file that dev/side_by_side.mjs makes; without it nobody runs beside these tests. */
const path = process.env.LOOPDEV_TEST_TURNS;
/** Whoever waits for all others to end has the gate, so that none of them begins another test. */
let files: { gate: OpenFile; turn: OpenFile } | undefined;

async function untilLocked(file: OpenFile, kind: number): Promise<void> {
  while (!tryFlock(file, kind)) await wait(5);
}

/** Resolves when this test may run; `alone`: when no other one does. */
export async function beginTurn(alone: boolean): Promise<void> {
  if (path === undefined) return;
  files ??= { gate: open(`${path}.gate`, O_RDWR | O_CREAT, 0o600), turn: open(path, O_RDONLY) };
  await untilLocked(files.gate, LOCK_EX);
  await untilLocked(files.turn, alone ? LOCK_EX : LOCK_SH);
  tryFlock(files.gate, LOCK_UN);
}

export function endTurn(): void {
  if (files) tryFlock(files.turn, LOCK_UN);
}
