/**
 * What the program is called, and which it is.
 *
 * @module
 */
import { O_RDONLY, open, readAt } from "../lib/file.ts";

/** Of deno.json. */
export const VERSION = "0.1.0";
/** The losetup(8) whose behaviour this is. */
export const LOSETUP_VERSION = "2.42";

/** "losetup" where it was called by that name (a link, a compiled binary, `exec -a`); else "loopdev". */
export function programName(args: readonly string[]): string {
  const own = commandLine().slice(0, -args.length || undefined);
  return own.some((part) => /(?:^|\/)losetup(?:\.[jt]s)?$/.test(part)) ? "losetup" : "loopdev";
}

/** All of it, runtime and script included. */
function commandLine(): string[] {
  try {
    using file = open("/proc/self/cmdline", O_RDONLY);
    return new TextDecoder().decode(readAt(file, 0, 2 * 1024 * 1024)).split("\0").slice(0, -1);
  } catch {
    // No /proc, or no permission for FFI, which somebody else will say: the name is the least of it.
    return [];
  }
}
