/**
 * The handle of a mounted file system.
 *
 * @module
 */
import { checkPath, checkSignal } from "../base/checks.ts";
import {
  isErrno,
  isRefusal,
  isTold,
  laterUnlessRefused,
  LoopError,
  withMore,
  withSecond,
} from "../base/errors.ts";
import { checkAgainst } from "../base/options.ts";
import { poll, untilAborted } from "../base/retry.ts";
import { showAsData } from "../base/shown.ts";
import { Turns } from "../base/turns.ts";
import type { LoopFacts } from "../binding/facts.ts";
import { holdOf } from "../holders/exclusive.ts";
import { ownMountsOf, removeOwnMount, setOwnMount } from "../holders/own_mounts.ts";
import { openWithoutWaiting } from "../kernel/blocking.ts";
import { check, O_RDONLY, type OpenFile } from "../kernel/file.ts";
import { copyMount } from "../kernel/loose_mount.ts";
import { type EndedMount, endMount, type NewMount } from "../kernel/mount.ts";
import { type Mount, mountsOn } from "../kernel/mountinfo.ts";
import { fileStatus } from "../kernel/stat.ts";
import { checkFreezeOptions, freeze, type Frozen, type FrozenMount } from "./freeze.ts";
import type { Place } from "./place.ts";
import { resolveBelow } from "./resolve.ts";
import { runIn, type RunMount } from "./run.ts";
import type { RunOptions, RunOutput } from "./run_options.ts";
import { trim } from "./trim.ts";

/**
 * unmount() waits so long for users that are about to leave: a runtime closes a file some time after the
 * last use, and a child has our descriptors between fork() and exec().
 */
const PASSING_USERS_MS = 1000;

/** What is mounted: a partition, or a whole device; and the facts of the loop device then. */
export interface MountSource extends Pick<LoopFacts, "readOnly" | "backingFile"> {
  /** Of the loop device; undefined: it is none. */
  readonly number: number | undefined;
  /** The node: "/dev/loop4p2". */
  readonly device: string;
  /** undefined: the whole device. */
  readonly partition: number | undefined;
  /** The node, open until the mount has ended; undefined: the loop device's handle keeps the device. */
  readonly node?: OpenFile;
}

/** A mount in its place, which {@linkcode LoopMount} ends. */
interface PlacedMount {
  readonly source: MountSource;
  readonly type: string;
  /** Its root has been open since the beginning: syncfs() there reports every write that failed since. */
  readonly made: NewMount;
  /** Makes a mount of it that shows the owners of the disk; undefined: it does so itself. */
  readonly plain: (() => Promise<OpenFile>) | undefined;
  readonly place: Place;
  /** Called when unmount() is done. */
  readonly onEnd: (mount: LoopMount) => void;
}

/** For mount() alone. */
export let makeLoopMount: (placed: PlacedMount) => LoopMount;

/** For leaveMounts() alone: the mount outlives this process, and its handle is done with. */
export let leaveMount: (mount: LoopMount) => Promise<void>;

/** A mount, and where it lies in a tree: "/" for the first one, "/boot/efi". */
export interface Branch {
  readonly mount: LoopMount;
  readonly point: string;
}

/** {@linkcode LoopMount.run} of mounts that make a tree: the root first, each after the one it lies in. */
export let runInTree: (
  tree: readonly Branch[],
  command: string | readonly string[],
  options?: RunOptions,
) => Promise<RunOutput>;

/** A command that has not ended. */
interface Run {
  readonly command: string;
  /** Kills it; resolves when it has ended. */
  stop(): Promise<unknown>;
}

