/**
 * `loopdev mount`: the files of an image on a directory, until `loopdev umount`.
 *
 * @module
 */
import { leaveToMounts } from "../../lib/losetup/trees.ts";
import { attach } from "../../mod.ts";
import type { Console } from "./console.ts";
import type { VerbLine } from "./line.ts";
import { parsePartition } from "./partition.ts";

/** Mounts it. Until the last step everything goes with this process, even if that is killed. */
export async function mount(line: VerbLine, console: Console): Promise<void> {
  const [image, directory] = line.operands;
  const root = line.value("root");
  const partition = root === undefined ? undefined : parsePartition(root);
  const readOnly = line.has("read-only") || undefined;
  await using loop = await attach(image, { partscan: true, sectorSize: "auto", readOnly });
  await loop.mount(partition, { at: directory, readOnly });
  console.ignoreSignals();
  await leaveToMounts(loop);
}
