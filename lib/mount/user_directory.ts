/**
 * Where a user's mount lies: /run/loopdev-owned/1234-4026531841-k3v9x0q2mz-000003/loop4p3. Root's are below
 * /run/loopdev, which nobody else may enter.
 *
 * Everybody may pass /run/loopdev-owned, and only root lists it and makes something in it. The directory
 * below it belongs to the user (0500), so he and root alone get to the mount.
 *
 * @module
 */
import { isRefusal, LoopError, toExplain, withMore } from "../base/errors.ts";
import {
  giveDirectory,
  makeDirectory,
  openDirectory,
  removeDirectory,
  removeNewDirectory,
} from "../kernel/directory.ts";
import { check, listDirectory, type OpenFile } from "../kernel/file.ts";
import { fileStatus } from "../kernel/stat.ts";
import { type Owner, WITHOUT_CAPABILITY } from "./owner.ts";

/** The keeper looks there, too. */
export const ALL_USERS = "/run/loopdev-owned";

export interface UserDirectory {
  /** The user's directory, in which `name` is. */
  readonly parent: OpenFile;
  /**
   * Whether the directory for the mount is gone. What the user himself has put beside it stays.
   * `isGone`: it has been removed already.
   */
  remove(isGone?: boolean): Promise<boolean>;
}

/** Makes the directory `name` in `folder`, which becomes the user's. */
export function makeUserDirectory(user: Owner, folder: string, name: string): UserDirectory {
  const all = openAllUsers();
  const path = `${ALL_USERS}/${folder}`;
  let isMade = false;
  let parent: OpenFile | undefined;
  try {
    check(makeDirectory(folder, all), "mkdir", path);
    isMade = true;
    parent = openDirectory(folder, all);
    giveDirectory(parent, user, 0o500);
    // The last step: root without CAP_DAC_OVERRIDE neither makes nor removes anything in the user's directory.
    check(makeDirectory(name, parent), "mkdir", `${path}/${name}`);
  } catch (error) {
    parent?.close();
    const isGone = !isMade || removeNewDirectory(folder, all);
    all.close();
    const told = isRefusal(error, "EPERM", "EACCES") ? error.withHint(WITHOUT_CAPABILITY) : error;
    throw isGone ? told : withMore(told, `${path} is left: rm -r ${path}`);
  }
  const own = parent;
  return {
    parent: own,
    async remove(isGone) {
      using user = own;
      using everybody = all;
      if (!isGone && !await removeDirectory(name, user)) return false;
      return await removeDirectory(folder, everybody) || !isEmpty(user);
    },
  };
}

/** What is in it; undefined: that cannot be asked. */
export function namesIn(directory: OpenFile): string[] | undefined {
  return toExplain(() => directory.call((fd) => listDirectory(`/proc/self/fd/${fd}`)));
}

/** Whether nothing is in it, as far as that can be asked. What the user has put there is the user's. */
function isEmpty(directory: OpenFile): boolean {
  const names = namesIn(directory);
  return names === undefined || names.length === 0;
}

function openAllUsers(): OpenFile {
  makeDirectory(ALL_USERS);
  const all = openDirectory(ALL_USERS);
  try {
    const { uid, gid, mode } = fileStatus(all);
    const self = fileStatus("/proc/self");
    if (uid === self.uid && (mode & 0o022) === 0) {
      // The umask decides of a new directory's mode.
      if (mode !== 0o711) giveDirectory(all, { uid, gid }, 0o711);
      return all;
    }
    const hint = "others own this directory or may write to it, and users' mounts lie in it: " +
      `chown root ${ALL_USERS} && chmod 711 ${ALL_USERS}`;
    throw new LoopError({ code: "EPERM", path: ALL_USERS, hint });
  } catch (error) {
    all.close();
    throw error;
  }
}
