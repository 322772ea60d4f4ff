/**
 * `loopdev umount`: ends what `loopdev mount` made.
 *
 * @module
 */
import { unmountTree } from "../../lib/losetup/trees.ts";
import type { Console } from "./console.ts";
import type { VerbLine } from "./line.ts";

/** Unmounts the trees. One that is in use does not keep the others from being unmounted. */
export async function umount(line: VerbLine, console: Console): Promise<void> {
  for (const directory of line.operands) {
    try {
      const { device, holders } = await unmountTree(directory);
      if (holders === "") continue;
      console.say(
        `${directory}: unmounted; the kernel detaches ${device} after its last user (${holders})`,
      );
    } catch (error) {
      console.complain(error);
    }
  }
}
