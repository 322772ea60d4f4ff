/**
 * What lock() and settled() are for, under a real udevd: a file system is made on a partition while
 * udevd keeps away, and then opened by the link that udevd makes for it. Beside it controls, without the
 * lock, and without settled().
 *
 *     bun vm/guest/locks.ts 100
 */
import { closeSync, openSync, realpathSync } from "node:fs";
import process from "node:process";
import { UeventSocket } from "../../tools/race_check/uevents.ts";
import { attach, type AttachOptions, LoopError } from "../../mod.ts";
import { PartitionCounter } from "./cycles.ts";
import { makeImage, PARTITIONS, run } from "./image.ts";
import { progress, report } from "./report.ts";

const cycles = Number(process.argv[2] ?? 100);
const disk = "loop0";
const image = "/tmp/locks.img";

interface Manner {
  options?: AttachOptions;
  /** Whether mkfs runs under lock(). */
  locked: boolean;
  /** Who says when the link is there: settled(), udevadm, or the link itself. */
  wait: "settled" | "udevadm" | "link";
}

async function measure(name: string, manner: Manner, times: number): Promise<void> {
  using socket = new UeventSocket();
  const counter = new PartitionCounter(socket, PARTITIONS);
  counter.quiet(200);
  const seen = { busy: 0, unlinked: 0, deferred: 0, left: 0 };
  const refusals: Record<string, number> = {};
  const milliseconds = { lock: 0, mkfs: 0, settled: 0 };
  const timed = async <T>(what: keyof typeof milliseconds, act: () => T | Promise<T>) => {
    const start = performance.now();
    try {
      return await act();
    } finally {
      milliseconds[what] += performance.now() - start;
    }
  };
  for (let done = 0; done < times; done++) {
    const uuid = crypto.randomUUID();
    const loop = await attach(image, { ...manner.options, partscan: true, number: 0 });
    try {
      const [{ path }] = loop.partitions;
      const held = manner.locked ? await timed("lock", () => loop.lock()) : undefined;
      await timed("mkfs", () => run(["mkfs.ext4", "-q", "-F", "-U", uuid, path]));
      held?.release();
      await timed("settled", async () => {
        if (manner.wait === "settled") await loop.settled({ timeout: 60_000 });
        else if (manner.wait === "udevadm") run(["udevadm", "settle"]);
        else await linkComes(uuid);
      });
      if (linkOf(uuid) !== path) seen.unlinked++;
    } catch (error) {
      // mkfs that finds the partition taken or gone, too.
      seen.busy++;
      const what = error instanceof LoopError ? error.message : String(error);
      refusals[what] = (refusals[what] ?? 0) + 1;
    }
    if (await loop.detach() === "deferred") seen.deferred++;
    if (!counter.detached(disk, 10_000)) seen.left++;
    counter.quiet(30);
    counter.endCycle();
    progress(done + 1, times);
  }
  for (const what of ["lock", "mkfs", "settled"] as const) milliseconds[what] /= times;
  report({
    event: "result",
    case: name,
    kind: manner.locked ? "locks" : "control",
    ...counter.row(),
    ...seen,
    refusals,
    milliseconds,
  });
}

async function linkComes(uuid: string): Promise<void> {
  for (const end = Date.now() + 30_000; linkOf(uuid) === undefined && Date.now() < end;) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Which node the file system's link leads to, if it can be opened. */
function linkOf(uuid: string): string | undefined {
  const link = `/dev/disk/by-uuid/${uuid}`;
  try {
    closeSync(openSync(link, "r"));
    return realpathSync(link);
  } catch {
    return undefined;
  }
}

makeImage(image);
const few = Math.max(2, Math.ceil(cycles / 5));
const shared = { lock: "shared" } as const;
await measure("lock(), settled()", { locked: true, wait: "settled" }, cycles);
await measure("shared, lock(), settled()", { options: shared, locked: true, wait: "settled" }, few);
await measure("lock() alone", { locked: true, wait: "link" }, few);
await measure("no lock, settled()", { locked: false, wait: "settled" }, few);
await measure("no lock, udevadm settle", { locked: false, wait: "udevadm" }, few);
