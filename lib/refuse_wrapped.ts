/**
 * Refusing an image that is no disk yet: one in a virtual machine's format, compressed, or archived.
 * The kernel would attach it, and the device would look like an empty disk.
 *
 * @module
 */
import { LoopError } from "./base/errors.ts";
import { partSize } from "./binding/backing_file.ts";
import { findInPart, readTableIn } from "./binding/image_table.ts";
import type { OpenFile } from "./kernel/file.ts";
import { loadFileSystem } from "./mount/late.ts";
import { describeWrapper, findWrapper } from "./superblocks/wrappers.ts";

/** Which part of a file; bytes, `sizelimit` 0: up to the end. */
interface Part {
  readonly size: number;
  readonly offset?: number;
  readonly sizelimit?: number;
}

/** What this part of a file is instead of a disk, and what can be done; undefined: nothing that is known. */
export async function wrapperIn(
  file: OpenFile,
  { size: fileSize, offset = 0, sizelimit = 0 }: Part,
): Promise<string | undefined> {
  const size = partSize(fileSize, { offset, sizelimit });
  const wrapper = await findInPart(file, { offset, size }, findWrapper(size));
  if (wrapper === undefined) return undefined;
  const { kind } = await readTableIn(file, { size, offset, sectorSize: "auto" });
  if (kind !== "none") return undefined;
  const { fileSystemsIn } = await loadFileSystem();
  const found = await fileSystemsIn(file, { offset, size });
  return found.length > 0 ? undefined : describeWrapper(wrapper);
}

/** Throws if it is one. */
export async function refuseWrapped(file: OpenFile, part: Part): Promise<void> {
  const hint = await wrapperIn(file, part);
  if (hint === undefined) return;
  throw new LoopError({ code: "EINVAL", syscall: "pread", path: file.path, hint });
}
