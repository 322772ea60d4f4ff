/**
 * The door for cli/, which comes in by this one and by mod.ts alone. Users have no need of it: it is
 * what losetup(8) does to whatever it is given, names that are no UTF-8 included, where attach() and
 * its like answer a wrong question with an explanation.
 *
 * Listing starts with what is imported here; the rest, most of the library, is loaded when it is asked
 * for.
 *
 * @module
 */
export { isErrno, isRefusal, type LoopError } from "./base/errors.ts";
export { decodeName, encodeName } from "./base/names.ts";
export { blkSszGet } from "./kernel/block.ts";
export {
  check,
  decodeDev,
  encodeDev,
  ifExists,
  listDirectory,
  O_RDONLY,
  O_RDWR,
  open,
  type OpenFile,
  readAt,
  readLink,
  readText,
} from "./kernel/file.ts";
export { LO_NAME_SIZE, loop_info64, loopCtlGetFree, loopGetStatus64 } from "./kernel/loop.ts";
export { type FileStatus, fileStatus, isThere } from "./kernel/stat.ts";
export { SYS } from "./kernel/syscalls.ts";
export type { Descriptor } from "./runtime/contract.ts";
export { libc, waitHere } from "./runtime/libc.ts";

/** What attaches. */
export const loadAttach = (): Promise<typeof import("./losetup_attach.ts")> =>
  import("./losetup_attach.ts");

/** What detaches and changes. */
export const loadChange = (): Promise<typeof import("./losetup_change.ts")> =>
  import("./losetup_change.ts");
