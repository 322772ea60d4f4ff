/**
 * Processes that use files of a mount which no list shows: one without a directory, or one that was
 * unmounted lazily while in use.
 *
 * @module
 */
import { ifAllowed, readLink, readText } from "../kernel/file.ts";
import { mounts } from "../kernel/mountinfo.ts";
import type { Place } from "../kernel/stat.ts";
import { canBeOnDisk, linkIn, type Process } from "./processes.ts";

/** Where to look, and for what. */
export interface HiddenMounts {
  /** Device number of a file system → name of the device that holds it. */
  readonly names: ReadonlyMap<string, string>;
  /** The mounts of this namespace. Their users show by a path. */
  readonly visible: ReadonlySet<number>;
  readonly self: string;
  /** Descriptors of this process that keep the mounts themselves. */
  readonly own: ReadonlySet<number>;
}

export function hiddenMounts(
  names: ReadonlyMap<string, string>,
  own: readonly number[],
): HiddenMounts {
  const visible = new Set(mounts().map(({ id }) => id));
  return { names, visible, self: readLink("/proc/self"), own: new Set(own) };
}

/** Links of a process that may lead to a file of such a mount: where they lead has to be asked. */
export function linksToAsk(
  { pid, links }: Process,
  { visible, self, own }: HiddenMounts,
): string[] {
  const folder = `/proc/${pid}`;
  const opened = [...links].filter(([fd, link]) => {
    if (!canBeOnDisk(link) || pid === self && own.has(Number(fd))) return false;
    // Asked before the file itself, which may lie on a network that does not answer.
    const info = ifAllowed(() => readText(`${folder}/fdinfo/${fd}`));
    const mount = /^mnt_id:\s*(\d+)$/m.exec(info ?? "")?.[1];
    return mount !== undefined && !visible.has(Number(mount));
  });
  // A kernel's thread has no program, and a stranger's process shows none.
  const others = ["cwd", "root", "exe"].filter((name) => linkIn(`${folder}/${name}`) !== undefined);
  return [
    ...opened.map(([fd]) => `${folder}/fd/${fd}`),
    ...others.map((name) => `${folder}/${name}`),
  ];
}

/** The name of the device that holds the file, if that lies on such a mount. */
export function hiddenUse(
  place: Place | undefined,
  { names, visible }: HiddenMounts,
): string | undefined {
  if (!place || visible.has(place.mount)) return undefined;
  return names.get(place.dev);
}
