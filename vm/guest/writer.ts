/**
 * Another program opens the device for writing and closes it again, again and again. udevd before 259
 * answers each close with BLKRRPART, which drops all partitions and adds them again, whoever attached
 * the image: nobody can promise anything then, but who holds the lock that keeps it away.
 *
 *     bun vm/guest/writer.ts 60
 *     bun vm/guest/writer.ts writer loop0     the other program
 */
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import process from "node:process";
import { UeventSocket } from "../../tools/race_check/uevents.ts";
import { attach, type AttachOptions } from "../../mod.ts";
import { PartitionCounter } from "./cycles.ts";
import { makeImage, PARTITIONS } from "./image.ts";
import { progress, report } from "./report.ts";

const disk = "loop0";
const image = "/tmp/writer.img";
/** Between two opens of the writer. */
const PAUSE_MS = 10;
/** How long a device may need to go, with such a neighbour. */
const LET_GO_MS = 10_000;
/** And how long udevd may need for what it still has to do when that neighbour has gone. */
const AFTER_WRITER_MS = 60_000;

/** Opens the device O_RDWR while a file is bound to it, and closes it. */
function write(disk: string): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  console.log("ready");
  for (;;) {
    Atomics.wait(pause, 0, 0, PAUSE_MS);
    if (!existsSync(`/sys/block/${disk}/loop`)) continue;
    try {
      closeSync(openSync(`/dev/${disk}`, "r+"));
    } catch {
      // ENXIO and the like: it was just detached.
    }
  }
}

async function startWriter(): Promise<AsyncDisposable> {
  const deno = ["run", "-A", "--no-check", "--no-config", "--no-lock"];
  const self = new URL(import.meta.url).pathname;
  const args = [..."Deno" in globalThis ? deno : [], self, "writer", disk];
  const writer = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const exited = new Promise<void>((resolve) => writer.once("exit", () => resolve()));
  await new Promise((resolve) => writer.stdout.once("data", resolve));
  return {
    async [Symbol.asyncDispose]() {
      writer.kill("SIGKILL");
      await exited;
    },
  };
}

async function measure(name: string, options: AttachOptions, cycles: number): Promise<void> {
  let writer = await startWriter();
  using socket = new UeventSocket();
  const counter = new PartitionCounter(socket, PARTITIONS);
  counter.quiet(200);
  const seen = { early: 0, absent: 0, deferred: 0, starved: 0, left: 0 };
  const heldBy: Record<string, number> = {};
  let slowest = 0;
  for (let done = 0; done < cycles; done++) {
    const loop = await attach(image, { ...options, number: 0 });
    if (!counter.present(disk, 0)) seen.absent++;
    counter.quiet(100);
    seen.early += counter.early;
    const begun = performance.now();
    if (await loop.detach() === "deferred") {
      seen.deferred++;
      for (const { by, path } of await loop.holders()) {
        const program = `${/\((.*)\)$/.exec(by)?.[1] ?? by} on ${path}`;
        heldBy[program] = (heldBy[program] ?? 0) + 1;
      }
    }
    if (!counter.detached(disk, LET_GO_MS)) {
      // Does it go once the neighbour gives in?
      seen.starved++;
      await writer[Symbol.asyncDispose]();
      if (!counter.detached(disk, AFTER_WRITER_MS)) seen.left++;
      writer = await startWriter();
    }
    slowest = Math.max(slowest, performance.now() - begun);
    counter.quiet(50);
    counter.endCycle();
    progress(done + 1, cycles);
  }
  await writer[Symbol.asyncDispose]();
  report({
    event: "result",
    case: `${name} + writer`,
    kind: options.lock ? "locks" : "writer",
    opener: "writer",
    ...counter.row(),
    ...seen,
    heldBy,
    slowestDetach: Math.round(slowest),
  });
}

if (process.argv[2] === "writer") {
  write(process.argv[3]);
} else {
  const cycles = Number(process.argv[2] ?? 60);
  makeImage(image);
  await measure("loopdev", { partscan: true }, cycles);
  await measure("loopdev, lock: shared", { partscan: true, lock: "shared" }, cycles);
}
