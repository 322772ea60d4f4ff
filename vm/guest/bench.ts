/** Attach + detach beside C and losetup on this kernel; one row for each strategy and contender. */
import { mkdtempSync } from "node:fs";
import process from "node:process";
import { contenders } from "../../bench/contenders.ts";
import { makeImages, measureCycles, median } from "../../bench/measure.ts";
import { progress, report } from "./report.ts";

const rounds = Number(process.argv[2]);
const folder = mkdtempSync("/tmp/bench-");
const c = new URL("../../bench/cycle", import.meta.url).pathname;
const all = contenders({ c, ...makeImages(folder) });
const cycles = await measureCycles(all, rounds, (round) => progress(round, rounds), 20);
await Promise.all(all.map((contender) => contender.stop()));
for (const [strategy, byContender] of Object.entries(cycles)) {
  for (const [contender, times] of Object.entries(byContender)) {
    const nanoseconds = median(times);
    report({
      event: "result",
      case: `${strategy}: ${contender}`,
      strategy,
      contender,
      nanoseconds,
    });
  }
}
process.exit(0);
