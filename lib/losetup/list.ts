/**
 * What cli/ starts with, and all that its lists need. attach.ts, change.ts and trees.ts beside it are most of the
 * library: the files of cli/ that import those are loaded when they are asked for.
 *
 * These are for losetup(8), which takes whatever it is given, names that are no UTF-8 included,
 * where attach() and its like answer a wrong question with an explanation.
 *
 * @module
 */
export { isErrno, isRefusal, type LoopError, unlessRefused } from "../base/errors.ts";
export { decodeName, encodeName } from "../base/names.ts";
export { readSteadily } from "../base/steady.ts";
export { blkSszGet } from "../kernel/block.ts";
export {
  absolutePath,
  check,
  decodeDev,
  DT_DIR,
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
} from "../kernel/file.ts";
export { loop_info64, loopCtlGetFree, loopGetStatus64 } from "../kernel/loop.ts";
export { type FileStatus, fileStatus, isThere } from "../kernel/stat.ts";
export { SYS } from "../kernel/syscalls.ts";
export type { Descriptor } from "../runtime/contract.ts";
export { libc, waitHere } from "../runtime/libc.ts";
