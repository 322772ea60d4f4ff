/**
 * An image that would be copied into itself, or be overwritten by one of its own files: while it is mounted
 * neither gives anything but damage.
 *
 * @module
 */
import {
  absolutePath,
  DT_DIR,
  fileStatus,
  ifExists,
  listDirectory,
} from "../../lib/losetup/list.ts";
import { Failure } from "../failure.ts";
import { canonicalPath } from "../show.ts";
import { type Copy, splitLast } from "./place.ts";

/** Throws if one of the sources is the image, or has it somewhere below it. */
export function refuseIntoItself({ image, from }: Copy): void {
  // Of a block device cp(1) copies the node.
  if (fileStatus(image).type !== "file") return;
  const own = canonicalPath(image);
  for (const source of from) {
    const path = withoutLinks(absolutePath(source));
    if (own === path) throw new Failure(`'${image}' cannot be copied into itself`);
    if (own.startsWith(`${path}/`)) {
      throw new Failure(`'${source}' has ${image} in it, which cannot be copied into itself`);
    }
  }
}

/** The path without links on the way. One at the end stays, since cp(1) copies the link itself. */
function withoutLinks(path: string): string {
  const { folder, last } = splitLast(path);
  if (last === undefined) return inRoot(canonicalPath(path));
  return `${inRoot(canonicalPath(folder))}/${last}`;
}

/** Names are put behind it. */
const inRoot = (path: string) => (path === "/" ? "" : path);

/**
 * Throws if the copy would overwrite the image. `sources`: as cp(1) gets them, relative to `root`, where the
 * image is mounted.
 */
export function refuseOverItself(
  { image, to }: Copy,
  sources: readonly string[],
  root: string,
): void {
  const target = ifExists(() => fileStatus(absolutePath(to)));
  if (target === undefined) return;
  if (target.type !== "directory") {
    const { dev, inode } = fileStatus(image);
    if (dev !== target.dev || inode !== target.inode) return;
    throw overwritten(to, `a place in it is ${image}:/path`);
  }
  const own = canonicalPath(image);
  const folder = inRoot(canonicalPath(to));
  for (const source of sources) {
    const path = source.replace(/\/\.?$/, "");
    const isMerged = path === "." || source.endsWith("/.");
    const copied = isMerged ? folder : `${folder}${path.slice(path.lastIndexOf("/"))}`;
    if (own !== copied && !own.startsWith(`${copied}/`)) continue;
    const over = `${path}${own.slice(copied.length)}`;
    if (isIn(root, over)) throw overwritten(own, `${image}:${over.slice(1)} has its name`);
  }
}

const overwritten = (path: string, why: string) =>
  new Failure(`'${path}' is the image itself, and would be overwritten: ${why}`);

/** Whether cp(1) finds it there. It follows no link below a source. */
function isIn(root: string, name: string): boolean {
  const [, ...parts] = name.split("/");
  return parts.every((part, i) => {
    const folder = [root, ...parts.slice(0, i)].join("/");
    const isLast = i === parts.length - 1;
    return listDirectory(folder, isLast ? undefined : DT_DIR).includes(part);
  });
}
