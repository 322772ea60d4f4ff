/**
 * Attaching as losetup(8) does it. What the kernel may refuse is left to it to refuse.
 *
 * @module
 */
import { openBackingFile, openWritableOrNot, refusePseudo } from "../binding/backing_file.ts";
import { bindFreeDevice, type Binding } from "../binding/bind.ts";
import { changeFlags } from "../binding/change.ts";
import { aloneWith } from "../binding/file_lock.ts";
import { afterUndoing, laterUnlessRefused } from "../base/errors.ts";
import { LO_FLAGS_AUTOCLEAR } from "../kernel/loop.ts";
import { fileStatus } from "../kernel/stat.ts";
import { announceUnheard } from "../udev/lost_event.ts";
import { scanOnce } from "../binding/partscan_race.ts";
import { wrapperIn } from "../refuse_wrapped.ts";

export { attachChecked } from "../attach.ts";
export { checkOptions } from "../binding/options.ts";
export { LO_NAME_SIZE } from "../kernel/loop.ts";
export { openFoundLoop } from "../open_loop.ts";
export { readChecked } from "../read_partitions.ts";
export { findBackedBy, loopNumber, overlaps } from "../status.ts";

/**
 * Runs `operation` while nobody else decides whether this file may be attached. What keeps the file from
 * being opened, or is no file to attach, is left to the operation to say.
 */
export async function aloneWithFile<T>(
  path: string,
  timeout: number,
  operation: () => Promise<T>,
): Promise<T> {
  const opened = await laterUnlessRefused(() => openWritableOrNot(path, true));
  if (!opened) return await operation();
  using file = opened.file;
  // The lock takes a second open, which on a FIFO waits for a writer.
  const { type } = fileStatus(file);
  if (type !== "file" && type !== "block device") return await operation();
  return await aloneWith(file, { timeout }, operation);
}

/** What to bind, and whether the device goes when its last user does. */
export type UncheckedOptions = Omit<Binding, "backing" | "readOnly"> & {
  readonly readOnly?: boolean;
  readonly autoclear: boolean;
};

/** What attach() with partscan says of a file that is no disk yet. */
export async function wrapperOf(
  path: string,
  range: { offset: number; sizelimit: number },
): Promise<string | undefined> {
  using backing = await openBackingFile(path, { ...range, readOnly: true });
  return await wrapperIn(backing.file, { ...range, size: backing.size });
}

/** Attaches what attach() would refuse: no whole sector, an odd sector size, an unreadable table. */
export async function attachUnchecked(path: string, options: UncheckedOptions): Promise<string> {
  const { file: backing, readOnly } = await openWritableOrNot(path, options.readOnly);
  using _ = backing;
  // The kernel would take it, and a write to the device would change a setting of the machine.
  refusePseudo(backing);
  const bound = await bindFreeDevice({ ...options, backing, readOnly, partscan: false });
  // Bound with LO_FLAGS_AUTOCLEAR: until persistent, closing it undoes everything.
  try {
    if (options.partscan) await scanOnce(bound.device);
    announceUnheard(bound.number);
    // Open, and so bound, until this process ends.
    if (options.autoclear) return bound.path;
    await changeFlags(bound.device, (lo_flags) => lo_flags & ~LO_FLAGS_AUTOCLEAR);
  } catch (error) {
    throw await afterUndoing(error, bound.undo());
  }
  await bound.close();
  return bound.path;
}
