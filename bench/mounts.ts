/**
 * What mount() and unmount() cost beside mount(8) and umount(8), spawned from the same runtime: ext4 in
 * memory, where no disk is waited for. Exits with 1 if a ratio is below 5.
 *
 *     deno task bench:mounts
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { command, must, RUNTIMES } from "./contenders.ts";
import { median } from "./measure.ts";

const ROUNDS = "40";
const TARGET = 5;

const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "loopdev-bench-"));
try {
  for (const runtime of RUNTIMES) {
    const image = join(folder, `${runtime}.img`);
    writeFileSync(image, "");
    truncateSync(image, 64 * 1024 * 1024);
    must("mkfs.ext4", ["-q", image]);
    const [file, ...args] = command(runtime, "mount_cycles.ts", image, ROUNDS);
    const { loopdev, mount } = JSON.parse(execFileSync(file, args, { encoding: "utf8" }));
    const ratio = median(mount) / median(loopdev);
    console.log(
      `${runtime.padEnd(6)}mount + unmount ${median(loopdev).toFixed(2)} ms, ` +
        `mount(8) + umount(8) ${median(mount).toFixed(2)} ms: ${ratio.toFixed(1)} times`,
    );
    if (ratio < TARGET) process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true });
}
