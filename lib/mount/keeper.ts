/**
 * The keeper: a shell that unmounts what this process leaves behind, however it ends.
 *
 * A mount on a directory outlives its process: the kernel has no AUTOCLEAR for mounts. So before its
 * first mount this process starts the keeper, and holds the only write end of a pipe that the keeper
 * reads. When this process ends, the pipe ends. The keeper then unmounts what the records name, the last
 * mount first.
 *
 * The records are empty files in a directory of this process's own; their names say everything:
 *
 *     /run/loopdev/1234-4026531841-k3v9x0q2mz/ flock()ed by this process and by its keeper
 *       .000001.87.directory.loop4p2           mount 87, of /dev/loop4p2, on the directory below
 *       .000002.91.at-5f3a90c1-2147483731.loop4p1    mount 91, of /dev/loop4p1, on a directory of the
 *                                              user's, since the boot 5f3a90c1: /run may outlive a boot.
 *                                              Its unique number, from Linux 6.8 on
 *       .frozen-000001                         freeze() has frozen mount 87
 *       .000003.95.owned-5f3a90c1-2147483739.loop4p3    mount 95, of /dev/loop4p3, which is a user's
 *       loop4p2-000001/                        where mount 87 lies
 *       .left                                  mounts on directories of the user's are to stay
 *     /run/loopdev-owned/1234-4026531841-k3v9x0q2mz-000003/    the user's, whom alone it lets in
 *       loop4p3/                               where mount 95 lies
 *
 * Where process and keeper are killed at once, the lock is free. The next mount() of any process takes it
 * and starts a keeper for what is left. The lock says that the owner lives, and not its pid: the owner
 * may be in another PID namespace.
 *
 * The second number is the owner's mount namespace. A keeper sees the mounts of its own namespace alone, and
 * rmdir() of a directory on which something is mounted in another namespace succeeds, and unmounts it there.
 * So a keeper takes over only from owners of its own namespace, and of those that have no process any more.
 *
 * The kernel gives a mount the lowest number that is free, and a loop device likewise: both of a mount that has
 * ended can be those of somebody's mount by the time that its record is taken over. So "ended" replaces the number
 * in the records of a namespace that is gone, and of unique numbers that no mount has. An owner that lives, and the
 * keeper that it started, need not ask: until the owner ends, its descriptors keep the number from being given again.
 *
 * @module
 */
import { isRefusal, LoopError, unlessRefused } from "../base/errors.ts";
import {
  makeDirectory,
  makeEmptyFile,
  openDirectory,
  removeDirectory,
  removeFile,
} from "../kernel/directory.ts";
import {
  check,
  ifExists,
  listDirectory,
  type OpenFile,
  readLink,
  readText,
} from "../kernel/file.ts";
import { LOCK_EX, tryFlock } from "../kernel/flock.ts";
import { hasReader } from "../kernel/program.ts";
import { fileStatus } from "../kernel/stat.ts";
import { mayBeMounted, uniqueMountIdOf } from "../kernel/unique_mount.ts";
import { startHelper } from "./helper.ts";
import { KEEPER_SCRIPT } from "./keeper_script.ts";
import { livingNamespaces, mountNamespace } from "./namespaces.ts";
import type { Owner } from "./owner.ts";
import { ALL_USERS, makeUserDirectory, namesIn, type UserDirectory } from "./user_directory.ts";

/** The directories of all owners. With systemd /run is in memory, and empty at each boot. */
const ALL_OWNERS = "/run/loopdev";
const OWNER = /^\d+-(\d+)-[0-9a-z]{10}$/;
/** What addRecord() makes for a mount. */
const FOLDER = /-\d{6}$/;
/** A mount's record: its own number, the mount's, and in the rest the mount's unique one. */
const RECORD = /^(\.\d+)\.\d+(\.\w+(?:-\w+-(\d+))?.*)$/;
/** As many descriptors one shell inherits: the usual limit of a process is 1024. */
const MOST_LEFT = 32;
const MOST_TRIES = 16;

