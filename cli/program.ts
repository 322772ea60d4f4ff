/**
 * The program's name and version, its arguments and environment.
 *
 * @module
 */
import config from "../deno.json" with { type: "json" };
import { decodeName, O_RDONLY, open, readAt } from "../lib/losetup/list.ts";
import { UsageError } from "./getopt.ts";

export const VERSION: string = config.version;
/** The losetup(8) that this program behaves like. */
export const LOSETUP_VERSION = "2.42";

/** "losetup" if it was called by that name (a link, a compiled binary, `exec -a`), else "loopdev". */
export function programName(args: readonly string[]): string {
  const own = wordsOf("cmdline").slice(0, -args.length || undefined);
  return own.some((part) => /(?:^|\/)losetup(?:\.[jt]s)?$/.test(part)) ? "losetup" : "loopdev";
}

/**
 * The arguments with their bytes. Both runtimes replace what is not UTF-8 by U+FFFD, which is the name
 * of another file. Bun also removes the "--" of `bun cli.ts -- x`.
 */
export function givenArguments(args: readonly string[]): readonly string[] {
  const words = wordsOf("cmdline");
  const [before, ...given] = words.slice(-args.length - 1);
  const isSame = given.length === args.length &&
    given.every((word, i) => args[i].includes("\ufffd") || word === args[i]);
  if (isSame) return before === "--" ? ["--", ...given] : given;
  if (!args.some((word) => word.includes("\ufffd"))) return args;
  throw new UsageError("an argument is not UTF-8, and /proc/self/cmdline does not have it");
}

/** A variable of the environment. Deno's own way to it needs a permission. */
export function environment(name: string): string | undefined {
  const beginning = `${name}=`;
  return wordsOf("environ").find((word) => word.startsWith(beginning))?.slice(beginning.length);
}

/** The strings in a file of /proc. The command line has the runtime and the script, too. */
function wordsOf(name: "cmdline" | "environ"): string[] {
  try {
    using file = open(`/proc/self/${name}`, O_RDONLY);
    for (let size = 8192;; size *= 8) {
      const bytes = readAt(file, 0, size);
      if (bytes.length < size) return decodeName(bytes).split("\0").slice(0, -1);
    }
  } catch {
    // No /proc, or no permission for FFI: the first call that matters reports it.
    return [];
  }
}
