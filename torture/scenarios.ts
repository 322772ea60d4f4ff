/** What the subject can act, and how its acts are marked in a trace. */

/** Names that never exist: looking for them is a system call that stands out. */
export const MARKS = {
  begin: "/loopdev-mark-begin",
  end: "/loopdev-mark-end",
  persisted: "/loopdev-mark-persisted",
} as const;

/** attach() and detach() with each strategy; what else changes a device; mounts. */
export const SCENARIOS = [
  "none",
  "one-step",
  "two-step",
  "userspace",
  "persist",
  "rescan",
  "grow",
  "detach-other",
  "mount",
  "mount-at",
  "mount-detached",
  "mount-first",
  "mount-again",
  "mount-run",
  "guarded",
  "change-file",
  "mount-freeze",
  "mount-owner",
  "mount-image",
] as const;

/** Those in which a kill shows nothing that others do not show. */
export const NOT_KILLED: readonly ScenarioName[] = [
  ...["guarded", "change-file", "mount-freeze", "mount-owner", "mount-image"] as const,
];
export type ScenarioName = typeof SCENARIOS[number];

/** What loads all that a scenario needs, and leaves it to do the rest. */
export const WARM_UPS: Partial<Record<ScenarioName, ScenarioName>> = {
  // Without a keeper.
  "mount-first": "mount-detached",
};

/** A process of "mount-run" has it in its command line. */
export const STAYING = "98765.4321";

/** Those that mount something. */
export const isMount = (scenario: ScenarioName): boolean => scenario.startsWith("mount");

export const RUNTIMES = ["bun", "deno", "node"] as const;
export type RuntimeName = typeof RUNTIMES[number];