const WITHOUT_KEEPER = "or mount with detached: true (Linux 6.15), which needs no keeper";
const NEEDS =
  "mount() starts a shell, the keeper, which unmounts if this process is killed; it needs " +
  `umount, rm and rmdir: install what is missing, ${WITHOUT_KEEPER}`;

/** Where this process's mounts lie, and the shell that unmounts them. */
export class Keeper {
  /** "/run/loopdev/1234-4026531841-k3v9x0q2mz" */
  readonly path: string;
  /** Locked. */
  readonly #directory: OpenFile;
  readonly #all: OpenFile;
  #pipe: OpenFile | undefined;
  #starting: Promise<void> | undefined;
  #records = 0;
  readonly #namespace = mountNamespace();
  /** Names of directories without an owner, of namespaces that may live. */
  readonly #foreign = new Set<string>();

  private constructor(all: OpenFile, directory: OpenFile) {
    this.#all = all;
    this.#directory = directory;
    this.path = directory.path;
  }

  /** This process's keeper, started if it does not run. Starts others for what ended owners left. */
  static async ensure(): Promise<Keeper> {
    const keeper = current = current && current.#isThere ? current : Keeper.#make();
    keeper.#adoptAll();
    // The keeper may have been killed.
    if (!keeper.#pipe || !hasReader(keeper.#pipe)) await (keeper.#starting ??= keeper.#start());
    return keeper;
  }

  /** False where somebody has cleared /run. It stays open for the records of the mounts that there were. */
  get #isThere(): boolean {
    return fileStatus(this.#directory).links > 0;
  }

  static #make(): Keeper {
    const all = openAllOwners();
    try {
      return new Keeper(all, makeOwner(all));
    } catch (error) {
      all.close();
      throw error;
    }
  }

