/**
 * Nodes in /dev. Usually the kernel makes them (devtmpfs); in containers /dev is often static, and the
 * device is in sysfs without a node ever appearing.
 *
 * @module
 */
import { isRefusal } from "../base/errors.ts";
import { whyNotPermitted } from "../kernel/capabilities.ts";
import { ifExists, makeBlockNode, unlink } from "../kernel/file.ts";
import { type FileStatus, fileStatus } from "../kernel/stat.ts";
import type { CheckedOptions } from "./options.ts";

/** How long the kernel, or udev where it makes nodes, may take before we make one. */
const PATIENCE_MS = 50;

function tryToUnlink(path: string): void {
  try {
    unlink(path);
  } catch {
    // ENOENT: somebody did it. EROFS, EPERM: it stays, as a node may whose device is gone.
  }
}

function look(path: string): FileStatus | undefined {
  return ifExists(() => fileStatus(path));
}

function isDevice(node: FileStatus | undefined, dev: string): boolean {
  return node?.type === "block device" && node.rdev === dev;
}

/** The nodes of one device: looks at them, makes what is missing, and removes what it made. */
export class NodeKeeper {
  readonly #policy: CheckedOptions["nodes"];
  readonly #since = performance.now();
  #made: readonly string[] = [];

  constructor(policy: CheckedOptions["nodes"]) {
    this.#policy = policy;
  }

  /** Whether `path` is seen to be device `dev` ("7:4"). */
  isThere(path: string, dev: string): boolean {
    return this.#policy !== "never" && isDevice(look(path), dev);
  }

  /** What keeps `path` from being device `dev` ("7:4"); undefined if nothing does. */
  problem(path: string, dev: string): string | undefined {
    if (this.#policy === "never") return undefined;
    const node = look(path);
    if (isDevice(node, dev)) return undefined;
    const late = performance.now() - this.#since >= PATIENCE_MS;
    if (this.#policy === "auto" && late && this.#make(path, dev, node)) return undefined;
    if (!node) return `${path}: no such node`;
    if (node.type !== "block device") return `${path}: a ${node.type}, not a block device`;
    return `${path}: is device ${node.rdev}, the kernel's is ${dev}`;
  }

  /** A stale node is replaced if it is a block device's, as it is where /dev outlived a device. */
  #make(path: string, dev: string, stale: FileStatus | undefined): boolean {
    if (stale && stale.type !== "block device") return false;
    if (stale) unlink(path);
    try {
      makeBlockNode(path, dev);
    } catch (error) {
      // EEXIST: somebody was faster; the next look tells what it is.
      if (isRefusal(error, "EEXIST")) return false;
      if (!isRefusal(error, "EPERM")) throw error;
      throw error.withHint(
        `/dev lacks this node, and ${
          whyNotPermitted("making it", "CAP_MKNOD")
        }: mount a devtmpfs ` +
          "on /dev, or start the container with that capability",
      );
    }
    this.#made = [...this.#made, path];
    return true;
  }

  /** The nodes that it made. */
  get made(): readonly string[] {
    return this.#made;
  }

  /** Leaves the nodes where they are: the device outlives us. */
  keep(): void {
    this.#made = [];
  }

  /** Removes those of `paths` that we made, by default all; as far as /dev allows, and no error if not. */
  remove(paths: readonly string[] = this.#made): void {
    const ours = this.#made.filter((path) => paths.includes(path));
    this.#made = this.#made.filter((path) => !paths.includes(path));
    for (const path of ours) tryToUnlink(path);
  }
}
