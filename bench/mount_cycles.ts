/**
 * Attaches IMAGE, mounts it, writes ten files, unmounts it and detaches it: with the protocol of
 * bench/mount_cycle.c. Reads lines "WHAT CYCLES" and answers each with the ns of the five parts of every
 * cycle, on one line. WHAT is loopdev, or processes: losetup, mount, umount and losetup.
 */
import { mkdtempSync, rmdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { readOptions } from "../dev/options.ts";
import { attach } from "../mod.ts";
import { must } from "./contenders.ts";

const HELP = `Usage: bench/mount_cycles.ts IMAGE

What bench/mounts.ts starts: reads lines "WHAT CYCLES", and answers each with the nanoseconds that the
five parts of every cycle took: attach, mount, ten files, unmount, detach. WHAT is loopdev or processes.

  -h, --help  this text`;
const { operands: [image] } = readOptions(HELP, {}, { least: 1, most: 1 });
const FILES = 10;
const CONTENT = new Uint8Array(4096).fill(120);
let cycles = 0;

/** Files of their own: over one that is there ext4 would write the old one's blocks at its close. */
function writeFiles(folder: string): void {
  cycles++;
  for (let i = 0; i < FILES; i++) {
    writeFileSync(`${folder}/${process.pid}-${cycles}-${i}`, CONTENT);
  }
}

async function byLoopdev(done: () => void): Promise<void> {
  const loop = await attach(image);
  done();
  const root = await loop.mount();
  done();
  writeFiles(root.path);
  done();
  await root.unmount();
  done();
  await loop.detach();
  done();
}

/** Where mount(8) mounts. */
const at = mkdtempSync(join(tmpdir(), "loopdev-bench-"));

function byProcesses(done: () => void): void {
  const device = must("losetup", ["--find", "--show", image]).trim();
  done();
  must("mount", [device, at]);
  done();
  writeFiles(at);
  done();
  must("umount", [at]);
  done();
  must("losetup", ["--detach", device]);
  done();
}

const WAYS: Record<string, (done: () => void) => void | Promise<void>> = {
  loopdev: byLoopdev,
  processes: byProcesses,
};

for await (const line of createInterface({ input: process.stdin })) {
  const [what, count] = line.split(" ");
  const times: number[] = [];
  for (let i = 0; i < Number(count); i++) {
    let last = performance.now();
    await WAYS[what](() => {
      const now = performance.now();
      times.push(Math.round((now - last) * 1e6));
      last = now;
    });
  }
  console.log(times.join(" "));
}
rmdirSync(at);
