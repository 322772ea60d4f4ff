/**
 * The control: `losetup -P` and `losetup -d` on a GPT image of two partitions, under a real udevd
 * alone, then beside the hostile opener. Shows how often partitions flicker without loopdev.
 *
 *     bun vm/guest/control.ts 40
 */
import process from "node:process";
import { UeventSocket } from "../../tools/race_check/uevents.ts";
import { PartitionCounter } from "./cycles.ts";
import { makeImage, PARTITIONS, run } from "./image.ts";
import { progress, report } from "./report.ts";
import type { OpenerKind } from "../../tools/race_check/opener.ts";
import { startOpener } from "./start_opener.ts";

const cycles = Number(process.argv[2] ?? 40);
const disk = "loop0";
const image = "/tmp/control.img";

function measure(opener: "none" | OpenerKind): void {
  using socket = new UeventSocket();
  const counter = new PartitionCounter(socket, PARTITIONS);
  counter.quiet(200);
  let absent = 0;
  let left = 0;
  const start = Date.now();
  for (let cycle = 0; cycle < cycles; cycle++) {
    run(["losetup", "-P", `/dev/${disk}`, image]);
    // udevd before 259 re-reads the table after losetup closed its writable fd: give it the time.
    counter.quiet(60);
    if (!counter.present(disk, 5000)) absent++;
    run(["losetup", "-d", `/dev/${disk}`]);
    if (!counter.detached(disk, 5000)) left++;
    counter.quiet(30);
    counter.endCycle();
    progress(cycle + 1, cycles);
  }
  report({
    event: "result",
    case: opener === "none" ? "losetup" : `losetup + opener ${opener}`,
    opener,
    ...counter.row(),
    absent,
    left,
    milliseconds: Date.now() - start,
  });
}

makeImage(image);

measure("none");
for (const kind of ["react", "spin"] as const) {
  await using _opener = await startOpener(disk, kind);
  measure(kind);
}
