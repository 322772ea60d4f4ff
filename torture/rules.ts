/** What must hold for the calls of one act, whatever came of it. */
import type { Call } from "./strace.ts";

/** Changes a device: allowed on ours alone. */
const CHANGES =
  /^(LOOP_(CLR_FD|SET_\w+|CHANGE_FD)|BLKPG\w*|BLKRRPART|BLKFLSBUF|BLKROSET|BLKDISCARD|BLKZEROOUT)$/;

/**
 * Calls that change a loop device which this process has not bound. `prepared` are those that it bound
 * before. Stale partitions of a free device may be deleted through a descriptor that was opened O_EXCL:
 * nobody can bind the device meanwhile.
 */
export function foreignChanges(calls: readonly Call[], prepared: readonly string[]): string[] {
  const ours = new Set(prepared);
  /** Which descriptors keep a device that was bound: those that were open at the bind. */
  const keeping = new Map<number, string>();
  const opened = new Map<number, string>();
  const exclusive = new Set<number>();
  const wrong: string[] = [];
  for (const { name, fd = -1, request, path, result, text } of calls) {
    if (name === "openat" && result !== undefined && result >= 0) {
      opened.set(result, path);
      if (text.includes("O_EXCL")) exclusive.add(result);
      else exclusive.delete(result);
    } else if (name === "close") {
      exclusive.delete(fd);
      opened.delete(fd);
      const kept = keeping.get(fd);
      keeping.delete(fd);
      if (kept !== undefined && ![...keeping.values()].includes(kept)) ours.delete(kept);
    } else if (request === "LOOP_CTL_REMOVE") {
      wrong.push(text);
    } else if (request === "LOOP_CONFIGURE" && result === 0) {
      ours.add(path);
      keeping.set(fd, path);
      for (const [other, itsPath] of opened) if (itsPath === path) keeping.set(other, path);
    } else if (request !== undefined && CHANGES.test(request) && path.startsWith("/dev/loop")) {
      const stale = request === "BLKPG_DEL_PARTITION" && exclusive.has(fd);
      if (!ours.has(path.replace(/(loop\d+)p\d+$/, "$1")) && !stale) wrong.push(text);
    }
  }
  return wrong.map((text) => `changes a device that is not ours: ${text}`);
}

const CLOSED_ON_EXEC: Record<string, string> = {
  open: "O_CLOEXEC",
  openat: "O_CLOEXEC",
  openat2: "O_CLOEXEC",
  memfd_create: "MFD_CLOEXEC",
  socket: "SOCK_CLOEXEC",
  dup3: "O_CLOEXEC",
  inotify_init1: "IN_CLOEXEC",
  fsopen: "FSOPEN_CLOEXEC",
  fsmount: "FSMOUNT_CLOEXEC",
};

/** Descriptors that a child process would inherit. */
export function inheritable(calls: readonly Call[]): string[] {
  return calls.filter(({ name, text, result }) =>
    result !== undefined && result >= 0 &&
    (name === "dup" || name in CLOSED_ON_EXEC && !text.includes(CLOSED_ON_EXEC[name]))
  ).map(({ text }) => `a child process would inherit it: ${text}`);
}
