/**
 * The handle of a mounted file system.
 *
 * @module
 */
import { checkNames, checkPath, checkWait } from "../base/checks.ts";
import { isErrno, isRefusal, LoopError } from "../base/errors.ts";
import { poll, untilAborted } from "../base/retry.ts";
import { showAsData } from "../base/shown.ts";
import { holdOf } from "../holders/exclusive.ts";
import { check, O_RDONLY, type OpenFile } from "../kernel/file.ts";
import { type EndedMount, endMount, type NewMount } from "../kernel/mount.ts";
import { type Mount, mounts } from "../kernel/mountinfo.ts";
import { openWithoutWaiting } from "../kernel/blocking.ts";
import { ownMountsOf, removeOwnMount, setOwnMount } from "../holders/own_mounts.ts";
import type { Place } from "./place.ts";
import { resolveBelow } from "./resolve.ts";

/**
 * A file that a runtime closes at its leisure; a child between fork() and exec(), which has all that we
 * have. Longer, and they hold it.
 */
const PASSING_USERS_MS = 1000;

/** Of what a handle is made. */
export interface LoopMountInit {
  readonly device: string;
  readonly partition: number | undefined;
  readonly type: string;
  /** The backing file's path. */
  readonly backingFile: string;
  /** Its root directory is open since the beginning, and remembers what could not be written. */
  readonly made: NewMount;
  /** Device number of its files. */
  readonly dev: string;
  readonly place: Place;
  /** Told when unmount() is done. */
  readonly onEnd: (mount: LoopMount) => void;
}

/** For mount() alone. */
export let makeLoopMount: (init: LoopMountInit) => LoopMount;

/** Those of this process that lie in its list of mounts, by their numbers there. */
const listed = new Map<number, LoopMount>();

/**
 * A mounted file system. It ends with this process, even if that is killed; `await using` unmounts it
 * at the end of the block, and so does the end of the {@linkcode LoopDevice} that mounted it.
 *
 * @example
 * ```ts
 * import type { LoopDevice, LoopMount } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 *
 * async function writeHostname(loop: LoopDevice): Promise<"unmounted" | "deferred"> {
 *   await using root: LoopMount = await loop.mount(2);
 *   writeFileSync(await root.resolve("etc/hostname"), "box\n");
 *   return await root.unmount();
 * }
 * console.log(typeof writeHostname); // function
 * ```
 */
export class LoopMount implements AsyncDisposable {
  /**
   * The directory of its files, absolute: `"/run/loopdev/1234-k3v9x0q2mz/loop4p2-000001"`, the one that
   * `at` names, or with `detached` `"/proc/1234/fd/17/…/loop4p2"`. The first and the last are never
   * used again. A symbolic link of the image can lead out of it: {@linkcode LoopMount.resolve}.
   */
  readonly path: string;
  /** What is mounted: `"/dev/loop4p2"`. */
  readonly device: string;
  /** The partition's number; undefined if it is the whole device. */
  readonly partition: number | undefined;
  /** As the kernel calls it: `"ext4"`. */
  readonly type: string;
  /** Whether its files cannot be changed. */
  readonly readOnly: boolean;

  readonly #init: LoopMountInit;
  #unmounted: Promise<"unmounted" | "deferred"> | undefined;
  /** Whether somebody heard how it failed: an error is told once. */
  #isTold = false;

  static {
    makeLoopMount = (init) => new LoopMount(init);
    showAsData(this);
  }

  private constructor(init: LoopMountInit) {
    const { device, place, dev, made } = init;
    this.path = place.path;
    this.device = device;
    this.partition = init.partition;
    this.type = init.type;
    this.readOnly = made.readOnly;
    this.#init = init;
    const number = (file: OpenFile) => file.call((fd) => fd);
    const descriptors = [made.mount, made.root, place.holder].flatMap((file) =>
      file ? [number(file)] : []
    );
    setOwnMount(this, { device, path: place.path, dev, descriptors });
    if (place.id !== undefined) listed.set(place.id, this);
  }

  /** All of these as plain data; what JSON.stringify() and console.log() show. */
  toJSON(): Pick<LoopMount, "path" | "device" | "partition" | "type" | "readOnly"> {
    const { path, device, partition, type, readOnly } = this;
    return { path, device, partition, type, readOnly };
  }

