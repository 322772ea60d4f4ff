/**
 * Processes that use files of a mount which no list shows: one without a directory, or one that was
 * unmounted lazily while in use.
 *
 * @module
 */
import { ifAllowed, readLink, readText } from "../kernel/file.ts";
import { mounts } from "../kernel/mountinfo.ts";
import { placeOf } from "../kernel/stat.ts";
import { canBeOnDisk, type Links } from "./processes.ts";

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

/** The names of the devices of which process `pid` uses a file. */
export async function hiddenUses(
  pid: string,
  links: Links,
  { names, visible, self, own }: HiddenMounts,
): Promise<string[]> {
  const used: string[] = [];
  const look = async (name: string) => {
    const place = await placeOf(`/proc/${pid}/${name}`);
    if (!place || place.mount !== undefined && visible.has(place.mount)) return;
    const device = names.get(place.dev);
    if (device !== undefined) used.push(device);
  };
  for (const [fd, link] of links) {
    if (!canBeOnDisk(link) || pid === self && own.has(Number(fd))) continue;
    // Asked before the file itself, which may lie on a network that does not answer.
    const info = ifAllowed(() => readText(`/proc/${pid}/fdinfo/${fd}`));
    const mount = /^mnt_id:\s*(\d+)$/m.exec(info ?? "")?.[1];
    if (mount === undefined || visible.has(Number(mount))) continue;
    await look(`fd/${fd}`);
  }
  for (const name of ["cwd", "root", "exe"]) await look(name);
  return used;
}
