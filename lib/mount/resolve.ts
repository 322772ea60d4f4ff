/**
 * Names in an image: its links are followed inside the image, as openat2(2) does with RESOLVE_IN_ROOT.
 * That call is not used: it is of Linux 5.6, and refuses a name that does not exist yet.
 *
 * @module
 */
import { isErrno, LoopError } from "../base/errors.ts";
import { decodeName } from "../base/names.ts";
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
  for (let links = 0; left.length > 0;) {
    const part = left.shift()!;
    if (part === "..") {
      done.pop();
      continue;
    }
    const link = await linkOf(root, [...done, part].join("/"), path);
    if (link === undefined) {
      done.push(part);
      continue;
    }
    if (++links > MOST_LINKS) {
      throw new LoopError({ code: "ELOOP", path: `${path}/${name.replace(/^\/+/, "")}` });
    }
    if (link.startsWith("/")) done.length = 0;
    left.unshift(...parts(link));
  }
  return done.join("/");
}

const parts = (name: string) => name.split("/").filter((part) => part !== "" && part !== ".");

/** Where the link leads; undefined: it is none, or does not exist. No part of `name` before it is a link. */
async function linkOf(root: OpenFile, name: string, path: string): Promise<string | undefined> {
  const buffer = new Uint8Array(new ArrayBuffer(LONGEST_LINK));
  const length = await root.callOnThread((fd) =>
    uninterruptedOnThread("readlinkat", fd, cString(name), buffer, buffer.length)
  );
  // EINVAL: it is no link.
  if (isErrno(length, "EINVAL") || isErrno(length, "ENOENT")) return undefined;
  return decodeName(buffer.subarray(0, check(length, "readlink", `${path}/${name}`)));
}