  /**
   * The path of a file of the image, with the image's own links followed inside the image, as a process
   * would see them whose root directory this is: `etc/hostname` may be a link to `/etc/HOSTNAME`, which
   * by its name alone would be the host's. What does not exist resolves to where it would be made.
   *
   * `name` is taken from the root of the mount, with or without a slash before it; `..` does not lead
   * out of it. Rejects with {@linkcode LoopError}: ELOOP after 40 links, ENOTDIR where a file stands in
   * the way, EBADF after the unmount. The path holds as long as nobody else changes the directories and
   * links on the way.
   *
   * @example
   * ```ts
   * import type { LoopMount } from "@loopdev/loopdev";
   * const hostname = (root: LoopMount) => root.resolve("etc/hostname");
   * console.log(typeof hostname); // function
   * ```
   */
  async resolve(name: string): Promise<string> {
    checkPath("name", name);
    const below = await resolveBelow(this.#init.made.root, name, this.path);
    return below === "" ? this.path : `${this.path}/${below}`;
  }

  /**
   * Writes everything back and unmounts; what this process mounted below it, first. Resolves to
   * `"unmounted"` when the kernel has let go of the device. To `"deferred"` if somebody still has a file
   * open there, or his working directory ({@linkcode LoopDevice.holders} says who), or the same file
   * system is mounted elsewhere: the path is gone for all, and it is unmounted when the last of them
   * lets go.
   *
   * Rejects with {@linkcode LoopError} EBUSY, which names it, if somebody else has mounted something on
   * or below it: nothing has changed then, and unmount() can be called again. If anything that was
   * written since the mount did not reach the backing file (from Linux 5.8 on), with EIO or ENOSPC; it
   * is unmounted all the same. Calling it again gives the same answer.
   *
   * @param options `signal` stops the wait: it rejects with the signal's reason, and the unmount goes on.
   */
  async unmount(options: { signal?: AbortSignal } = {}): Promise<"unmounted" | "deferred"> {
    checkNames(options, ["signal"]);
    checkWait(options);
    options.signal?.throwIfAborted();
    const ended = this.#end();
    try {
      return await untilAborted(ended, options.signal);
    } catch (error) {
      if (!options.signal?.aborted) this.#isTold = true;
      throw error;
    }
  }

  #end(): Promise<"unmounted" | "deferred"> {
    return this.#unmounted ??= this.#unmount();
  }

  async #unmount(): Promise<"unmounted" | "deferred"> {
    try {
      await this.#clearWay();
    } catch (error) {
      this.#unmounted = undefined;
      throw error;
    }
    try {
      return await this.#takeAway();
    } finally {
      this.#init.onEnd(this);
    }
  }

  /** Unmounts what this process has mounted below it; what others have is theirs. */
  async #clearWay(): Promise<void> {
    const { id } = this.#init.place;
    if (id === undefined) return;
    for (const child of childrenOf(id)) {
      const own = listed.get(child.id);
      if (own) await own.#end();
    }
    const [other] = childrenOf(id);
    if (!other) return;
    const hint =
      `another mount lies on ${other.point} (${other.type}, mount ${other.id}): unmount ` +
      "that one first";
    throw new LoopError({ code: "EBUSY", syscall: "umount2", path: this.path, hint });
  }

  async #takeAway(): Promise<"unmounted" | "deferred"> {
    const { made, place, device, path, dev } = { ...this.#init, path: this.path };
    const { id, holder } = place;
    const written = !this.readOnly;
    using node = written ? await openIfPossible(device) : undefined;
    const ended = await endMount(made, { node, written, attached: id !== undefined, holder });
    if (id !== undefined) listed.delete(id);
    setOwnMount(this, { device, path, dev, descriptors: [] });
    if (ended.isGone) await place.remove();
    const outcome = await this.#isOver() ? "unmounted" : "deferred";
    if (outcome === "unmounted") removeOwnMount(this);
    this.#checkEnd(ended);
    return outcome;
  }

  async #isOver(): Promise<boolean> {
    const { device } = this.#init;
    const isOver = async () => await holdOf(device) === "free" || undefined;
    // Another mount of it in this process is not just about to go.
    if (ownMountsOf([device]).some(({ descriptors }) => descriptors.length > 0)) return false;
    return await poll(isOver, PASSING_USERS_MS) ?? false;
  }

  #checkEnd({ synced, flushed, unmounted, named, isGone }: EndedMount): void {
    const { device: path, backingFile } = this.#init;
    const [code, syscall] = synced < 0 ? [-synced, "syncfs"] : [-flushed, "fsync"];
    if (code > 0) {
      const hint =
        `not all that was written has reached ${backingFile}, and it is lost: is there ` +
        "space left, is its disk in order? The file system is unmounted; check it before use";
      throw new LoopError({ code, syscall, path, hint });
    }
    // Somebody was faster: it lies in no namespace any more.
    const wasGone = isGone && isErrno(unmounted, "EINVAL");
    if (!wasGone) check(unmounted, "umount2", this.path);
    check(named, "readlink", this.path);
    if (isGone) return;
    const hint = "another mount came over it at this very moment, and was unmounted instead";
    throw new LoopError({ code: "EBUSY", syscall: "umount2", path: this.path, hint });
  }

  /**
   * Unmounts it, and rejects if something was not written, or it cannot be unmounted; not if that was
   * the answer of {@linkcode LoopMount.unmount} already.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    const isTold = this.#isTold;
    try {
      await this.#end();
    } catch (error) {
      if (!isTold) throw error;
    }
  }
}

/** What lies on a mount, or below it, the last one first: a mount of a mount is not listed. */
function childrenOf(parent: number): Mount[] {
  return mounts().filter((mount) => mount.parent === parent).reverse();
}

/** A node that is gone, or may not be opened, cannot be flushed. */
async function openIfPossible(path: string): Promise<OpenFile | undefined> {
  try {
    return await openWithoutWaiting(path, O_RDONLY);
  } catch (error) {
    if (isRefusal(error)) return undefined;
    throw error;
  }
}
