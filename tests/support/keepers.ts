/** Whose mounts lie in /run/loopdev and /run/loopdev-owned, and who ends them. Nothing of the library: a subject imports it. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import process from "node:process";

/** The directories of all owners. */
export const OWNERS = "/run/loopdev";

/** undefined of what is gone, or ends just then. */
export function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

/** The directories of a process below these. */
export const ownersOf = (pid: number): string[] =>
  [OWNERS, `${OWNERS}-owned`].flatMap((folder) =>
    (unlessGone(() => readdirSync(folder)) ?? []).filter((name) => name.startsWith(`${pid}-`))
      .map((name) => `${folder}/${name}`)
  );

/** The inode number of a process's mount namespace. */
export const namespaceOf = (pid: number | string = "self"): number =>
  statSync(`/proc/${pid}/ns/mnt`).ino;

/** A path for the directory of an owner that nobody is, of this process's mount namespace or another. */
export const deadOwner = (namespace = namespaceOf()): string =>
  `${OWNERS}/1-${namespace}-${crypto.randomUUID().replaceAll("-", "").slice(0, 10)}`;

/** What a process has noted of its mounts, and where they lie. */
export const recordsOf = (pid: number): string[] =>
  ownersOf(pid).flatMap((owner) =>
    (unlessGone(() => readdirSync(owner)) ?? []).map((name) => `${owner}/${name}`)
  );

/** The processes that end a process's mounts. Its child is none: that only starts one, and mount() waits for it. */
export function keepersOf(owner: number): number[] {
  const prefix = `${OWNERS}/${owner}-`;
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    const args = unlessGone(() => readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")) ?? [];
    const isShell = args[0] === "sh" && args.some((arg) => arg.startsWith(prefix));
    const parent = isShell && /\) \S+ (\d+)/.exec(statOf(pid) ?? "")?.[1];
    return parent && Number(parent) !== owner;
  });
}

const statOf = (pid: number) => unlessGone(() => readFileSync(`/proc/${pid}/stat`, "utf8"));

const PAUSE_MS = 1;
const END_MS = 30_000;

/**
 * Kills processes, and returns when they have ended. Whether one has tells its state alone: a killed
 * process loses its command line before it lets its pipes and locks go.
 */
export function killAll(pids: readonly number[]): void {
  const began = new Map(pids.map((pid) => [pid, startOf(pid)]));
  for (const pid of pids) unlessGone(() => process.kill(pid, "SIGKILL"));
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const end = Date.now() + END_MS;
  // Another process may have the number by then.
  while (!pids.every((pid) => hasEnded(pid) || startOf(pid) !== began.get(pid))) {
    if (Date.now() > end) throw new Error(`${pids.join(" and ")} cannot be killed`);
    Atomics.wait(pause, 0, 0, PAUSE_MS);
  }
}

/** When a process was started, in ticks since the machine was. */
const startOf = (pid: number) => statOf(pid)?.replace(/^.*\) /s, "").split(" ")[19];

function hasEnded(pid: number): boolean {
  const stat = statOf(pid);
  return stat === undefined || /\) [ZX] [^)]*$/.test(stat);
}
