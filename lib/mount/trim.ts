/**
 * What a file system does not use is discarded.
 *
 * @module
 */
import { isRefusal, type LoopError } from "../base/errors.ts";
import { whyNotPermitted } from "../kernel/capabilities.ts";
import type { OpenFile } from "../kernel/file.ts";
import { fiTrim } from "../kernel/super_block.ts";

/** Bytes that were discarded. `root`: of the mount; `type`: of its file system. */
export async function trim(root: OpenFile, type: string): Promise<number> {
  try {
    return await fiTrim(root);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    const hint = whyNoTrim(error, type);
    throw hint === undefined ? error : error.withHint(hint);
  }
}

/** Why a file system of this type was not trimmed, and what helps. */
export function whyNoTrim({ code }: LoopError, type: string): string | undefined {
  switch (code) {
    case "ENOTTY":
      return `the driver of ${type} does not trim`;
    case "EOPNOTSUPP":
      return "the device below does not take discards: a loop device does where the image's own file " +
        "system can make holes in files, a dm-crypt device after cryptsetup open --allow-discards";
    case "EROFS":
      return "it is mounted read-only";
    case "EPERM":
      return whyNotPermitted("trim()", "CAP_SYS_ADMIN");
    default:
      return undefined;
  }
}
