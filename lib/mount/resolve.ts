/**
 * Names in an image: its links are followed inside the image, as openat2(2) does with RESOLVE_IN_ROOT.
 * That is not used, since it refuses a name that does not exist yet. Each part that may have to be read
 * from the disk is looked at by another thread.
 *
 * @module
 */
import { isErrno, LoopError } from "../base/errors.ts";
import { decodeName } from "../base/names.ts";
import { isCachedWithoutLinks } from "../kernel/blocking.ts";
import { uninterruptedOnThread } from "../kernel/chain.ts";
import { check, cString, type OpenFile } from "../kernel/file.ts";

/** As many as the kernel follows. */
const MOST_LINKS = 40;
/** PATH_MAX */
const LONGEST_LINK = 4096;

/**
 * The name of `name` below `root` without a link in it; "" is the root itself. Rejects with LoopError;
 * `path` is the root's name in errors.
 */
export async function resolveBelow(root: OpenFile, name: string, path: string): Promise<string> {
  const left = parts(name);
  const done: string[] = [];
  takeCached(root, done, left);
  let isThere = true;
  for (let links = 0; left.length > 0;) {
    const part = left.shift()!;
    if (part === "..") {
      done.pop();
      isThere = true;
      continue;
    }
    // Below what does not exist nothing does.
    const link: string | boolean = isThere && await linkOf(root, [...done, part].join("/"), path);
    if (typeof link !== "string") {
      isThere = link;
      done.push(part);
      continue;
    }
    if (++links > MOST_LINKS) {
      throw new LoopError({ code: "ELOOP", path: `${path}/${name.replace(/^\/+/, "")}` });
    }
    if (link.startsWith("/")) done.length = 0;
    left.unshift(...parts(link));
    takeCached(root, done, left);
  }
  return done.join("/");
}

const parts = (name: string) => name.split("/").filter((part) => part !== "" && part !== ".");

/** Moves the parts that are no links, and known to the kernel without a look at the disk. */
function takeCached(root: OpenFile, done: string[], left: string[]): void {
  const up = left.indexOf("..");
  for (let count = up < 0 ? left.length : up; count > 0; count--) {
    if (!isCachedWithoutLinks(root, [...done, ...left.slice(0, count)].join("/"))) continue;
    done.push(...left.splice(0, count));
    return;
  }
}

/** Where the link leads; or whether what is none exists. No part of `name` before it is a link. */
async function linkOf(root: OpenFile, name: string, path: string): Promise<string | boolean> {
  const buffer = new Uint8Array(new ArrayBuffer(LONGEST_LINK));
  const length = await root.callOnThread((fd) =>
    uninterruptedOnThread("readlinkat", fd, cString(name), buffer, buffer.length)
  );
  // EINVAL: it is no link.
  if (isErrno(length, "EINVAL") || isErrno(length, "ENOENT")) return isErrno(length, "EINVAL");
  return decodeName(buffer.subarray(0, check(length, "readlink", `${path}/${name}`)));
}
