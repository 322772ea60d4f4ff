/**
 * What is mounted in this process's namespace: /proc/self/mountinfo as values, see proc(5).
 *
 * @module
 */
import { O_RDONLY, open, readAt } from "./file.ts";

/** One mount. */
export interface Mount {
  /** As statx() and /proc/PID/fdinfo have it. */
  readonly id: number;
  /** Device number of the file system: "7:4". */
  readonly dev: string;
  /** Where. */
  readonly point: string;
  /** "ext4", "devtmpfs". */
  readonly type: string;
  /** Of the mount, not of the file system: "rw", "nodev". */
  readonly options: readonly string[];
}

const MOST_BYTES = 1024 * 1024;

/** In the order in which they were mounted: of two at one point the last is the one that is seen. */
export function mounts(): Mount[] {
  using file = open("/proc/self/mountinfo", O_RDONLY);
  const lines = new TextDecoder().decode(readAt(file, 0, MOST_BYTES)).split("\n").slice(0, -1);
  return lines.map((line) => {
    // Optional fields stand between the sixth and " - ".
    const [mount, fileSystem] = line.split(" - ");
    const [id, , dev, , point, options] = mount.split(" ");
    const type = fileSystem.split(" ")[0];
    return { id: Number(id), dev, point: unescape(point), type, options: options.split(",") };
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
