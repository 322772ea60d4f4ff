/**
 * Names of an image: its links are followed inside of it, as openat2(2) does with RESOLVE_IN_ROOT. That
 * call itself refuses a name that does not exist yet, and is Linux 5.6.
 *
 * @module
 */
import { type ErrorCode, isErrno, LoopError } from "../base/errors.ts";
import { decodeName } from "../base/names.ts";
import { uninterruptedOnThread } from "../kernel/chain.ts";
import { check, cString, type OpenFile } from "../kernel/file.ts";

/** The kernel's own limit. */
const MOST_LINKS = 40;
/** PATH_MAX */
const LONGEST_LINK = 4096;

/**
 * The name of `name` below `root` without a link in it; "" is the root itself. Rejects with LoopError;
 * `path` is what errors call the root.
 */
export async function resolveBelow(root: OpenFile, name: string, path: string): Promise<string> {
  const refuse = (code: ErrorCode) =>
    new LoopError({ code, syscall: "openat2", path: `${path}/${name.replace(/^\/+/, "")}` });
  const left = parts(name);
  const done: string[] = [];
  for (let links = 0; left.length > 0;) {
    const part = left.shift()!;
    if (part === "..") {
      done.pop();
      continue;
    }
    const here = [...done, part].join("/");
    const link = await linkOf(root, here, refuse);
    if (link === undefined) {
      done.push(part);
      continue;
    }
    if (++links > MOST_LINKS) throw refuse("ELOOP");
    if (link.startsWith("/")) done.length = 0;
    left.unshift(...parts(link));
  }
  return done.join("/");
}

const parts = (name: string) => name.split("/").filter((part) => part !== "" && part !== ".");

/** Where the link leads; undefined: it is none, or does not exist. Everything before it is no link. */
async function linkOf(
  root: OpenFile,
  name: string,
  refuse: (code: ErrorCode) => LoopError,
): Promise<string | undefined> {
  const buffer = new Uint8Array(new ArrayBuffer(LONGEST_LINK));
  const length = await root.callOnThread((fd) =>
    uninterruptedOnThread("readlinkat", fd, cString(name), buffer, buffer.length)
  );
  // EINVAL: it is no link.
  if (isErrno(length, "EINVAL") || isErrno(length, "ENOENT")) return undefined;
  if (isErrno(length, "ENOTDIR")) throw refuse("ENOTDIR");
  return decodeName(buffer.subarray(0, check(length, "readlink", root.path)));
}
