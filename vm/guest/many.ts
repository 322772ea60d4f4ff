/**
 * attachAll(): many images at once, under a real udevd, which has as much to do at the same time.
 *
 *     bun vm/guest/many.ts 200
 */
import process from "node:process";
import { UeventSocket } from "../../tools/race_check/uevents.ts";
import { attachAll } from "../../mod.ts";
import { PartitionCounter } from "./cycles.ts";
import { makeImage, PARTITIONS } from "./image.ts";
import { progress, report } from "./report.ts";

const IMAGES = 16;
/** As long as the slowest udevd may take to be done with all of them. */
const LET_GO_MS = 10_000;

const rounds = Math.ceil(Number(process.argv[2] ?? 200) / IMAGES);
const images = Array.from({ length: IMAGES }, (_, i) => makeImage(`/tmp/many-${i}.img`));

using socket = new UeventSocket();
const counter = new PartitionCounter(socket, IMAGES * PARTITIONS);
counter.quiet(200);
let absent = 0;
let left = 0;
let deferred = 0;
const heldBy = new Map<string, number>();
const start = Date.now();
for (let round = 0; round < rounds; round++) {
  const loops = await attachAll(images, { partscan: true });
  const disks = loops.map(({ path }) => path.slice("/dev/".length));
  for (const disk of disks) {
    if (!counter.present(disk, 0, PARTITIONS)) absent++;
  }
  counter.quiet(100);
  await Promise.all(loops.map(async (loop) => {
    if (await loop.detach() === "detached") return;
    deferred++;
    for (const { by } of await loop.holders()) {
      const program = /\((.*)\)/.exec(by)?.[1] ?? by;
      heldBy.set(program, (heldBy.get(program) ?? 0) + 1);
    }
  }));
  for (const disk of disks) {
    if (!counter.detached(disk, LET_GO_MS)) left++;
  }
  counter.quiet(100);
  counter.endCycle();
  progress(round + 1, rounds);
}
const { tally } = counter;
report({
  event: "result",
  case: `attachAll() of ${IMAGES}`,
  kind: "loopdev",
  opener: "none",
  ...counter.row(),
  // A cycle is an image's.
  cycles: tally.cycles * IMAGES,
  absent,
  left,
  deferred,
  heldBy: Object.fromEntries(heldBy),
  milliseconds: Date.now() - start,
});
