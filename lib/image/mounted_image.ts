/**
 * The handle of an image that is mounted as a whole.
 *
 * @module
 */
import { checkSignal } from "../base/checks.ts";
import { isRefusal, isTold, laterUnlessRefused, withSecond } from "../base/errors.ts";
import { checkAgainst } from "../base/options.ts";
import { untilAborted } from "../base/retry.ts";
import { showAsData } from "../base/shown.ts";
import type { LoopDevice } from "../device.ts";
import { type LoopMount, runInTree } from "../mount/mounted.ts";
import type { RunOptions, RunOutput } from "../mount/run_options.ts";

/**
 * A mount of a {@linkcode MountedImage}.
 *
 * @example
 * ```ts
 * import type { TreeMount } from "@loopdev/loopdev";
 * const show = ({ point, mount }: TreeMount) => `${mount.device} on ${point}: ${mount.type}`;
 * console.log(typeof show); // function
 * ```
 */
export interface TreeMount {
  /** Where it lies in the image: `"/"`, `"/boot"`. */
  readonly point: string;
  /** The mount itself. */
  readonly mount: LoopMount;
}

/**
 * What of an image was not mounted, and why.
 *
 * @example
 * ```ts
 * import type { SkippedMount } from "@loopdev/loopdev";
 * const show = ({ partition, source, reason }: SkippedMount) => `${partition ?? source}: ${reason}`;
 * console.log(show({ partition: 2, reason: "it is swap space" })); // 2: it is swap space
 * ```
 */
export interface SkippedMount {
  /** The partition's number; absent where fstab names nothing of the image. */
  readonly partition?: number;
  /** What fstab calls it, where it is a line of fstab: arbitrary text, as that of `point`. Do not trust it. */
  readonly source?: string;
  /** Where it would lie; absent where nothing tells. */
  readonly point?: string;
  /** In words, on a line, or on several if a program has said why. */
  readonly reason: string;
}

/** What a handle is made of. */
interface Tree {
  readonly loop: LoopDevice;
  readonly mounts: readonly TreeMount[];
  readonly skipped: readonly SkippedMount[];
  readonly osRelease: Readonly<Record<string, string>> | undefined;
}

/** For mountTree() alone. */
export let makeMountedImage: (tree: Tree) => MountedImage;

/**
 * An image whose file systems are mounted as its own system mounts them. It ends with this process, even
 * if that is killed; `await using` unmounts and detaches it at the end of the block.
 *
 * @example
 * ```ts
 * import type { MountedImage } from "@loopdev/loopdev";
 * import { writeFileSync } from "node:fs";
 *
 * async function writeHostname(tree: MountedImage): Promise<"unmounted" | "deferred"> {
 *   writeFileSync(await tree.resolve("etc/hostname"), "box\n");
 *   return await tree.unmount();
 * }
 * console.log(typeof writeHostname); // function
 * ```
 */
export class MountedImage implements AsyncDisposable {
  /** The root directory of its files, absolute: {@linkcode LoopMount.path} of the root. */
  readonly path: string;
  /** The device; it is detached with the tree. */
  readonly loop: LoopDevice;
  /** In the order in which they were mounted: the root first. */
  readonly mounts: readonly TreeMount[];
  /** What was not mounted, in the order of the partitions, then what fstab has of other devices. */
  readonly skipped: readonly SkippedMount[];
  /**
   * os-release(5) of the image, as data: `osRelease?.PRETTY_NAME`. undefined: it has none. Whoever made the
   * image wrote it: do not trust it.
   */
  readonly osRelease: Readonly<Record<string, string>> | undefined;

  #ended: Promise<"unmounted" | "deferred"> | undefined;
  /** What a caller of unmount() has got: the end of the block does not throw that again. */
  #told: unknown;

  static {
    makeMountedImage = (tree) => new MountedImage(tree);
    showAsData(this);
  }

  private constructor({ loop, mounts, skipped, osRelease }: Tree) {
    this.path = mounts[0].mount.path;
    this.loop = loop;
    this.mounts = mounts;
    this.skipped = skipped;
    this.osRelease = osRelease;
  }

  /** All of these as plain data; what JSON.stringify() and console.log() show. */
  toJSON(): Pick<MountedImage, "path" | "loop" | "mounts" | "skipped" | "osRelease"> {
    const { path, loop, mounts, skipped, osRelease } = this;
    return { path, loop, mounts, skipped, osRelease };
  }

