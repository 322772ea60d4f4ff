/** The directories of dead owners below /run/loopdev, which a run leaves where a planted bug forgets a record. */
import { readdirSync } from "node:fs";
import { namespaceOf, OWNERS, unlessGone } from "../tests/support/keepers.ts";
import { run } from "../tests/support/support.ts";

const names = (folder: string) => unlessGone(() => readdirSync(folder)) ?? [];
const before = new Set(names(OWNERS));

/** rmdir alone: it fails on what is not empty, and on what something is mounted on here. */
const REMOVE = `cd "$1" || exit
[ "$2" = gone ] && rm -f .[0-9]*.*
rmdir *-[0-9][0-9][0-9][0-9][0-9][0-9] || :
cd / && rmdir "$1"`;

/**
 * Removes those that are new since this process began, that nobody has locked, and that have no record: a
 * record is for the next mount() in the same mount namespace. Where that is gone, its mounts are, too. Gives
 * their paths.
 */
export function removeDeadOwners(): string[] {
  const own = namespaceOf();
  const pids = names("/proc").filter((name) => /^\d+$/.test(name));
  const living = new Set(pids.map((pid) => unlessGone(() => namespaceOf(pid))));
  return names(OWNERS).filter((name) => !before.has(name)).flatMap((name) => {
    const namespace = Number(/^\d+-(\d+)-\w{10}$/.exec(name)?.[1]);
    const isGone = !living.has(namespace);
    if (Number.isNaN(namespace) || namespace !== own && !isGone) return [];
    const path = `${OWNERS}/${name}`;
    if (!isGone && names(path).some((name) => name.startsWith("."))) return [];
    // By a descriptor: flock(1) makes a file of a path that has gone.
    const locked = `exec 9<"$1" && flock --nonblock 9 || exit 1; ${REMOVE}`;
    const removal = ["sh", "-c", locked, "sh", path, isGone ? "gone" : "here"];
    return run(removal).status === 0 ? [path] : [];
  });
}
