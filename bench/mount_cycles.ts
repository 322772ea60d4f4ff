/**
 * Mounts and unmounts IMAGE, so often by loopdev and so often by mount(8) and umount(8); prints the ms
 * of each as JSON. The two take turns.
 *
 *     bun bench/mount_cycles.ts IMAGE 20
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { attach } from "../mod.ts";

const [image, rounds] = process.argv.slice(2);
const at = mkdtempSync(join(tmpdir(), "loopdev-bench-"));
const times = { loopdev: [] as number[], mount: [] as number[] };

function must(command: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
}

await using loop = await attach(image);
// What is loaded late is loaded then.
await (await loop.mount()).unmount();
for (let round = 0; round < Number(rounds); round++) {
  const start = performance.now();
  const root = await loop.mount();
  await root.unmount();
  const middle = performance.now();
  must("mount", loop.path, at);
  must("umount", at);
  times.loopdev.push(middle - start);
  times.mount.push(performance.now() - middle);
}
rmdirSync(at);
console.log(JSON.stringify(times));