  /**
   * The path of a file of the image, whichever of its file systems has it: as {@linkcode LoopMount.resolve},
   * of which this is the root's.
   */
  async resolve(name: string): Promise<string> {
    return await this.mounts[0].mount.resolve(name);
  }

  /**
   * Runs a command in the image, and resolves to how it ended: {@linkcode LoopMount.run} with all that is
   * mounted.
   *
   * @example
   * ```ts
   * import { mountImage } from "@loopdev/loopdev";
   * async function install(image: string, name: string): Promise<boolean> {
   *   await using tree = await mountImage(image);
   *   return (await tree.run(["apt-get", "install", "-y", name])).success;
   * }
   * console.log(typeof install); // function
   * ```
   */
  async run(command: string | readonly string[], options: RunOptions = {}): Promise<RunOutput> {
    // Where each lies, and not where fstab says: a link of the image would lead out of it elsewhere.
    const tree = this.mounts.map(({ mount }) => ({
      mount,
      point: mount.path.slice(this.path.length) || "/",
    }));
    return await runInTree(tree, command, options);
  }

  /**
   * Discards what the file systems do not use: {@linkcode LoopMount.trim} of each that is writable and whose
   * driver can do it. Resolves to the sum, in bytes: the image's file has so much less on its disk, at most.
   *
   * @example
   * ```ts
   * import { mountImage } from "@loopdev/loopdev";
   * async function shrink(image: string): Promise<number> {
   *   await using tree = await mountImage(image);
   *   return await tree.trim();
   * }
   * console.log(typeof shrink); // function
   * ```
   */
  async trim(): Promise<number> {
    const writable = this.mounts.filter(({ mount }) => !mount.readOnly);
    // Subvolumes of one file system have one device.
    const byDevice = new Map(writable.map(({ mount }) => [mount.device, mount]));
    let bytes = 0;
    for (const mount of byDevice.values()) {
      // ENOTTY: its driver does not know the request.
      bytes += await laterUnlessRefused(() => mount.trim(), "ENOTTY") ?? 0;
    }
    return bytes;
  }

  /**
   * Writes everything back, unmounts all, the last mount first, and detaches the device. Resolves to
   * `"unmounted"` when the kernel has released all of it; to `"deferred"` if a process has a file or its
   * working directory there ({@linkcode LoopDevice.holders} names it): the paths are gone for all, and the
   * kernel unmounts and detaches after the last of them.
   *
   * Rejects with {@linkcode LoopError}: with EBUSY if another process has mounted something below it, or a
   * command of {@linkcode MountedImage.run} has not ended; the message names it. What lies above that is
   * unmounted then, and unmount() can be called again. With EIO
   * or ENOSPC if anything that was written is lost; all is unmounted and detached all the same.
   *
   * @param options `signal` stops the wait: it rejects with the signal's reason, and the unmount goes on.
   */
  async unmount(options: { signal?: AbortSignal } = {}): Promise<"unmounted" | "deferred"> {
    const { signal } = checkAgainst(options, { signal: { check: checkSignal } });
    signal?.throwIfAborted();
    const ended = this.#end();
    try {
      return await untilAborted(ended, signal);
    } catch (error) {
      if (!signal?.aborted) this.#told = error;
      throw error;
    }
  }

  #end(): Promise<"unmounted" | "deferred"> {
    return this.#ended ??= this.#unmountAll();
  }

  async #unmountAll(): Promise<"unmounted" | "deferred"> {
    let failed: { error: unknown } | undefined;
    for (const { mount } of this.mounts.toReversed()) {
      try {
        await mount.unmount();
      } catch (error) {
        if (isRefusal(error, "EBUSY")) {
          this.#ended = undefined;
          // It may be in use by nothing but a mount of ours that could not be unmounted.
          throw failed ? withSecond(failed.error, error) : error;
        }
        failed ??= { error };
      }
    }
    try {
      const outcome = await this.loop.detach({ onDeferred: () => {} });
      if (!failed) return outcome === "detached" ? "unmounted" : "deferred";
    } catch (error) {
      failed ??= { error };
    }
    // The first error wins.
    throw failed!.error;
  }

  /**
   * Unmounts it, and rejects as {@linkcode MountedImage.unmount} does, unless that has said the same already.
   * Kills commands of {@linkcode MountedImage.run} that have not ended.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    const told = this.#told;
    for (const { mount } of this.mounts.toReversed()) {
      // unmount() of all gives the error again.
      await mount[Symbol.asyncDispose]().catch(() => {});
    }
    try {
      await this.#end();
    } catch (error) {
      if (!isTold(error, told)) throw error;
    }
  }
}
