/** Bugs that loopdev once had, as changes of the source as it is now. Those that are found fastest come first. */
import type { Replacement } from "./replace.ts";

export interface PlantedBug {
  readonly name: string;
  /** What the commit that mended it is called. */
  readonly mended: string;
  /** The kinds of programs that can find it, where few of all are of these; undefined: all. */
  readonly kinds?: string;
  readonly replacements: readonly Replacement[];
}

/** The operations of a handle do not wait for one another. */
export const OUT_OF_TURN: Replacement = {
  file: "lib/base/turns.ts",
  from: "const before = this.#last;",
  to: "const before: Promise<void> = Promise.resolve();",
};

/**
 * A descriptor is closed while another thread's call with its number is under way. That a handle's operations
 * wait for one another hides it, so they do not.
 */
export const NUMBER_REUSED: readonly Replacement[] = [
  {
    file: "lib/kernel/file.ts",
    from: "    if (this.#inFlight > 0) await",
    to: "    if (false) await",
  },
  { file: "lib/kernel/file.ts", from: "    if (this.#inFlight > 0) {", to: "    if (false) {" },
  OUT_OF_TURN,
];

/** Whoever attaches a file does not wait for those who look for overlaps before him. */
export const LOOK_AT_ONCE: readonly Replacement[] = [
  {
    file: "lib/base/turns.ts",
    from: "earlier.length > 0 ? Promise.all(earlier)",
    to: "earlier.length < 0 ? Promise.all(earlier)",
  },
  {
    file: "lib/binding/file_lock.ts",
    from: "if (await poll(attempt, timeout, signal, LONGEST_PAUSE_MS)) return",
    to: "if (timeout >= 0 || await poll(attempt, timeout)) return",
  },
];

export const PLANTED: readonly PlantedBug[] = [
  {
    name: "persist and detach in any order",
    kinds: "ending",
    mended:
      "Do a handle's operations one after another, and look again before acting on others' devices",
    replacements: [{
      file: "lib/device.ts",
      from: "this.#inTurn(() => this.#endInTurn(options))",
      to: "Promise.resolve().then(() => this.#endInTurn(options))",
    }],
  },
  {
    name: "overlap is looked for at the same time",
    kinds: "overlap",
    mended: "Decide overlap for a file once on the whole machine",
    replacements: LOOK_AT_ONCE,
  },
  {
    name: "unmount takes a stranger's mount",
    kinds: "mounting",
    mended: "Mount on a directory of its own, and keep it from outliving the process",
    replacements: [{
      file: "lib/mount/mounted.ts",
      from: "const [other] = children.length > 0 ? childrenOf(id) : [];",
      to: "const [other] = children.slice(0, 0);",
    }],
  },
  {
    name: "rescan removes what no table accounts for",
    kinds: "tables",
    mended: "Let a table of any kind that is read account for its device",
    replacements: [{
      file: "lib/binding/partitions.ts",
      from: "      !has(table, partition) && (isComplete(found) || isKnown(partition))\n",
      to: "      !has(table, partition) && (true || isComplete(found) || isKnown(partition))\n",
    }],
  },
  {
    name: "a descriptor's number is another file's",
    mended: "Let an open file own its descriptor and the calls under way on it",
    replacements: NUMBER_REUSED,
  },
  {
    name: "a keeper forgets its mounts",
    kinds: "dying",
    mended: "Mount on a directory of its own, and keep it from outliving the process",
    replacements: [{
      file: "lib/mount/keeper.ts",
      from: "makeEmptyFile(record, parent);",
      to: "makeEmptyFile;",
    }],
  },
];
