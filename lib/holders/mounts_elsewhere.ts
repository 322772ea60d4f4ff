/**
 * Mounts in other mount namespaces: of containers, and of services with a namespace of their own, which can
 * keep a mount long after everybody else has unmounted it. No process need have a file open there.
 *
 * @module
 */
import { unlessRefused } from "../base/errors.ts";
import { ifAllowed, readLines } from "../kernel/file.ts";
import { unescapeOctal } from "../kernel/mountinfo.ts";
import type { Holder } from "./holder.ts";
import type { Held } from "./kernel_holders.ts";
import { linkIn, processIds } from "./processes.ts";

/** Those of these devices, each by the path that leads there through a process: "/proc/1234/root/mnt". */
export async function mountsElsewhere(held: Held): Promise<Holder[]> {
  const seen = new Set([viewOf("self")]);
  const holders: Holder[] = [];
  for await (const pid of processIds()) {
    const view = viewOf(pid);
    if (view === undefined || seen.has(view)) continue;
    seen.add(view);
    for (const line of mountLines(pid)) {
      const [, , dev, , point] = line.split(" ");
      const name = held.get(dev);
      if (name === undefined) continue;
      const by = `/proc/${pid}/root${point === "/" ? "" : unescapeOctal(point)}`;
      holders.push({ path: `/dev/${name}`, kind: "mount", by });
    }
  }
  return holders;
}

/** What decides which mounts a process sees, and by which paths; undefined: this one may not look. */
function viewOf(pid: string): string | undefined {
  const [namespace, root] = ["ns/mnt", "root"].map((name) => linkIn(`/proc/${pid}/${name}`));
  return namespace === undefined ? undefined : `${namespace} ${root}`;
}

/** None of a process that has just ended (EINVAL), or that this one may not look at. */
function mountLines(pid: string): string[] {
  const look = () => readLines(`/proc/${pid}/mountinfo`);
  return ifAllowed(() => unlessRefused(look, "EINVAL")) ?? [];
}
