/**
 * `loopdev mount`: the files of an image on a directory, until `loopdev umount`.
 *
 * @module
 */
import { leaveToMounts } from "../../lib/losetup/trees.ts";
import { mountImage } from "../../mod.ts";
import type { Console } from "./console.ts";
import type { VerbLine } from "./line.ts";
import { parseOwner } from "./owner.ts";
import { optionalPartition } from "./partition.ts";
import { sayWhatIsMissing } from "./skipped.ts";

/** Mounts it. Until the last step everything goes with this process, even if that is killed. */
export async function mount(line: VerbLine, console: Console): Promise<void> {
  const [image, at] = line.operands;
  const readOnly = line.has("read-only") || undefined;
  const owner = line.has("owner") ? parseOwner(line.value("owner")) : undefined;
  console.subject = image;
  const tree = await mountImage(image, {
    ...{ root: optionalPartition(line.value("root")), readOnly, owner, at },
  });
  sayWhatIsMissing(image, tree, console, { stays: true });
  // What could not be said makes the exit code 1, and nothing may stay then.
  if (console.exitCode !== 0) return void await tree.unmount();
  console.ignoreSignals();
  await leaveToMounts(tree.loop);
}
