/**
 * What mount() and unmount() cost beside mount(8) and umount(8), spawned from the same runtime, and
 * beside C with the same calls: ext4 in memory, where no disk is waited for. What the first one of a
 * process costs more is the keeper. By itself it prints a line a runtime:
 *
 *     deno task bench:mounts
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readOptions } from "../dev/options.ts";
import { ROOT } from "../tests/support/support.ts";
import { command, must, type RuntimeName, RUNTIMES } from "./contenders.ts";
import { median } from "./measure.ts";

const ROUNDS = "60";

/** Processes that mount but once. */
const PROCESSES = 20;

/** ms of each cycle. */
export interface MountTimes {
  /** The first one of a process, with the keeper's start. */
  first: number[];
  loopdev: number[];
  c: number[];
  mount: number[];
}

/** All three take turns. */
export function measureMounts(runtime: RuntimeName): MountTimes {
  const folder = mkdtempSync(
    join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "loopdev-bench-"),
  );
  try {
    const [image, program] = [join(folder, "disk.img"), join(folder, "mount_cycle")];
    writeFileSync(image, "");
    truncateSync(image, 64 * 1024 * 1024);
    must("mkfs.ext4", ["-q", image]);
    must("cc", ["-O2", "-o", program, join(ROOT, "bench/mount_cycle.c")]);
    const times = (rounds: string): MountTimes => {
      const [file, ...args] = command(runtime, "mount_cycles.ts", image, program, rounds);
      return JSON.parse(execFileSync(file, args, { encoding: "utf8" }));
    };
    const first = Array.from({ length: PROCESSES }, () => times("0").first).flat();
    return { ...times(ROUNDS), first };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const HELP = `Usage: bench/mounts.ts

Measures mount() and unmount() beside mount(8) and umount(8), and C with the same calls, on each
runtime. Needs root, cc, mkfs.ext4 and mount.

  -h, --help  this text`;

if (import.meta.main) {
  readOptions(HELP, {});
  for (const runtime of RUNTIMES) {
    const { first, loopdev, c, mount } = measureMounts(runtime);
    const ms = (times: number[]) => `${median(times).toFixed(2)} ms`;
    const ratio = (times: number[]) => (median(mount) / median(times)).toFixed(1);
    console.log(
      `${runtime.padEnd(6)}mount(8) + umount(8) ${ms(mount)}; loopdev ${ms(loopdev)}, ` +
        `${ratio(loopdev)} times as fast; C with the same calls ${ms(c)}, ${ratio(c)} times; ` +
        `the first of a process, with the keeper's start, ${ms(first)}`,
    );
  }
}
