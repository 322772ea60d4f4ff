/** Holds the first free loop devices O_EXCL, and those that become free, until stdin ends. */
import { constants, existsSync, openSync, readdirSync } from "node:fs";
import process from "node:process";
import { readOptions } from "../dev/options.ts";

const HELP = `Usage: torture/hold_exclusively.ts

Holds the first free loop devices exclusively, and those that become free, until stdin ends.

  -h, --help  this text`;
readOptions(HELP, {});

const DEVICES = 8;
const PAUSE_MS = 2;

const held = new Set<number>();

/** LOOP_CTL_GET_FREE goes on offering the first of them, LOOP_CONFIGURE refuses it to everybody else. */
function holdFree(): void {
  const numbers = readdirSync("/sys/block").flatMap((name) => /^loop(\d+)$/.exec(name)?.[1] ?? []);
  const free = numbers.map(Number).sort((a, b) => a - b)
    .filter((number) => !existsSync(`/sys/block/loop${number}/loop/backing_file`));
  for (const number of free.slice(0, DEVICES).filter((number) => !held.has(number))) {
    try {
      openSync(`/dev/loop${number}`, constants.O_RDONLY | constants.O_EXCL);
      held.add(number);
    } catch {
      // EBUSY: somebody binds it right now.
    }
  }
}

holdFree();
console.log("on");
setInterval(holdFree, PAUSE_MS);
process.stdin.on("end", () => process.exit(0)).resume();
