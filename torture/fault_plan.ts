/** Which call shall fail how, and which error the library may tell for it. */
import type { Request } from "./common.ts";
import { ERRORS } from "./errors.ts";
import { type Call, signature } from "./strace.ts";
import type { Reply } from "./subject_process.ts";

export interface Fault {
  readonly call: Call;
  /** Which of the calls that are alike. */
  readonly occurrence: number;
  readonly code: string;
  /** Every call of this name from here on fails, not only this one: on any thread. */
  readonly lasting: boolean;
  readonly name: string;
}

/** Errors that are an answer, and would be a lie here: the library rightly believes them. */
const LIES = [
  // Nothing is bound, or there is no such partition: somebody else was faster.
  { call: /^ioctl (LOOP_CLR_FD|BLKPG_DEL_PARTITION)/, error: /^(ENXIO|ENODEV)/ },
  // The partition went away while we looked.
  { call: /\/sys\/block\/loopN\/loopNp/, error: /^(ENXIO|ENODEV)/ },
  // It is mounted: the device goes with its last user.
  { call: /^ioctl BLKPG_DEL_PARTITION/, error: /^EBUSY from then on$/ },
];

/** Whether an error says something that is not so, and that nobody could see through. */
export function isLie(call: string, error: string): boolean {
  return LIES.some((lie) => lie.call.test(call) && lie.error.test(error));
}

/** What the forms of a mount do differently. */
const PLACES =
  /^(move_mount|umount2|mkdirat|mknodat|unlinkat|readlink(at)?|flock|pipe2|ppoll|memfd_create|fcntl|setsid|dup2|execve|wait4)$/;

const CI_EVERY = 3;
const DRAWN = Math.floor(Math.random() * 1000);

/**
 * At ci size only the calls by which a further form of a mount differs from the first; one of calls that
 * differ only in their partition; and of the errors every third, or fewer by the scale: which ones is drawn
 * for each run, and turns with the experiment.
 */
export function plan(
  calls: readonly Call[],
  mainThread: string,
  prefix: string,
  { full, scale, only }: Request,
  turn: number,
): Fault[] {
  const every = full || only ? 1 : Math.max(1, Math.round(CI_EVERY / scale));
  const faults: Fault[] = [];
  const seen = new Map<string, number>();
  const alike = new Map<string, number>();
  for (const call of calls) {
    const occurrence = alike.get(signature(call)) ?? 0;
    alike.set(signature(call), occurrence + 1);
    const kind = signature(call).replaceAll(/loopNp\d+/g, "loopNpN")
      .replaceAll(/\/proc\/\d+\//g, "/proc/N/");
    const times = (seen.get(kind) ?? 0) + 1;
    seen.set(kind, times);
    if (!full && / mount-/.test(prefix) && !PLACES.test(call.name)) continue;
    // One process of those that are asked who has a device open stands for all.
    if (times > 1 && (!full || kind.includes("/proc/N/"))) continue;
    for (const [i, code] of (ERRORS[call.name] ?? []).entries()) {
      if ((i + seen.size + turn + DRAWN) % every !== 0) continue;
      const lasts = full && times === 1 && call.name === "ioctl" && call.thread === mainThread &&
        ["EAGAIN", "EBUSY", "EIO"].includes(code);
      for (const lasting of lasts ? [false, true] : [false]) {
        const error = `${code}${lasting ? " from then on" : ""}`;
        if (isLie(kind, error)) continue;
        const name = `${prefix} ${signature(call)} #${times} ${error}`;
        if (only?.test(name) ?? true) faults.push({ call, occurrence, code, lasting, name });
      }
    }
  }
  return faults;
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
const HAS_OTHER_NAME = /^($|\/$|\/proc\/self\/fd\/\d+$|\/proc\/\d+\/root\/|\/memfd:)/;

/** Errors by which the kernel says something that users are told in other words. */
const TRANSLATED = [
  // The device, or what was bound to it, went away while we looked: no file is bound to it.
  {
    call: /^(openat|pread64 fd|ioctl LOOP_GET_STATUS64 fd) \/(sys\/block|dev)\/loopN/,
    from: ["ENXIO", "ENODEV"],
    to: "ENXIO",
  },
  // A partition that never appears: the message says which are missing.
  { call: /^ioctl BLKPG_ADD_PARTITION/, from: ["EBUSY"], to: "ETIMEDOUT" },
  { call: / \/sys\/dev\/block\/7:N\/uevent/, from: ["ENXIO", "ENODEV"], to: "ENOTBLK" },
];

/** Whether an error names a call that failed. */
export function names(error: NonNullable<Reply["error"]>, call: Call): boolean {
  const { name, request, injected = "" } = call;
  const isOther = /^fs(open|config|mount)$/.test(name) || HAS_OTHER_NAME.test(call.path) ||
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
