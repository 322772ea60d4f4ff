/**
 * The mounts of this process's namespace: /proc/self/mountinfo as values, see proc(5).
 *
 * @module
 */
import { decodeName } from "../base/names.ts";
import { readLines } from "./file.ts";

export interface Mount {
  /** The same as statx()'s and /proc/PID/fdinfo's. */
  readonly id: number;
  /** The mount that it lies on. */
  readonly parent: number;
  /** Device number of the file system: "7:4". */
  readonly dev: string;
  readonly point: string;
  /** "ext4", "devtmpfs" */
  readonly type: string;
  /** As it was given to mount: "/dev/loop4". */
  readonly source: string;
  /** Of the mount, not of the file system: "rw", "nodev". */
  readonly options: readonly string[];
  /** Of the file system, as its driver writes them: "ro", "logdev=/dev/loop5". */
  readonly superOptions: readonly string[];
}

/** In the order in which they were mounted: of two at one point, the last hides the other. */
export function mounts(): Mount[] {
  return lines().map(mountOf);
}

/** Those that lie on mount `parent`. A machine with containers has thousands of others. */
export function mountsOn(parent: number): Mount[] {
  const wanted = ` ${parent} `;
  // "36 35 98:0 /root /point …": the second number.
  return lines().filter((line) => line.startsWith(wanted, line.indexOf(" "))).map(mountOf);
}

/** Those of file systems of these types. */
export function mountsOfTypes(types: readonly string[]): Mount[] {
  const wanted = types.map((type) => ` - ${type} `);
  return lines().filter((line) => wanted.some((part) => line.includes(part))).map(mountOf);
}

const lines = () => readLines("/proc/self/mountinfo");

function mountOf(line: string): Mount {
  // Optional fields precede " - ". The kernel escapes spaces in all names.
  const [mount, ...rest] = line.split(" - ");
  const [id, parent, dev, , point, options] = mount.split(" ");
  const [type, source, superOptions] = rest.join(" - ").split(" ");
  return {
    id: Number(id),
    parent: Number(parent),
    dev,
    point: unescapeOctal(point),
    type,
    source: unescapeOctal(source),
    options: options.split(","),
    superOptions: superOptions.split(","),
  };
}

/** Whether `folder`'s mount has the option nodev. `folder` is a mount point or lies on the root mount. */
export function isNodev(folder: string): boolean {
  const all = mounts();
  const mount = all.findLast(({ point }) => point === folder) ??
    all.findLast(({ point }) => point === "/");
  return mount?.options.includes("nodev") ?? false;
}

/** Whether the kernel makes the nodes in /dev: a devtmpfs is mounted there. */
export function isDevtmpfs(): boolean {
  const found = lines().filter((line) => line.includes(" /dev ")).map(mountOf);
  return found.findLast(({ point }) => point === "/dev")?.type === "devtmpfs";
}

/** Lists of /proc, and fstab(5), have spaces and the like as `\040`: a byte, in three octal digits. */
export function unescapeOctal(name: string): string {
  if (!name.includes("\\")) return name;
  return name.replace(/(?:\\[0-3][0-7]{2})+/g, (escapes) => {
    const bytes = escapes.slice(1).split("\\").map((digits) => parseInt(digits, 8));
    return decodeName(Uint8Array.from(bytes));
  });
}
