/**
 * Processes that use the files of a mount which no list shows: one without a directory, or one that
 * was taken from its directory while it was in use.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { ifExists, readLink, readText } from "../kernel/file.ts";
import { mounts } from "../kernel/mountinfo.ts";
import { placeOf } from "../kernel/stat.ts";

/** Where to look, and for what. */
export interface HiddenMounts {
  /** Device number of a file system → name of the device that holds it. */
  readonly names: ReadonlyMap<string, string>;
  /** The mounts that everybody can see: their users are found by path. */
  readonly visible: ReadonlySet<number>;
  /** This process, and those of its descriptors that keep the mounts themselves. */
  readonly self: string;
  readonly own: ReadonlySet<number>;
}

/** What this process can know of them. */
export function hiddenMounts(
  names: ReadonlyMap<string, string>,
  own: readonly number[],
): HiddenMounts {
  const visible = new Set(mounts().map(({ id }) => id));
  return { names, visible, self: readLink("/proc/self"), own: new Set(own) };
}

/** No file of a disk's: devices, and what the kernel makes up. */
const ELSEWHERE = /^(?!\/)|^\/(dev|proc|sys)\//;

/** The names of the devices of which process `pid` uses a file. `links`: of its descriptors. */
export async function hiddenUses(
  pid: string,
  links: ReadonlyMap<string, string>,
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
    if (ELSEWHERE.test(link) || pid === self && own.has(Number(fd))) continue;
    // Without a look at the file itself, which may be at the other end of a dead network.
    const info = ifAllowed(() => readText(`/proc/${pid}/fdinfo/${fd}`));
    const mount = /^mnt_id:\s*(\d+)$/m.exec(info ?? "")?.[1];
    if (mount === undefined || visible.has(Number(mount))) continue;
    await look(`fd/${fd}`);
  }
  for (const name of ["cwd", "root", "exe"]) await look(name);
  return used;
}

/** `undefined` also for what this process may not see. */
export function ifAllowed<T>(look: () => T): T | undefined {
  try {
    return ifExists(look);
  } catch (error) {
    if (isRefusal(error, "EACCES", "EPERM", "ESRCH")) return undefined;
    throw error;
  }
}
