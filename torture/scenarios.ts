/** What the subject can act, and how its acts are marked in a trace. */

/** Names that never exist: looking for them is a system call that stands out. */
export const MARKS = {
  begin: "/loopdev-mark-begin",
  end: "/loopdev-mark-end",
  persisted: "/loopdev-mark-persisted",
} as const;

/** attach() and detach() with each strategy; and what else changes a device. */
export const SCENARIOS = [
  "none",
  "one-step",
  "two-step",
  "userspace",
  "persist",
  "rescan",
  "detach-other",
  "mount",
] as const;
export type ScenarioName = typeof SCENARIOS[number];

export const RUNTIMES = ["bun", "deno"] as const;
export type RuntimeName = typeof RUNTIMES[number];
