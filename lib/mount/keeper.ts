/**
 * The keeper: a process that unmounts what this one leaves behind, whatever ends it.
 *
 * A mount on a directory outlives its process: the kernel has no AUTOCLEAR for mounts. So before its
 * first mount this process starts another one, a shell, and holds the only write end of a pipe that
 * the shell reads. However this process ends, the pipe ends with it; the shell then unmounts what the
 * records say, the last mount first.
 *
 * The records are empty files, whose names say it all, in a directory of this process's own:
 *
 *     /run/loopdev/1234-k3v9x0q2mz/            locked with flock(2) by its process and by its keeper
 *       .000001.87.directory.loop4p2           mount 87 of /dev/loop4p2, on the directory beside it
 *       .000002.91.at-5f3a90c1.loop4p1         mount 91 of /dev/loop4p1, on a directory of the user's;
 *                                              of this boot, since /run may outlive one
 *       loop4p2-000001/                        where the first one lies
 *
 * Where both die at once, nobody has the lock any more. The next mount() of any process takes the lock
 * over and starts a keeper for what is left. A process that is only in another PID namespace still has
 * its lock: that is why the owner is not looked up by its pid.
 *
 * @module
 */
import { isRefusal, LoopError } from "../base/errors.ts";
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
import { hasReader, pipe, runScript } from "../kernel/program.ts";
import { fileStatus } from "../kernel/stat.ts";
import { KEEPER_SCRIPT } from "./keeper_script.ts";

/** All owners' directories. On systems with systemd /run is in memory, and empty at each boot. */
const ALL_OWNERS = "/run/loopdev";
const OWNER = /^\d+-[0-9a-z]{10}$/;
const SHELL = "/bin/sh";
/** Not the user's own: it may name folders of others, and this runs as root. */
const TOOLS = "PATH=/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";
const MOST_TRIES = 16;

const WITHOUT_KEEPER = "or mount with detached: true (Linux 6.15), which needs no keeper";
const NEEDS_SHELL =
  "mount() starts a shell, the keeper, which unmounts if this process is killed: " +
  `install what is missing, ${WITHOUT_KEEPER}`;
/** The script's exit code where a tool of it is missing. */
const WITHOUT_TOOLS = 127;

/** Where this process's mounts lie, and what ends them if it cannot. */
export class Keeper {
  /** "/run/loopdev/1234-k3v9x0q2mz" */
  readonly path: string;
  /** Locked: whoever gets the lock may take away what is here. */
  readonly #directory: OpenFile;
  readonly #all: OpenFile;
  #pipe: OpenFile | undefined;
  #starting: Promise<void> | undefined;
  #records = 0;

  private constructor(all: OpenFile, directory: OpenFile) {
    this.#all = all;
    this.#directory = directory;
    this.path = directory.path;
  }

  /** This process's; one that watches. Takes away what others have left. */
  static async ready(): Promise<Keeper> {
    const keeper = current ??= Keeper.#begin();
    keeper.#sweep();
    // Somebody may have killed the keeper.
    if (!keeper.#pipe || !hasReader(keeper.#pipe)) await (keeper.#starting ??= keeper.#watch());
    return keeper;
  }

  static #begin(): Keeper {
    const all = openAllOwners();
    try {
      return new Keeper(all, makeOwner(all));
    } catch (error) {
      all.close();
      throw error;
    }
  }

  async #watch(): Promise<void> {
    try {
      this.#pipe?.close();
      // Without a keeper until another one has begun.
      this.#pipe = undefined;
      this.#pipe = await startKeeper(this.#directory);
    } finally {
      this.#starting = undefined;
    }
  }

  /** A record of mount `id` of a device, and, unless it lies on a directory of the user's, one of ours. */
  record(device: string, id: number, kind: "directory" | "at"): MountRecord {
    const parent = this.#directory;
    const number = `${++this.#records}`.padStart(6, "0");
    const name = device.slice(device.lastIndexOf("/") + 1);
    const record = `.${number}.${id}.${kind === "at" ? `at-${bootId()}` : kind}.${name}`;
    const folder = kind === "directory" ? `${name}-${number}` : undefined;
    makeEmptyFile(record, parent);
    if (folder !== undefined) {
      const made = makeDirectory(folder, parent);
      if (made < 0) removeFile(record, parent);
      check(made, "mkdir", `${this.path}/${folder}`);
    }
    return {
      folder,
      parent,
      async remove() {
        // One that is in use as somebody's mount point keeps its record, for who comes after us.
        if (folder === undefined || await removeDirectory(folder, parent)) {
          removeFile(record, parent);
        }
      },
    };
  }

  /** Starts a keeper for each owner that has none any more. What cannot be looked at keeps nobody waiting. */
  #sweep(): void {
    try {
      const names = listDirectory(ALL_OWNERS).filter((name) => OWNER.test(name));
      for (const name of names) if (!this.path.endsWith(name)) this.#takeOver(name);
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
  }

  /** Starts a keeper, which finds the pipe at its end; not while the owner or its keeper lives. */
  #takeOver(name: string): void {
    const left = ifExists(() => openDirectory(name, this.#all));
    if (!left) return;
    try {
      if (!tryFlock(left, LOCK_EX)) return left.close();
    } catch (error) {
      left.close();
      throw error;
    }
    // The lock is handed on: what we close here stays locked until that keeper has ended.
    startKeeper(left).then((writeEnd) => writeEnd.close(), () => {}).finally(() => left.close());
  }
}

