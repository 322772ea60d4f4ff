/**
 * The handle of a mounted file system.
 *
 * @module
 */
import { isErrno, LoopError } from "../base/errors.ts";
import { poll } from "../base/retry.ts";
import { showAsData } from "../base/shown.ts";
import { isHeldExclusively } from "../holders/holders.ts";
import { check, type OpenFile } from "../kernel/file.ts";
import { endMount, type NewMount } from "../kernel/mount.ts";
import { ownMountsOf, removeOwnMount, setOwnMount } from "../holders/own_mounts.ts";

/**
 * A file that a runtime closes at its leisure; a child between fork() and exec(), which has all that we
 * have. Longer, and they hold it.
 */
const PASSING_USERS_MS = 1000;

/** Of what a handle is made. */
export interface LoopMountInit {
  readonly device: string;
  readonly partition: number | undefined;
  readonly path: string;
  readonly type: string;
  /** The backing file's path. */
  readonly backingFile: string;
  /** Its root directory is open since the beginning, and remembers what could not be written. */
  readonly made: NewMount;
  /** Device number of its files. */
  readonly dev: string;
  /** Whether it lies on a directory. */
  readonly attached: boolean;
  /** Told when unmount() is done. */
  readonly onEnd: (mount: LoopMount) => void;
}

/** For mount() alone. */
export let makeLoopMount: (init: LoopMountInit) => LoopMount;

/**
 * A mounted file system. Without `at` it has no directory: no list of mounts shows it, in this
 * namespace or another, and it lives as long as this process at most, even if that is killed. Its
 * files are below {@linkcode LoopMount.path}. `await using` unmounts it at the end of the block, and
 * so does the end of the {@linkcode LoopDevice} that mounted it.
 *
 * @example
 * ```ts
 * import type { LoopDevice, LoopMount } from "@loopdev/loopdev";
 *
 * async function writeHostname(loop: LoopDevice): Promise<"unmounted" | "deferred"> {
 *   await using root: LoopMount = await loop.mount(2);
 *   await Deno.writeTextFile(`${root.path}/etc/hostname`, "box\n");
 *   return await root.unmount();
 * }
 * console.log(typeof writeHostname); // function
 * ```
 */
export class LoopMount implements AsyncDisposable {
  /**
   * Where its files are: `"/proc/1234/fd/17"` while this process has it mounted, for this process and
   * others of the same user (with `at`: the directory). Absolute.
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

  static {
    makeLoopMount = (init) => new LoopMount(init);
    showAsData(this);
  }

  private constructor(init: LoopMountInit) {
    this.path = init.path;
    this.device = init.device;
    this.partition = init.partition;
    this.type = init.type;
    this.readOnly = init.made.readOnly;
    this.#init = init;
    const number = (file: OpenFile) => file.call((fd) => fd);
    const descriptors = [number(init.made.mount), number(init.made.root)];
    setOwnMount(this, { device: init.device, path: init.path, dev: init.dev, descriptors });
  }

  /** All of these as plain data; what JSON.stringify() and console.log() show. */
  toJSON(): Pick<LoopMount, "path" | "device" | "partition" | "type" | "readOnly"> {
    const { path, device, partition, type, readOnly } = this;
    return { path, device, partition, type, readOnly };
  }

  /**
   * Writes everything back and unmounts. Resolves to `"unmounted"` when the kernel has let go of the
   * device. To `"deferred"` if somebody still has a file open there, or his working directory
   * ({@linkcode LoopDevice.holders} says who), or the same file system is mounted elsewhere: the path
   * is gone for all, and it is unmounted when the last of them lets go. A mount below one without a
   * directory goes with that one, and is `"deferred"` until then.
   *
   * Rejects with {@linkcode LoopError} if anything that was written since the mount did not reach the
   * backing file (from Linux 5.8 on), EIO or ENOSPC; it is unmounted all the same. Calling it again
   * gives the same answer.
   */
  unmount(): Promise<"unmounted" | "deferred"> {
    return this.#unmounted ??= this.#unmount().finally(() => this.#init.onEnd(this));
  }

  async #unmount(): Promise<"unmounted" | "deferred"> {
    const { made, attached, device, path, dev } = this.#init;
    const { synced, unmounted } = await endMount(made, { sync: !this.readOnly, attached });
    setOwnMount(this, { device, path, dev, descriptors: [] });
    const outcome = await this.#isOver() ? "unmounted" : "deferred";
    if (outcome === "unmounted") removeOwnMount(this);
    if (synced < 0) throw this.#explain(synced);
    // EINVAL: it lies on no directory any more, somebody was faster.
    if (!isErrno(unmounted, "EINVAL")) check(unmounted, "umount2", path);
    return outcome;
  }

  async #isOver(): Promise<boolean> {
    const { device } = this.#init;
    const isOver = () => !isHeldExclusively(device);
    const others = ownMountsOf([device], isOver).filter(({ descriptors }) =>
      descriptors.length > 0
    );
    if (others.length > 0) return false;
    return await poll(() => isOver() || undefined, PASSING_USERS_MS) ?? false;
  }

  #explain(synced: number): LoopError {
    const { device: path, backingFile } = this.#init;
    const hint = `not all that was written has reached ${backingFile}, and it is lost: is there ` +
      "space left, is its disk in order? The file system is unmounted; check it before use";
    return new LoopError({ code: -synced, syscall: "syncfs", path, hint });
  }

  /** Unmounts it, and rejects if something was not written. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.unmount();
  }
}
