/**
 * Where a mount lies, in one of three forms: on a directory made for it, on one of the user's, or where
 * only this process's descriptor leads to. In none of them does a path lead out of the mount.
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
import { makeHolder, moveMount } from "../kernel/mount.ts";
import { mounts } from "../kernel/mountinfo.ts";
import { fileStatus, mountIdOf } from "../kernel/stat.ts";
import { kernelRelease } from "../kernel/release.ts";
import { type Keeper, type MountRecord, randomName } from "./keeper.ts";

/** Where a mount lies. */
export interface Place {
  /** To its root directory. */
  readonly path: string;
  /** Its number in the list of mounts; undefined: it is in none. */
  readonly id: number | undefined;
  /** The mount that it lies in, which ends with its descriptor. */
  readonly holder: OpenFile | undefined;
  /** When the mount is gone: what was made for it. */
  remove(): Promise<void>;
}

/** On a directory of its own below /run/loopdev, removed after it. */
export async function placeOnOwnDirectory(mount: OpenFile, keeper: Keeper): Promise<Place> {
  const id = mountIdOf(mount);
  const record = keeper.record(mount.path, id, "directory");
  const { parent, folder } = record;
  await moved(mount, record, parent, folder);
  return { path: `${parent.path}/${folder}`, id, holder: undefined, remove: record.remove };
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
      "at: it lies in a mount that no list shows, from which no other one could be taken " +
      "again: mount the outer one without detached";
    throw new LoopError({ code: "EINVAL", syscall: "move_mount", path: at, hint });
  }
  const id = mountIdOf(mount);
  // Before the move: what fails behind it would leave the mount there.
  const path = directory.call((fd) => readLink(`/proc/self/fd/${fd}`));
  const record = keeper.record(mount.path, id, "at");
  await moved(mount, record, directory);
  return { path, id, holder: undefined, remove: record.remove };
}

/** As mkdir -p does: what is there is left as it is, and is judged when it is opened. */
function makeDirectories(path: string, mode: number): void {
  const ends = [...path.matchAll(/[^/]+/g)].map(({ index, 0: { length } }) => index + length);
  for (const end of ends) makeDirectory(path.slice(0, end), undefined, mode);
}

async function moved(
  mount: OpenFile,
  record: MountRecord,
  directory: OpenFile,
  name?: string,
): Promise<void> {
  try {
    await moveMount(mount, directory, name);
  } catch (error) {
    await record.remove();
    if (!isRefusal(error, "EPERM", "EINVAL")) throw error;
    throw error.withHint(
      error.code === "EPERM"
        ? whyNotPermitted("mounting", "CAP_SYS_ADMIN")
        : "nothing can be mounted there: perhaps it lies in another mount namespace",
    );
  }
}

/** The directory itself, whatever it is renamed to. By another thread: it may lie on a dead network. */
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
  } catch (error) {
    directory.close();
    throw error;
  }
  directory.close();
  throw new LoopError({ code: "ENOTDIR", syscall: "open", path, hint: "at: it is no directory" });
}

/**
 * In no namespace: on a directory of a second mount that has no place itself (Linux 6.15). The root of a
 * mount without a place is called "/": realpath(3) takes it for the host's. Two levels below, the name is
 * "/RANDOM/loop4p2", which nothing on the host has; one level would not do, since readlink -f lets the
 * last name be missing. After the end no other file has the path either, even if the descriptor's number
 * is given away.
 */
export async function placeNowhere(mount: OpenFile): Promise<Place> {
  const device = mount.path.slice(mount.path.lastIndexOf("/") + 1);
  const names = [`${randomName()}${randomName()}`, device] as const;
  const name = names.join("/");
  const holder = await makeHolder(names, mount.path);
  try {
    await moveMount(mount, holder, name, mount.path).catch((error) => {
      if (!isRefusal(error, "EINVAL")) throw error;
      throw error.withHint(
        `detached: true takes Linux 6.15 or later, and this is ${kernelRelease()}: leave it out, and ` +
          "the mount lies on a directory of its own and ends with this process, too",
      );
    });
    const path = holder.call((fd) => `/proc/${readLink("/proc/self")}/fd/${fd}/${name}`);
    const [there, root] = [ifExists(() => fileStatus(path)), fileStatus(mount)];
    if (there?.dev === root.dev && there.inode === root.inode) {
      return { path, id: undefined, holder, remove: () => Promise.resolve() };
    }
    const hint = "is proc mounted on /proc? The files of a detached mount are found through it";
    throw new LoopError({ code: "ENOENT", syscall: "open", path, hint });
  } catch (error) {
    holder.close();
    throw error;
  }
}
