/**
 * What of an image is not mounted, for people.
 *
 * @module
 */
import type { MountedImage } from "../../mod.ts";
import { inOurWords } from "../words.ts";
import { type Console, withoutDevice } from "./console.ts";

/**
 * Says what lies nowhere though the image has a place for it. Swap and the like are not missed. `stays`: the
 * device does, and can be named.
 */
export function sayWhatIsMissing(
  image: string,
  { skipped, loop }: MountedImage,
  console: Console,
  { stays }: { stays: boolean },
): void {
  for (const { partition, source, point, reason } of skipped) {
    if (point === undefined) continue;
    const what = partition === undefined ? source : `partition ${partition}`;
    // Of an error what it means, which stands in brackets behind the call.
    const why = reason.replace(/^E[A-Z]+: [^(]*\((.*)\)$/s, "$1");
    const remedy = stays ? why : withoutDevice(why, loop.path, image);
    console.say(inOurWords(`${image}: ${point} is not mounted: ${what}: ${remedy}`));
  }
}
