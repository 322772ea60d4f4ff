/**
 * Nodes in /dev. Usually the kernel makes them (devtmpfs). In a container /dev is often static: there no
 * node appears for a new device.
 *
 * @module
 */
import { isRefusal, unlessRefused } from "../base/errors.ts";
import { whyNotPermitted } from "../kernel/capabilities.ts";
import {
  ifExists,
  makeBlockNode,
  O_EXCL,
  O_RDONLY,
  open,
  removeNode,
  unlink,
} from "../kernel/file.ts";
import { isDevtmpfs } from "../kernel/mountinfo.ts";
import { type FileStatus, fileStatus } from "../kernel/stat.ts";
import { sysfsBackingFile, type SysfsPartition, sysfsPartitions } from "../kernel/sysfs.ts";
import type { CheckedOptions } from "./options.ts";

/**
 * The mode of a node that loopdev made, in whatever process: no other program sets the sticky bit on a
 * device node, where it means nothing. The node can outlive the process that made it: by SIGKILL, by
 * persist(), or because another process got the device.
 */
const MADE_BY_LOOPDEV = 0o1600;

/** How long the kernel, or udev where it makes nodes, may take before we make one. In ms. */
const PATIENCE_MS = 50;

function look(path: string): FileStatus | undefined {
  return ifExists(() => fileStatus(path));
}

function isDevice(node: FileStatus | undefined, dev: string): node is FileStatus {
  return node?.type === "block device" && node.rdev === dev;
}

/**
 * The partitions of device `number`, whose nodes outlive them; undefined where /dev is a devtmpfs, which
 * removes them itself.
 */
export function lastingNodes(number: number): SysfsPartition[] | undefined {
  try {
    return isDevStatic() ? sysfsPartitions(number) : undefined;
  } catch (error) {
    // A /dev or sysfs that cannot be read must not stop a release.
    if (isRefusal(error)) return [];
    throw error;
  }
}

/**
 * Removes the nodes of those partitions after the detach of device `number`, since the kernel gives their
 * device numbers to the partitions of other disks; and the disk's own node, if loopdev made it. While we
 * have the device open with O_EXCL nobody can bind it.
 */
export function removeLeftNodes(
  number: number,
  partitions: readonly SysfsPartition[] | undefined,
): void {
  const path = `/dev/loop${number}`;
  // EBUSY: another process has opened the device, and may rely on its nodes.
  unlessRefused(() => {
    if (partitions === undefined || !isDevStatic()) return;
    using _held = ifExists(() => open(path, O_RDONLY | O_EXCL));
    if (sysfsBackingFile(number) !== undefined) return;
    for (const { name, dev } of partitions) {
      const isLeft = isDevice(look(`/dev/${name}`), dev) && !look(`/sys/class/block/${name}`);
      if (isLeft) removeNode(`/dev/${name}`);
    }
    if (look(path)?.mode === MADE_BY_LOOPDEV) removeNode(path);
  });
}

/** Whether a /dev is static, by the file system that it is. */
const kinds = new Map<string, boolean>();

function isDevStatic(): boolean {
  const { dev } = fileStatus("/dev");
  let isStatic = kinds.get(dev);
  if (isStatic === undefined) kinds.set(dev, isStatic = !isDevtmpfs());
  return isStatic;
}

/** The nodes of one device and its partitions: makes those that are missing, and removes what it made. */
export class DevNodes {
  readonly #policy: CheckedOptions["nodes"];
  readonly #since = performance.now();
  #made: readonly string[] = [];

  constructor(policy: CheckedOptions["nodes"]) {
    this.#policy = policy;
  }

  /** Whether `path` is seen to be device `dev` ("7:4"). */
  isThere(path: string, dev: string): boolean {
    return this.#policy !== "never" && this.#isRight(path, dev, look(path));
  }

  /**
   * Makes node `path` for device `dev` ("7:4") if it is still missing after {@linkcode PATIENCE_MS}. Gives
   * what keeps it from being that device; undefined if nothing does.
   */
  ensure(path: string, dev: string): string | undefined {
    if (this.#policy === "never") return undefined;
    const node = look(path);
    if (this.#isRight(path, dev, node)) return undefined;
    const late = performance.now() - this.#since >= PATIENCE_MS;
    if (this.#policy === "auto" && late && this.#make(path, dev, node)) return undefined;
    if (!node) return `${path}: no such node`;
    if (node.type !== "block device") return `${path}: a ${node.type}, not a block device`;
    return `${path}: is device ${node.rdev}, the kernel's is ${dev}`;
  }

  /** One that another loopdev process made for an earlier use becomes ours to remove. */
  #isRight(path: string, dev: string, node: FileStatus | undefined): boolean {
    if (!isDevice(node, dev)) return false;
    const isLoopdevs = this.#policy === "auto" && node.mode === MADE_BY_LOOPDEV;
    if (isLoopdevs && !this.#made.includes(path)) this.#made = [...this.#made, path];
    return true;
  }

  /** Replaces a node of another block device: a static /dev keeps the nodes of devices that are gone. */
  #make(path: string, dev: string, stale: FileStatus | undefined): boolean {
    if (stale && stale.type !== "block device") return false;
    if (stale) unlink(path);
    try {
      makeBlockNode(path, dev, MADE_BY_LOOPDEV);
    } catch (error) {
      // EEXIST: another process was faster; the next call looks at its node.
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

  /** The nodes that it made, or found made by loopdev. */
  get made(): readonly string[] {
    return this.#made;
  }

  /** Leaves the nodes where they are, since the device outlives this process. */
  keep(): void {
    this.#made = [];
  }

  /** Removes those of `paths` that we made, by default all. One that /dev does not let go stays, with a warning. */
  remove(paths: readonly string[] = this.#made): void {
    const ours = this.#made.filter((path) => paths.includes(path));
    this.#made = this.#made.filter((path) => !paths.includes(path));
    for (const path of ours) removeNode(path);
  }
}
