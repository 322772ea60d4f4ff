/**
 * What is mounted in this process's namespace: /proc/self/mountinfo as values, see proc(5).
 *
 * @module
 */
import { readLines } from "./file.ts";

/** One mount. */
export interface Mount {
  /** As statx() and /proc/PID/fdinfo have it. */
  readonly id: number;
  /** The mount that it lies on. */
  readonly parent: number;
  /** Device number of the file system: "7:4". */
  readonly dev: string;
  /** Where. */
  readonly point: string;
  /** "ext4", "devtmpfs". */
  readonly type: string;
  /** Of the mount, not of the file system: "rw", "nodev". */
  readonly options: readonly string[];
}

/** In the order in which they were mounted: of two at one point the last is the one that is seen. */
export function mounts(): Mount[] {
  return readLines("/proc/self/mountinfo").map((line) => {
    // Optional fields stand between the sixth and " - ". The kernel escapes spaces in all names.
    const [mount, fileSystem] = line.split(" - ");
    const [id, parent, dev, , point, options] = mount.split(" ");
    return {
      id: Number(id),
      parent: Number(parent),
      dev,
      point: unescape(point),
      type: fileSystem.split(" ")[0],
      options: options.split(","),
    };
  });
}

/** Whether device nodes below `folder`, which is a mount point or lies on the root's, cannot be opened. */
export function isNodev(folder: string): boolean {
  const all = mounts();
  const mount = all.findLast(({ point }) => point === folder) ??
    all.findLast(({ point }) => point === "/");
  return mount?.options.includes("nodev") ?? false;
}

/** Spaces and the like stand as octal. */
function unescape(point: string): string {
  return point.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
}
