/** What must hold after a fault: which error the library may tell for it, and what it must say. */
import { type Call, signature } from "./strace.ts";
import type { Reply } from "./subject_process.ts";

/** Errors that are an answer, and would be a lie here: the library rightly believes them. */
const LIES = [
  // Nothing is bound, or there is no such partition: somebody else was faster.
  { call: /^ioctl (LOOP_CLR_FD|BLKPG_DEL_PARTITION)/, error: /^(ENXIO|ENODEV)/ },
  // Its timeout has thawed it.
  { call: /^ioctl FITHAW/, error: /^EINVAL/ },
  // The partition went away while we looked.
  { call: /\/sys\/block\/loopN\/loopNp/, error: /^(ENXIO|ENODEV)/ },
  // It is mounted: the device goes with its last user.
  { call: /^ioctl BLKPG_DEL_PARTITION/, error: /^EBUSY from then on$/ },
];

/** Whether an error says something that is not so, and that nobody could see through. */
export function isLie(call: string, error: string): boolean {
  return LIES.some((lie) => lie.call.test(call) && lie.error.test(error));
}

/** strace's names of what the manual, and so a LoopError, calls otherwise. */
const MANUAL: Record<string, string> = {
  openat: "open",
  pread64: "pread",
  pwrite64: "pwrite",
  mknodat: "mknod",
  unlinkat: "unlink",
  readlinkat: "readlink",
  newfstatat: "stat",
  mkdirat: "mkdir",
};

/** posix_spawn() makes these, in us and in the child. */
const SPAWNS = /^(clone3?|vfork|setsid|dup2|execve)$/;
/**
 * What users know by another name: a mount by its device or its path, the keeper's pipe and script, a
 * directory of a command's namespace.
 */
const HAS_OTHER_NAME =
  /^($|\/$|\/\w{20}\/|\/run\/loopdev(-owned)?(\/|$)|\/proc\/self\/fd\/?\d*$|\/proc\/self\/fd\/\d+\/|\/proc\/\d+\/root\/|\/memfd:)/;

/** Errors by which the kernel says something that users are told in other words. */
const TRANSLATED = [
  // The device, or what was bound to it, went away while we looked: no file is bound to it.
  {
    call: /^(openat|pread64 fd|ioctl LOOP_GET_STATUS64 fd) \/(sys\/block|dev)\/loopN/,
    from: ["ENXIO", "ENODEV"],
    to: "ENXIO",
  },
  // A partition that cannot be claimed is in use, and cannot be removed.
  { call: /^openat \/dev\/loopNp/, from: ["EBUSY"], to: "EBUSY" },
  // A partition that never appears: the message says which are missing.
  { call: /^ioctl BLKPG_ADD_PARTITION/, from: ["EBUSY"], to: "ETIMEDOUT" },
  { call: / \/sys\/dev\/block\/7:N\/uevent/, from: ["ENXIO", "ENODEV"], to: "ENOTBLK" },
];

/** Whether an error names a call that failed. */
export function names(error: NonNullable<Reply["error"]>, call: Call): boolean {
  const { name, request, injected = "" } = call;
  const isOther = /^(symlinkat|fs(open|config|mount))$/.test(name) ||
    HAS_OTHER_NAME.test(call.path) ||
    SPAWNS.test(name);
  const path = error.path ?? "";
  const isNamed = path === call.path || isOther && path !== "" ||
    name.endsWith("at") && path.startsWith(`${call.path}/`);
  const syscalls = SPAWNS.test(name) ? ["posix_spawn"] : [name, MANUAL[name]];
  const translated = TRANSLATED.some((row) =>
    row.call.test(signature(call)) && row.from.includes(injected) && row.to === error.code
  );
  return translated || error.code === injected && error.request === request &&
      isNamed && syscalls.includes(error.syscall!);
}

/** All that an act has said: its error, what lies behind that, and what it has written to stderr. */
export const wordsOf = ({ error, warned = "" }: Reply): string =>
  [error?.message, ...error?.behind ?? [], warned].filter(Boolean).join(" | ");

/** Whether an error says nothing of the one that the first failure alone gives. */
export function hidesFirst({ error: alone }: Reply, reply: Reply): boolean {
  // Numbers of devices, processes, descriptors, records and mounts differ from run to run.
  const plain = (text = "") =>
    text.replaceAll(/loop\d+/g, "loopN").replaceAll(/\b(7|259):\d+/g, "$1:N")
      .replaceAll(/(?<=\.(?:at|owned)-[0-9a-f]{8})-\d+/g, "-N")
      .replaceAll(/\d+-\d+-\w{10}|(?<=\/)\d+(?=\/|'|$)|-\d{6}|(?<=\/\.)\d{6}\.\d+(?=\.)/g, "N");
  const [what] = plain(alone?.message).split(" (");
  return alone !== undefined && reply.error !== undefined && !plain(wordsOf(reply)).includes(what);
}

/** Whether a call that failed would have told that bytes have not reached the disk. */
export const isLoss = ({ name, injected = "", path, text }: Call): boolean =>
  ["EIO", "ENOSPC"].includes(injected) && !/\.img$/.test(path) &&
  (name === "fsync" || name === "syncfs" ||
    name === "sync_file_range" && text.includes("SYNC_FILE_RANGE_WRITE"));

export const saysLoss = (reply: Reply): boolean =>
  /\blost\b|not all that was written|space left/.test(wordsOf(reply));
