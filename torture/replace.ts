/** Changes of a copy of the source tree. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A text that stands in a file just once, and another one instead of it. */
export interface Replacement {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** How often it stands there. */
export function timesIn(folder: string, { file, from }: Replacement): number {
  return readFileSync(join(folder, file), "utf8").split(from).length - 1;
}

export function replaceOnce(folder: string, replacement: Replacement): void {
  const { file, from, to } = replacement;
  const times = timesIn(folder, replacement);
  if (times !== 1) throw new Error(`${file} has ${times} times, not once: ${JSON.stringify(from)}`);
  const path = join(folder, file);
  writeFileSync(path, readFileSync(path, "utf8").split(from).join(to));
}
