/**
 * How old the results of the matrix are: what has changed in the library since the commit that gave them.
 * Git says so, and nothing else: where it cannot, no result is called new or old.
 */
import { spawnSync } from "node:child_process";

/** What the guests' steps depend on: attach(), mount() and all below them. */
export const WATCHED: readonly string[] = ["udev", "mount", "kernel", "runtime", "binding"]
  .map((folder) => `lib/${folder}`);

/** The library beside the commits that gave results; or why git cannot say. */
export type Library = Known | { readonly unknown: string };

interface Known {
  /** The last commit that changed one of these folders. */
  readonly commit: string;
  /** Of that commit: "2026-11-29". */
  readonly date: string;
  /** By commit, how many files of these folders are not as they were there; a commit that git lacks is none. */
  readonly changed: Readonly<Record<string, number>>;
}

/** Asks git of the tree at `root`, whose files are compared as they are now. */
export function compareLibrary(root: string, commits: readonly string[], git = "git"): Library {
  const ask = (...args: string[]) => {
    const { status, stdout } = spawnSync(git, ["-C", root, ...args], { encoding: "utf8" });
    return status === 0 ? stdout.trim() : undefined;
  };
  const shallow = ask("rev-parse", "--is-shallow-repository");
  if (shallow === undefined) return { unknown: "git is missing, or this is none of its trees" };
  if (shallow === "true") return { unknown: "this clone has no history (git fetch --unshallow)" };
  const [commit, date] = ask("log", "-1", "--format=%h %cs", "--abbrev=12", "--", ...WATCHED)
    ?.split(" ") ?? [];
  if (!commit) return { unknown: `no commit here has ${WATCHED[0]}` };
  const changed = commits.flatMap((each) => {
    const files = ask("diff", "--name-only", "--no-renames", `${each}^{commit}`, "--", ...WATCHED);
    return files === undefined ? [] : [[each, files.split("\n").filter(Boolean).length] as const];
  });
  return { commit, date, changed: Object.fromEntries(changed) };
}

/** What the page says of a result's age; empty if it is of the present library. */
export function ageOf(library: Library | undefined, commit: string): string {
  if (library === undefined || "unknown" in library) return "age unknown";
  const changed = library.changed[commit];
  if (changed === undefined) return "age unknown";
  return changed === 0 ? "" : `older, ${changed} ${changed === 1 ? "file" : "files"}`;
}
