/**
 * Where a mount lies: on a directory made for it, on one of the user's, or below a descriptor of this
 * process.
 *
 * @module
 */
import { isErrno, isRefusal, LoopError } from "../base/errors.ts";
import { whyNotPermitted } from "../kernel/capabilities.ts";
import { uninterruptedOnThread } from "../kernel/chain.ts";
import { makeDirectory } from "../kernel/directory.ts";
import {
  AT_FDCWD,
  check,
  cString,
  ifExists,
  O_CLOEXEC,
  O_PATH,
  OpenFile,
  readLink,
} from "../kernel/file.ts";
import { type Folder, makeHolder, moveMount, moveMountOnto } from "../kernel/mount.ts";
import { mounts } from "../kernel/mountinfo.ts";
import { fileStatus, mountIdOf } from "../kernel/stat.ts";
import { kernelRelease } from "../kernel/release.ts";
import { type Keeper, randomName } from "./keeper.ts";
import type { Owner } from "./owner.ts";

/** Where a mount lies. */
export interface Place {
  /** Its root directory. */
  readonly path: string;
  /** Its id in mountinfo; undefined: no mountinfo has it. */
  readonly id: number | undefined;
  /** The mount that it lies on, which ends with this descriptor. */
  readonly holder: OpenFile | undefined;
  /** Has the keeper's records say whether it is frozen. */
  setFrozen(isFrozen: boolean): void;
  /** The directory on which it lies, if that was made for it. */
  readonly folder?: Folder;
  /** Removes what was made for the mount, after its end. `isFolderGone`: that directory is gone already. */
  remove(isFolderGone?: boolean): Promise<void>;
}

/** On a directory of the user's. */
export async function placeAt(
  mount: OpenFile,
  at: string,
  keeper: Keeper,
  directoryMode?: number,
): Promise<Place> {
  if (directoryMode !== undefined) makeDirectories(at, directoryMode);
  using directory = await openDirectory(at);
  const around = mountIdOf(directory);
  if (!mounts().some(({ id }) => id === around)) {
    const hint =
      "at: it lies in a mount that no list shows, below which nothing could be unmounted " +
      "again: mount the outer one without detached";
    throw new LoopError({ code: "EINVAL", path: at, hint });
  }
  return await placeKept(mount, keeper, { directory });
}

/** As mkdir -p does. Errors are not looked at here: opening the directory tells them. */
function makeDirectories(path: string, mode: number): void {
  const ends = [...path.matchAll(/[^/]+/g)].map(({ index, 0: { length } }) => index + length);
  for (const end of ends) makeDirectory(path.slice(0, end), undefined, mode);
}

/**
 * Where the keeper ends it: on `directory`, or on one that is made for it, below /run/loopdev or, for a
 * user, below /run/loopdev-owned.
 */
export async function placeKept(
  mount: OpenFile,
  keeper: Keeper,
  { directory, user }: { directory?: OpenFile; user?: Owner } = {},
): Promise<Place> {
  const id = mountIdOf(mount);
  // Before the move: a failure after it would leave the mount there.
  const path = directory?.call((fd) => readLink(`/proc/self/fd/${fd}`));
  const kind = directory ? "at" : "directory";
  const { directory: made, setFrozen, remove } = keeper.addRecord(mount, id, kind, user);
  try {
    if (made) moveMount(mount, made);
    else await moveMountOnto(mount, directory!);
  } catch (error) {
    await remove();
    if (!isRefusal(error, "EPERM", "EINVAL")) throw error;
    throw error.withHint(
      error.code === "EPERM"
        ? whyNotPermitted("mounting", "CAP_SYS_ADMIN")
        : "nothing can be mounted there: perhaps it lies in another mount namespace",
    );
  }
  return {
    path: path ?? `${made!.parent.path}/${made!.folder}`,
    id,
    holder: undefined,
    folder: made,
    setFrozen,
    remove,
  };
}

function moveNowhere(mount: OpenFile, folder: Folder): void {
  try {
    moveMount(mount, folder, mount.path);
  } catch (error) {
    if (!isRefusal(error, "EINVAL")) throw error;
    throw error.withHint(
      `detached: true needs Linux 6.15 or later, and this is ${kernelRelease()}: leave it out, and ` +
        "the mount lies on a directory of its own and ends with this process, too",
    );
  }
}

/** Opens the directory on another thread: it may lie on a network that does not answer. */
async function openDirectory(path: string): Promise<OpenFile> {
  const flags = O_PATH | O_CLOEXEC;
  const fd = await uninterruptedOnThread("openat", AT_FDCWD, cString(path), flags, 0);
  if (isErrno(fd, "ENOENT")) {
    const hint = "at: make the directory first";
    throw new LoopError({ code: "ENOENT", syscall: "open", path, hint });
  }
  const directory = new OpenFile(check(fd, "open", path), path);
  try {
    if (fileStatus(directory).type === "directory") return directory;
    throw new LoopError({ code: "ENOTDIR", path, hint: "at: it is no directory" });
  } catch (error) {
    directory.close();
    throw error;
  }
}

/**
 * In no mount namespace: on a directory of a second mount, the holder, which is not attached either
 * (Linux 6.15). The kernel names the root of an unattached mount "/", which realpath(3) takes for the
 * host's root. The mount therefore lies two levels below, at "/RANDOM/loop4p2", which the host does not
 * have. One level is not enough: readlink -f accepts a name whose last part is missing. A random name
 * also keeps the path from leading elsewhere when the descriptor's number is used again.
 */
export async function placeNowhere(mount: OpenFile): Promise<Place> {
  const device = mount.path.slice(mount.path.lastIndexOf("/") + 1);
  const names = [`${randomName()}${randomName()}`, device] as const;
  const name = names.join("/");
  const holder = await makeHolder(names, mount.path);
  try {
    moveNowhere(mount, { parent: holder, folder: name });
    const path = holder.call((fd) => `/proc/${readLink("/proc/self")}/fd/${fd}/${name}`);
    const [there, root] = [ifExists(() => fileStatus(path)), fileStatus(mount)];
    if (there?.dev === root.dev && there.inode === root.inode) {
      return { path, id: undefined, holder, setFrozen() {}, remove: () => Promise.resolve() };
    }
    const hint = "is proc mounted on /proc? The files of a detached mount are found through it";
    throw new LoopError({ code: "ENOENT", path, hint });
  } catch (error) {
    holder.close();
    throw error;
  }
}
