/** Whose mounts lie in /run/loopdev, and who ends them. Nothing of the library: a subject imports it. */
import { readdirSync, readFileSync } from "node:fs";

const OWNERS = "/run/loopdev";

/** undefined of what is gone, or ends just then. */
export function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

/** The directories of a process below /run/loopdev. */
export const ownersOf = (pid: number): string[] =>
  (unlessGone(() => readdirSync(OWNERS)) ?? []).filter((name) => name.startsWith(`${pid}-`))
    .map((name) => `${OWNERS}/${name}`);

/** What a process has noted of its mounts, and where they lie. */
export const recordsOf = (pid: number): string[] =>
  ownersOf(pid).flatMap((owner) =>
    (unlessGone(() => readdirSync(owner)) ?? []).map((name) => `${owner}/${name}`)
  );

/** The processes that end a process's mounts. */
export function keepersOf(pid: number): number[] {
  const prefix = `${OWNERS}/${pid}-`;
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    const args = unlessGone(() => readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")) ?? [];
    return args[0] === "sh" && args.some((arg) => arg.startsWith(prefix));
  });
}