/** This process's mounts by their ids in mountinfo, without the detached ones. */
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
   * The directory of its files, absolute:
   *
   *     /run/loopdev/1234-4026531841-k3v9x0q2mz/loop4p2-000001
   *     /run/loopdev-owned/1234-4026531841-k3v9x0q2mz-000001/loop4p2    with `owner`
   *     /proc/1234/fd/17/…/loop4p2                                      with `detached`
   *
   * or the one that `at` names. None but that of `at` is ever used again. Open files by
   * {@linkcode LoopMount.resolve}: a link of the image can lead out of it.
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

  readonly #placed: PlacedMount;
  /** Device number of its files. */
  readonly #dev: string;
  #unmounted: Promise<"unmounted" | "deferred"> | undefined;
  /** One freeze() at a time, and unmount() after it. */
  readonly #freezes = new Turns();
  /** The last one. */
  #frozen: Frozen | undefined;
  /** What a caller of unmount() has got: the end of the block does not throw that again. */
  #told: unknown;
  readonly #runs = new Set<Run>();

  static {
    makeLoopMount = (placed) => new LoopMount(placed);
    leaveMount = (mount) => mount.#leave();
    runInTree = async (tree, command, options = {}) => {
      const stopping = new AbortController();
      const places = tree.map(({ mount, point }) => mount.#placeInTree(point));
      const running = runIn(places, command, options, stopping.signal);
      const run: Run = {
        command: [command].flat().join(" "),
        stop() {
          stopping.abort();
          return running.catch(() => {});
        },
      };
      for (const { mount } of tree) mount.#runs.add(run);
      try {
        return await running;
      } finally {
        for (const { mount } of tree) mount.#runs.delete(run);
      }
    };
    showAsData(this);
  }

  private constructor(placed: PlacedMount) {
    const { source, type, place, made } = placed;
    this.path = place.path;
    this.device = source.device;
    this.partition = source.partition;
    this.type = type;
    this.readOnly = made.readOnly;
    this.#placed = placed;
    this.#dev = fileStatus(made.root).dev;
    const files = [made.mount, made.root, place.holder].filter((file) => file !== undefined);
    this.#setOwnMount(files.map((file) => file.call((fd) => fd)));
    if (place.id !== undefined) listed.set(place.id, this);
  }

  #setOwnMount(descriptors: readonly number[]): void {
    setOwnMount(this, { device: this.device, path: this.path, dev: this.#dev, descriptors });
  }

  /** All of these as plain data; what JSON.stringify() and console.log() show. */
  toJSON(): Pick<LoopMount, "path" | "device" | "partition" | "type" | "readOnly"> {
    const { path, device, partition, type, readOnly } = this;
    return { path, device, partition, type, readOnly };
  }

  /**
   * The path of a file of the image. The image's links are followed inside the image, as a process
   * follows them whose root directory this is: `etc/hostname` may be a link to `/etc/HOSTNAME`, and a
   * program that opens it by its plain name gets the host's file. What does not exist resolves to where
   * it would be made.
   *
   * `name` counts from the root of the mount, with or without a slash before it; `..` does not lead
   * out of it. Rejects with {@linkcode LoopError}: ELOOP after 40 links, ENOTDIR where a file stands in
   * the way, EBADF after the unmount. The path is right as long as nobody changes the directories and
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
    const below = await resolveBelow(this.#placed.made.root, name, this.path);
    return below === "" ? this.path : `${this.path}/${below}`;
  }

  /**
   * Runs a command in the image, and resolves to how it ended. The image is its root directory; with
   * `chroot: false` the command is a program of this machine, and `$LOOPDEV_ROOT` names the image. It has
   * mount and PID namespaces of its own: what it starts and what it mounts ends with it, or with this
   * process, even if that is killed. Needs Linux 5.3, util-linux and mount(8).
   *
   * The command has the image's permissions of root. It is no sandbox: run only what you trust.
   *
   * Rejects with {@linkcode LoopError}: ENOENT if there is no such program, or not what it needs to be
   * started; EACCES if it has no execute bit; ENOEXEC if it is one for another machine and no emulator is registered; EBADF after the
   * unmount. An exit code other than 0 is no error.
   *
   * @param command A program, or a program and its arguments. No shell takes them apart.
   *
   * @example
   * ```ts
   * import type { LoopMount } from "@loopdev/loopdev";
   * async function install(root: LoopMount, name: string): Promise<void> {
   *   const { success } = await root.run(["apt-get", "install", "-y", name], {
   *     env: { DEBIAN_FRONTEND: "noninteractive" },
   *   });
   *   if (!success) throw new Error(`${name} cannot be installed`);
   * }
   * console.log(typeof install); // function
   * ```
   */
  async run(command: string | readonly string[], options: RunOptions = {}): Promise<RunOutput> {
    return await runInTree([{ mount: this, point: "/" }], command, options);
  }

  #placeInTree(point: string): RunMount {
    const { made: { root }, plain } = this.#placed;
    if (this.#unmounted || root.isClosed) {
      throw new LoopError({ code: "EBADF", path: this.path, hint: "it has been unmounted" });
    }
    return {
      root,
      path: this.path,
      type: this.type,
      point,
      copy: plain ?? (() => copyMount(root)),
    };
  }

  /**
   * Discards what the file system does not use (FITRIM): the image's file gets holes there, where its own
   * file system can make them. Resolves to the bytes that the file system has discarded; ext4 and others do
   * not count again what they have discarded since the mount.
   *
   * Rejects with {@linkcode LoopError}: EOPNOTSUPP if the device below takes no discards, ENOTTY if the
   * file system's driver does not trim, EROFS if the file system is read-only, EBADF after the unmount.
   *
   * @example
   * ```ts
   * import type { LoopMount } from "@loopdev/loopdev";
   * const shrink = async (root: LoopMount) => `${await root.trim()} bytes discarded`;
   * console.log(typeof shrink); // function
   * ```
   */
  async trim(): Promise<number> {
    return await trim(this.#placed.made.root, this.type);
  }

  /**
   * Freezes the file system (FIFREEZE): everything is written back, the image's file is whole, and whoever
   * writes waits until {@linkcode FrozenMount.thaw}. For a snapshot or a copy of the image in use.
   *
   * A frozen file system never stays behind: it thaws after `timeout` ms (60 000; thaw() rejects then),
   * when this process ends, SIGKILL included, and before unmount(). A helper process sees to it, which
   * needs /bin/sh, fsfreeze (util-linux), timeout and head. A synchronous write of this process hangs, and
   * the process with it, until `timeout` has passed.
   *
   * Rejects with {@linkcode LoopError}: EBUSY if it is frozen already, EOPNOTSUPP if its driver does not
   * freeze (vfat, squashfs), ETIMEDOUT if `timeout` was over before it was frozen, EBADF after the unmount.
   *
   * @example
   * ```ts
   * import type { LoopMount } from "@loopdev/loopdev";
   * import { copyFileSync } from "node:fs";
   *
   * async function copy(root: LoopMount, image: string): Promise<void> {
   *   const frozen = await root.freeze({ timeout: 10_000 });
   *   copyFileSync(image, `${image}.copy`);
   *   await frozen.thaw();
   * }
   * console.log(typeof copy); // function
   * ```
   */
  async freeze(options: { timeout?: number } = {}): Promise<FrozenMount> {
    const timeout = checkFreezeOptions(options);
    const { made: { root }, place } = this.#placed;
    const freezing = { path: this.path, root, type: this.type, setFrozen: place.setFrozen };
    using _turn = await this.#freezes.begin();
    const frozen = await freeze(freezing, timeout);
    this.#frozen?.supersede();
    return this.#frozen = frozen;
  }

  /** A frozen file system would outlive its unmount. */
  async #thaw(): Promise<void> {
    using _turn = await this.#freezes.begin();
    // Who has called freeze() hears of an error by thaw(), or at the end of the block.
    await this.#frozen?.end().catch(() => {});
  }

  /**
   * Writes everything back and unmounts. What this process has mounted below it is unmounted first.
   * Resolves to `"unmounted"` when the kernel has released the device; to `"deferred"` if a process has
   * a file or its working directory there ({@linkcode LoopDevice.holders} names it), or the same file
   * system is mounted elsewhere: the path is gone for all, and the kernel unmounts it after the last of
   * them.
   *
   * Rejects with {@linkcode LoopError}: with EBUSY if another process has mounted something on or below
   * it, or a command of {@linkcode LoopMount.run} has not ended; the message names it. Nothing has changed then, and unmount() can be called again. With EIO or
   * ENOSPC if anything that was written since the mount did not reach the backing file (from Linux 5.8
   * on); it is unmounted all the same. Called again it gives the same answer.
   *
   * @param options `signal` stops the wait: it rejects with the signal's reason, and the unmount goes on.
   */
  async unmount(options: { signal?: AbortSignal } = {}): Promise<"unmounted" | "deferred"> {
    checkAgainst(options, { signal: { check: checkSignal } });
    options.signal?.throwIfAborted();
    const ended = this.#end();
    try {
      return await untilAborted(ended, options.signal);
    } catch (error) {
      if (!options.signal?.aborted) this.#told = error;
      throw error;
    }
  }

  #end(): Promise<"unmounted" | "deferred"> {
    return this.#unmounted ??= this.#unmount();
  }

  async #unmount(): Promise<"unmounted" | "deferred"> {
    try {
      await this.#unmountChildren();
    } catch (error) {
      this.#unmounted = undefined;
      if (isRefusal(error, "EBUSY")) throw error;
      throw withMore(error, `${this.path} is still mounted: unmount() can be called again`);
    }
    try {
      return await this.#unmountItself();
    } finally {
      this.#placed.onEnd(this);
    }
  }

  #refuseWhileRunning(): void {
    const [run] = this.#runs;
    if (!run) return;
    const hint = `run() has not ended: ${run.command}; await it, or abort its signal, first`;
    throw new LoopError({ code: "EBUSY", path: this.path, hint });
  }

  /** Unmounts what this process has mounted below it. Throws where another process has. */
  async #unmountChildren(): Promise<void> {
    this.#refuseWhileRunning();
    const { id } = this.#placed.place;
    if (id === undefined) return;
    const children = childrenOf(id);
    for (const child of children) {
      const own = listed.get(child.id);
      if (own) await own.#end();
    }
    // Without children nothing was waited for, and that look is the latest.
    const [other] = children.length > 0 ? childrenOf(id) : [];
    if (!other) return;
    const hint =
      `another mount lies on ${other.point} (${other.type}, mount ${other.id}): unmount ` +
      "that one first";
    throw new LoopError({ code: "EBUSY", path: this.path, hint });
  }

  async #unmountItself(): Promise<"unmounted" | "deferred"> {
    await this.#thaw();
    const { source, made, place: { id, holder, folder, remove } } = this.#placed;
    const written = !this.readOnly;
    using node = source.node ?? (written ? await openIfPossible(this.device) : undefined);
    const ended = await endMount(made, {
      node: written ? node : undefined,
      written,
      attached: id !== undefined,
      holder,
      folder,
    });
    if (id !== undefined) listed.delete(id);
    this.#setOwnMount([]);
    if (ended.isGone) await remove(ended.isFolderGone);
    const isReleased = await this.#waitForRelease();
    if (isReleased) removeOwnMount(this);
    this.#checkEnd(ended);
    return isReleased ? "unmounted" : "deferred";
  }

  /** Without its record the keeper does not know the mount. */
  async #leave(): Promise<void> {
    const { made, place: { id, remove }, onEnd } = this.#placed;
    this.#unmounted = Promise.resolve("deferred");
    await remove();
    if (id !== undefined) listed.delete(id);
    removeOwnMount(this);
    made.root.close();
    made.mount.close();
    onEnd(this);
  }

  /** Whether the kernel releases the device within a second. */
  async #waitForRelease(): Promise<boolean> {
    // Another mount of it in this process does not end within that second.
    const others = ownMountsOf([this.device]).filter(({ descriptors }) => descriptors.length > 0);
    if (others.length > 0) return false;
    // The handle of the device, or `node`, has had it open since before the mount.
    const isReleased = async () => await holdOf(this.device, true) === "free" || undefined;
    return await poll(isReleased, PASSING_USERS_MS) ?? false;
  }

  #checkEnd({ synced, flushed, unmounted, named, isGone }: EndedMount): void {
    const [code, syscall] = synced < 0 ? [-synced, "syncfs"] : [-flushed, "fsync"];
    if (code > 0) {
      const hint =
        `not all that was written has reached ${this.#placed.source.backingFile}, and it is lost: is ` +
        `there space left, is its disk in order? ${
          isGone ? "The file system is unmounted; check it" : "Check the file system"
        } before use`;
      const lost = new LoopError({ code, syscall, path: this.device, hint });
      throw isGone ? lost : withSecond(lost, this.#whyStillMounted({ unmounted, named, isGone }));
    }
    const why = this.#whyStillMounted({ unmounted, named, isGone });
    if (why !== undefined) throw why;
  }

  /** The error that says so; undefined: it is unmounted. */
  #whyStillMounted(
    { unmounted, named, isGone }: Pick<EndedMount, "unmounted" | "named" | "isGone">,
  ): unknown {
    // EINVAL: another process has unmounted it first.
    const wasGone = isGone && isErrno(unmounted, "EINVAL");
    try {
      if (!wasGone) check(unmounted, "umount2", this.path);
      check(named, "readlink", this.path);
    } catch (error) {
      return withStillMounted(error, this.path);
    }
    if (isGone) return undefined;
    const hint = "another mount came over it at this very moment, and was unmounted instead";
    return withStillMounted(new LoopError({ code: "EBUSY", path: this.path, hint }), this.path);
  }

  /**
   * Unmounts it, and rejects as {@linkcode LoopMount.unmount} does, unless that has said the same already. Kills
   * commands of {@linkcode LoopMount.run} that have not ended.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    const told = this.#told;
    // A command that writes to what is frozen cannot be killed.
    await this.#thaw();
    await Promise.all([...this.#runs].map((run) => run.stop()));
    try {
      await this.#end();
    } catch (error) {
      this.#told = error;
      if (!isTold(error, told)) throw error;
    }
  }
}

/** The error after which a mount may still lie on `path`, where its record is. */
export function withStillMounted(error: unknown, path: string): unknown {
  return withMore(
    error,
    `it may still be mounted there: umount ${path} unmounts it, and so does the end of this process`,
  );
}

/** The mounts on a mount or below it, the last one first. A mount of a child is not its own. */
function childrenOf(parent: number): Mount[] {
  return mountsOn(parent).reverse();
}

/** undefined: the node is gone, or may not be opened. Then nothing can be flushed through it. */
async function openIfPossible(path: string): Promise<OpenFile | undefined> {
  return await laterUnlessRefused(() => openWithoutWaiting(path, O_RDONLY));
}
