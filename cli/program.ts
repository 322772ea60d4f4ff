/**
 * What the program is called, which it is, and what it was given.
 *
 * @module
 */
import config from "../deno.json" with { type: "json" };
import { decodeName, O_RDONLY, open, readAt } from "../lib/losetup/list.ts";
import { UsageError } from "./getopt.ts";

export const VERSION: string = config.version;
/** The losetup(8) whose behaviour this is. */
export const LOSETUP_VERSION = "2.42";

/** "losetup" where it was called by that name (a link, a compiled binary, `exec -a`); else "loopdev". */
export function programName(args: readonly string[]): string {
  const own = wordsOf("cmdline").slice(0, -args.length || undefined);
  return own.some((part) => /(?:^|\/)losetup(?:\.[jt]s)?$/.test(part)) ? "losetup" : "loopdev";
}

/**
 * The arguments as they were given. Both runtimes make U+FFFD of what is no UTF-8, and that is the
 * name of another file; and of `bun cli.ts -- x` Bun keeps the "--" for itself.
 */
export function givenArguments(args: readonly string[]): readonly string[] {
  const words = wordsOf("cmdline");
  const [before, ...given] = words.slice(-args.length - 1);
  const isSame = given.length === args.length &&
    given.every((word, i) => args[i].includes("\ufffd") || word === args[i]);
  if (isSame) return before === "--" ? ["--", ...given] : given;
  if (!args.some((word) => word.includes("\ufffd"))) return args;
  throw new UsageError("an argument is no UTF-8, and /proc/self/cmdline does not have it");
}

/** A variable of the environment. Deno's own way to it asks for a permission. */
export function environment(name: string): string | undefined {
  const beginning = `${name}=`;
  return wordsOf("environ").find((word) => word.startsWith(beginning))?.slice(beginning.length);
}

/** The strings in a file of /proc; of the command line all of it, runtime and script included. */
function wordsOf(name: "cmdline" | "environ"): string[] {
  try {
    using file = open(`/proc/self/${name}`, O_RDONLY);
    for (let size = 8192;; size *= 8) {
      const bytes = readAt(file, 0, size);
      if (bytes.length < size) return decodeName(bytes).split("\0").slice(0, -1);
    }
  } catch {
    // No /proc, or no permission for FFI, which somebody else will say: this is the least of it.
    return [];
  }
}
