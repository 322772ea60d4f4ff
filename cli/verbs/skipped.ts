/**
 * What of an image is not mounted, for people.
 *
 * @module
 */
import type { MountedImage } from "../../mod.ts";
import type { Console } from "./console.ts";

/** Says what lies nowhere though the image has a place for it. Swap and the like are not missed. */
export function sayWhatIsMissing(image: string, { skipped }: MountedImage, console: Console): void {
  for (const { partition, source, point, reason } of skipped) {
    if (point === undefined) continue;
    const what = partition === undefined ? source : `partition ${partition}`;
    console.say(`${image}: ${point} is not mounted: ${what}: ${reason}`);
  }
}
