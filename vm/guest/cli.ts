/**
 * The command line tool under a real udevd: each `-P` and each exit of its process in the open, and
 * --detach-all, which nobody may try on a machine that has other users.
 *
 *     bun vm/guest/cli.ts 10
 */
import { existsSync } from "node:fs";
import process from "node:process";
import { UeventSocket } from "../../tools/race_check/uevents.ts";
import { list } from "../../mod.ts";
import { PartitionCounter } from "./cycles.ts";
import { makeImage, PARTITIONS, run } from "./image.ts";
import { progress, report } from "./report.ts";

const cycles = Number(process.argv[2] ?? 10);
const image = "/tmp/cli.img";
const deno = ["run", "--allow-ffi", "--no-check", "--no-config", "--no-lock"];
const CLI = [process.execPath, ..."Deno" in globalThis ? deno : [], "cli.ts"];

makeImage(image);

using socket = new UeventSocket();
const counter = new PartitionCounter(socket, PARTITIONS);
counter.quiet(200);
let absent = 0;
let left = 0;
for (let done = 0; done < cycles; done++) {
  const path = run([...CLI, "--find", "--partscan", "--show", image]);
  if (!existsSync(`${path}p1`) || !existsSync(`${path}p2`)) absent++;
  // As long as udevd before 259 takes to answer a close that it has heard.
  counter.quiet(80);
  run([...CLI, "--detach", path]);
  if (!counter.detached(path.slice("/dev/".length), 5000)) left++;
  counter.quiet(20);
  counter.endCycle();
  progress(done + 1, cycles);
}

run(["losetup", "--find", image]);
run(["losetup", "--find", "--partscan", image]);
run([...CLI, "--detach-all", "--wait"]);
left += (await list()).length;
report({
  event: "result",
  case: "cli.ts -fP, -d and -D",
  kind: "loopdev",
  opener: "none",
  ...counter.row(),
  absent,
  left,
});
