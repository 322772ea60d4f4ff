/**
 * Mounts and unmounts IMAGE, so often by loopdev, by C with the same calls (PROGRAM, of mount_cycle.c),
 * and by mount(8) and umount(8); prints the ms of each as JSON. They take turns. `first` is the first
 * one of the process, which loads what it needs and starts the keeper.
 *
 *     bun bench/mount_cycles.ts IMAGE PROGRAM 40
 */
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readOptions } from "../dev/options.ts";
import { attach } from "../mod.ts";
import { must } from "./contenders.ts";

const HELP = `Usage: bench/mount_cycles.ts IMAGE PROGRAM ROUNDS

What bench/mounts.ts starts: mounts and unmounts IMAGE so often by loopdev, by PROGRAM, which is
bench/mount_cycle.c compiled, and by mount(8) and umount(8); prints JSON.

  -h, --help  this text`;
const { operands: [image, program, rounds] } = readOptions(HELP, {}, { least: 3, most: 3 });
const at = mkdtempSync(join(tmpdir(), "loopdev-bench-"));
const times = {
  first: [] as number[],
  loopdev: [] as number[],
  c: [] as number[],
  mount: [] as number[],
};

await using loop = await attach(image);
const begin = performance.now();
await (await loop.mount()).unmount();
times.first.push(performance.now() - begin);
for (let round = 0; round < Number(rounds); round++) {
  const start = performance.now();
  const root = await loop.mount();
  await root.unmount();
  const middle = performance.now();
  must("mount", [loop.path, at]);
  must("umount", [at]);
  times.loopdev.push(middle - start);
  times.mount.push(performance.now() - middle);
  // It measures itself: its own start is not what is asked.
  times.c.push(Number(must(program, [loop.path])) / 1e6);
}
rmdirSync(at);
console.log(JSON.stringify(times));