/** The first eight digits of this boot's name. */
const bootId = () => readText("/proc/sys/kernel/random/boot_id").slice(0, 8);

/** What the keeper knows of a mount. */
export interface MountRecord {
  /** A directory of the mount's own below `parent`; undefined: it lies on one of the user's. */
  readonly folder: string | undefined;
  readonly parent: OpenFile;
  /** When the mount is gone. */
  remove(): Promise<void>;
}

let current: Keeper | undefined;

/** Makes /run/loopdev, or looks whether it is what we would have made. */
function openAllOwners(): OpenFile {
  const made = makeDirectory(ALL_OWNERS);
  let all: OpenFile | undefined;
  try {
    all = openDirectory(ALL_OWNERS);
    const { uid, mode } = fileStatus(all);
    if (uid === fileStatus("/proc/self").uid && (mode & 0o077) === 0) return all;
  } catch (error) {
    all?.close();
    // Why it could not be made says more than that it is not there.
    checkMade(made, ALL_OWNERS);
    throw error;
  }
  all.close();
  const hint = "others may enter or own this directory, in which mounts lie: " +
    `chown root ${ALL_OWNERS} && chmod 700 ${ALL_OWNERS}`;
  throw new LoopError({ code: "EPERM", syscall: "mkdir", path: ALL_OWNERS, hint });
}

function checkMade(result: number, path: string): void {
  if (result >= 0) return;
  const hint =
    `mounts lie below ${ALL_OWNERS}, where root must be able to make directories: is /run ` +
    `there and writable? Else mount a tmpfs there, ${WITHOUT_KEEPER}`;
  throw new LoopError({ code: -result, syscall: "mkdir", path, hint });
}

/** A new directory that nobody else takes for one that was left. */
function makeOwner(all: OpenFile): OpenFile {
  for (let tries = 1;; tries++) {
    const name = `${readLink("/proc/self")}-${randomName()}`;
    checkMade(makeDirectory(name, all), `${ALL_OWNERS}/${name}`);
    const directory = ifExists(() => openDirectory(name, all));
    try {
      // Until it is locked another process may find it, empty, and remove it.
      if (directory && tryFlock(directory, LOCK_EX) && fileStatus(directory).links > 0) {
        return directory;
      }
    } catch (error) {
      directory?.close();
      throw error;
    }
    directory?.close();
    if (tries === MOST_TRIES) {
      throw new LoopError({ code: "EAGAIN", syscall: "flock", path: `${ALL_OWNERS}/${name}` });
    }
  }
}

const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz";

/** Ten letters and digits: 51 bits that nobody can guess. */
export function randomName(): string {
  const random = crypto.getRandomValues(new Uint32Array(10));
  return [...random].map((number) => DIGITS[number % DIGITS.length]).join("");
}

/** Starts a keeper for a directory that we have locked; what it gives is the pipe's write end. */
async function startKeeper(directory: OpenFile): Promise<OpenFile> {
  const { readEnd, writeEnd } = pipe("the keeper's pipe");
  try {
    using pipe = readEnd;
    const status = await runScript({
      path: SHELL,
      text: KEEPER_SCRIPT,
      name: "loopdev-keeper",
      args: [directory.path],
      env: [TOOLS, "LC_ALL=C"],
      files: [pipe, directory],
    }).catch((error) => {
      throw isRefusal(error) ? error.withHint(NEEDS_SHELL) : error;
    });
    if (status === 0) return writeEnd;
    const [code, path, hint] = status === WITHOUT_TOOLS
      ? ["ENOENT", "umount", `the keeper needs umount, rm and rmdir; ${NEEDS_SHELL}`] as const
      : ["EIO", SHELL, `the keeper ended with ${status}; ${NEEDS_SHELL}`] as const;
    throw new LoopError({ code, syscall: "posix_spawn", path, hint });
  } catch (error) {
    writeEnd.close();
    throw error;
  }
}