  async #start(): Promise<void> {
    try {
      this.#pipe?.close();
      // If the start fails there is no keeper, and the next mount() tries again.
      this.#pipe = undefined;
      this.#pipe = await startKeeper([this.#directory]);
    } finally {
      this.#starting = undefined;
    }
  }

  /**
   * Makes the record of mount `id`, and a directory for it to lie on: where `user` and root may enter, or
   * without a user root alone. `kind` "at": it lies on none of ours.
   */
  addRecord(mount: OpenFile, id: number, kind: "directory" | "at", user?: Owner): MountRecord {
    const { path: device } = mount;
    const parent = this.#directory;
    const number = `${++this.#records}`.padStart(6, "0");
    const name = device.slice(device.lastIndexOf("/") + 1);
    // Who has the directory above a mount can rename it: only its numbers and the boot say which mount is meant.
    const numbers = () => [bootId(), uniqueMountIdOf(mount) ?? []].flat().join("-");
    const where = kind === "at" ? `at-${numbers()}` : user ? `owned-${numbers()}` : kind;
    const record = `.${number}.${id}.${where}.${name}`;
    makeEmptyFile(record, parent);
    let wasFrozen = false;
    let directory: RecordDirectory | undefined;
    try {
      directory = kind === "at" ? undefined : this.#makeDirectory({ name, number, user });
    } catch (error) {
      removeFile(record, parent);
      throw error;
    }
    return {
      directory,
      setFrozen(isFrozen) {
        removeFile(`.frozen-${number}`, parent);
        wasFrozen ||= isFrozen;
        if (isFrozen) makeEmptyFile(`.frozen-${number}`, parent);
      },
      async remove(isFolderGone) {
        // A directory on which others have mounted something stays, and its record with it.
        if (directory && !await directory.remove(isFolderGone)) return;
        // Where a thaw failed.
        if (wasFrozen) removeFile(`.frozen-${number}`, parent);
        removeFile(record, parent);
      },
    };
  }

  #makeDirectory(
    { name, number, user }: { name: string; number: string; user: Owner | undefined },
  ): RecordDirectory {
    const parent = this.#directory;
    if (user) {
      const folder = `${this.path.slice(ALL_OWNERS.length + 1)}-${number}`;
      return { ...makeUserDirectory(user, folder, name), folder: name };
    }
    const folder = `${name}-${number}`;
    check(makeDirectory(folder, parent), "mkdir", `${this.path}/${folder}`);
    const remove = async (isGone = false) => isGone || await removeDirectory(folder, parent);
    return { parent, folder, remove };
  }

  /**
   * Whether all mounts on directories of the user's outlive this process. One call says it of all: whatever
   * ends this process, either all of them are unmounted or none.
   */
  setLeft(isLeft: boolean): void {
    if (isLeft) makeEmptyFile(".left", this.#directory);
    else removeFile(".left", this.#directory);
  }

  /** Adopts every directory without an owner. One that cannot be read does not stop a mount(). */
  #adoptAll(): void {
    const left: Left[] = [];
    try {
      let living: ReturnType<typeof livingNamespaces> | undefined;
      // Listed before the living are: whose directory is here and whose namespace lives is among them.
      for (const name of listDirectory(ALL_OWNERS)) {
        const namespace = OWNER.exec(name)?.[1];
        if (!namespace || this.path.endsWith(`/${name}`) || this.#foreign.has(name)) continue;
        const directory = openLocked(name, this.#all);
        if (!directory) continue;
        const isOurs = namespace === this.#namespace;
        if (isOurs || isGone(namespace, living ??= livingNamespaces())) {
          left.push({ directory, isOver: !isOurs });
        } else {
          directory.close();
          // A look at each process of the machine is not for every mount().
          this.#foreign.add(name);
        }
      }
    } catch (error) {
      if (!isRefusal(error)) throw error;
    } finally {
      if (left.length > 0) this.#adopt(left).catch(() => {});
    }
  }

  /**
   * Removes locked directories that have no record, and starts a keeper for the others. Its pipe has ended, so
   * it unmounts at once, even while this process runs nothing but a loop of its own.
   */
  async #adopt(left: readonly Left[]): Promise<void> {
    try {
      const { recorded = [], unused = [] } = Object.groupBy(
        left.filter(forgetNumbers).map(({ directory }) => directory),
        (directory) => namesIn(directory)?.some(isFile) ?? true ? "recorded" : "unused",
      );
      const starts: Promise<unknown>[] = [];
      for (let at = 0; at < recorded.length; at += MOST_LEFT) {
        // That keeper inherits the locks, and holds them until it ends.
        starts.push(startKeeper(recorded.slice(at, at + MOST_LEFT), true));
      }
      await Promise.allSettled([...starts, this.#removeUnused(unused)]);
    } finally {
      for (const { directory } of left) directory.close();
    }
  }

  /** rmdir() alone: it fails on what is not empty, and on what something is mounted on. */
  async #removeUnused(unused: readonly OpenFile[]): Promise<void> {
    for (const directory of unused) {
      for (const name of namesIn(directory) ?? []) {
        if (FOLDER.test(name)) await removeDirectory(name, directory);
      }
      await removeDirectory(directory.path.slice(ALL_OWNERS.length + 1), this.#all);
    }
  }
}

/**
 * Takes the numbers of mounts that have ended out of their records, since the kernel may have given them to others:
 * those of a namespace that is gone, and those whose unique number nothing here has. Whether it could.
 */
function forgetNumbers({ directory, isOver }: Left): boolean {
  return unlessRefused(() => {
    for (const name of directory.call((fd) => listDirectory(`/proc/self/fd/${fd}`))) {
      const ended = name.replace(RECORD, (record, number, rest, unique) => {
        const mayLive = !isOver && (unique === undefined || mayBeMounted(BigInt(unique)));
        return mayLive ? record : `${number}.ended${rest}`;
      });
      if (ended === name) continue;
      removeFile(name, directory);
      makeEmptyFile(ended, directory);
    }
    return true;
  }) === true;
}

function isGone(namespace: string, living: ReturnType<typeof livingNamespaces>): boolean {
  return living !== "unknown" && !living.has(namespace);
}

/** A record, or what else the keeper's script removes. */
const isFile = (name: string) => name.startsWith(".");

/** The first eight digits of this boot's id. */
const bootId = () => readText("/proc/sys/kernel/random/boot_id").slice(0, 8);

/** The directory of an owner that has ended, locked. */
interface Left {
  readonly directory: OpenFile;
  /** Whether its mount namespace is gone, and each of its mounts with it. */
  readonly isOver: boolean;
}

/** What the keeper knows of a mount. */
interface MountRecord {
  /** What was made for the mount to lie on; undefined: it lies on a directory of the user's. */
  readonly directory: RecordDirectory | undefined;
  /** Whether the mount must be thawed before its end. */
  setFrozen(isFrozen: boolean): void;
  /** Removes both, after the mount's end. `isFolderGone`: the directory has been removed already. */
  remove(isFolderGone?: boolean): Promise<void>;
}

/** The directory `folder` in `parent`. */
interface RecordDirectory extends UserDirectory {
  readonly folder: string;
}

let current: Keeper | undefined;

/** Makes /run/loopdev, or checks that nobody but us can enter the one that is there. */
function openAllOwners(): OpenFile {
  const made = makeDirectory(ALL_OWNERS);
  let all: OpenFile | undefined;
  try {
    all = openDirectory(ALL_OWNERS);
    const { uid, mode } = fileStatus(all);
    if (uid === fileStatus("/proc/self").uid && (mode & 0o077) === 0) return all;
  } catch (error) {
    all?.close();
    // Why mkdir() failed says more than that the directory is not there.
    checkMade(made, ALL_OWNERS);
    throw error;
  }
  all.close();
  const hint = "others may enter or own this directory, in which mounts lie: " +
    `chown root ${ALL_OWNERS} && chmod 700 ${ALL_OWNERS}`;
  throw new LoopError({ code: "EPERM", path: ALL_OWNERS, hint });
}

function checkMade(result: number, path: string): void {
  if (result >= 0) return;
  const hint =
    `mounts lie below ${ALL_OWNERS}, where root must be able to make directories: is /run ` +
    `there and writable? Else mount a tmpfs there, ${WITHOUT_KEEPER}`;
  throw new LoopError({ code: -result, syscall: "mkdir", path, hint });
}

/** A new directory, locked. */
function makeOwner(all: OpenFile): OpenFile {
  for (let tries = 1;; tries++) {
    const name = `${readLink("/proc/self")}-${mountNamespace()}-${randomName()}`;
    checkMade(makeDirectory(name, all), `${ALL_OWNERS}/${name}`);
    // Between mkdir() and flock() another process may adopt it, empty as it is, and remove it.
    const directory = openLocked(name, all);
    if (directory) return directory;
    if (tries === MOST_TRIES) {
      throw new LoopError({ code: "EAGAIN", syscall: "flock", path: `${ALL_OWNERS}/${name}` });
    }
  }
}

/** Opens an owner's directory and locks it; undefined: it is gone, or somebody has the lock. */
function openLocked(name: string, all: OpenFile): OpenFile | undefined {
  const directory = ifExists(() => openDirectory(name, all));
  let isLocked = false;
  try {
    isLocked = directory !== undefined && tryFlock(directory, LOCK_EX) &&
      fileStatus(directory).links > 0;
    return isLocked ? directory : undefined;
  } finally {
    if (!isLocked) directory?.close();
  }
}

const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz";

/** Ten letters and digits: 51 bits, which nobody guesses. */
export function randomName(): string {
  const random = crypto.getRandomValues(new Uint32Array(10));
  return [...random].map((number) => DIGITS[number % DIGITS.length]).join("");
}

/** Starts a keeper for directories that we have locked. Resolves to the pipe's write end. */
function startKeeper(directories: readonly OpenFile[], isEnded = false): Promise<OpenFile> {
  return startHelper({
    isEnded,
    text: KEEPER_SCRIPT,
    name: "loopdev-keeper",
    args: [ALL_USERS, ...directories.map(({ path }) => path)],
    files: directories,
    tool: "umount",
    needs: NEEDS,
  });
}
