/**
 * {@linkcode LoopError}: a refusal of the system, in the shape of Node's system errors, with a hint about
 * its cause.
 *
 * @module
 */

/**
 * The errors that loop devices can give, by their names in errno(3).
 *
 * @example
 * ```ts
 * import { type ErrorCode, LoopError } from "@loopdev/loopdev";
 * const isOneOf = (error: unknown, ...codes: ErrorCode[]) =>
 *   error instanceof LoopError && codes.some((code) => code === error.code);
 * ```
 */
// deno-fmt-ignore
export type ErrorCode =
  | "EPERM" | "ENOENT" | "ESRCH" | "EINTR" | "EIO" | "ENXIO"
  | "ENOEXEC" | "EBADF" | "ECHILD" | "EAGAIN" | "ENOMEM" | "EACCES" | "EFAULT" | "ENOTBLK"
  | "EBUSY" | "EEXIST" | "ENODEV" | "ENOTDIR" | "EISDIR" | "EINVAL"
  | "ENFILE" | "EMFILE" | "ENOTTY" | "ETXTBSY" | "EFBIG" | "ENOSPC"
  | "EROFS" | "EPIPE" | "ERANGE" | "ENAMETOOLONG" | "ENOLCK" | "ENOSYS" | "ELOOP"
  | "ENODATA" | "EOVERFLOW" | "EOPNOTSUPP" | "ETIMEDOUT" | "ESTALE" | "EUCLEAN"
  | "EDQUOT" | "EMEDIUMTYPE" | "EBADMSG";

/** Their numbers in `<asm-generic/errno.h>`, and glibc's words in lower case. */
const ERRORS: Record<ErrorCode, [errno: number, text: string]> = {
  EPERM: [1, "operation not permitted"],
  ENOENT: [2, "no such file or directory"],
  ESRCH: [3, "no such process"],
  EINTR: [4, "interrupted system call"],
  EIO: [5, "input/output error"],
  ENXIO: [6, "no such device or address"],
  ENOEXEC: [8, "exec format error"],
  EBADF: [9, "bad file descriptor"],
  ECHILD: [10, "no child processes"],
  EAGAIN: [11, "resource temporarily unavailable"],
  ENOMEM: [12, "cannot allocate memory"],
  EACCES: [13, "permission denied"],
  EFAULT: [14, "bad address"],
  ENOTBLK: [15, "block device required"],
  EBUSY: [16, "device or resource busy"],
  EEXIST: [17, "file exists"],
  ENODEV: [19, "no such device"],
  ENOTDIR: [20, "not a directory"],
  EISDIR: [21, "is a directory"],
  EINVAL: [22, "invalid argument"],
  ENFILE: [23, "too many open files in system"],
  EMFILE: [24, "too many open files"],
  ENOTTY: [25, "inappropriate ioctl for device"],
  ETXTBSY: [26, "text file busy"],
  EFBIG: [27, "file too large"],
  ENOSPC: [28, "no space left on device"],
  EROFS: [30, "read-only file system"],
  EPIPE: [32, "broken pipe"],
  ERANGE: [34, "numerical result out of range"],
  ENAMETOOLONG: [36, "file name too long"],
  ENOLCK: [37, "no locks available"],
  ENOSYS: [38, "function not implemented"],
  ELOOP: [40, "too many levels of symbolic links"],
  ENODATA: [61, "no data available"],
  EBADMSG: [74, "bad message"],
  EOVERFLOW: [75, "value too large for defined data type"],
  EOPNOTSUPP: [95, "operation not supported"],
  ETIMEDOUT: [110, "timed out"],
  ESTALE: [116, "stale file handle"],
  EUCLEAN: [117, "structure needs cleaning"],
  EDQUOT: [122, "disk quota exceeded"],
  EMEDIUMTYPE: [124, "wrong medium type"],
};

/** Whether a system call gave this error: `result` is −errno. */
export function isErrno(result: number, code: ErrorCode): boolean {
  return -result === ERRORS[code][0];
}

/** Whether it is a LoopError with one of these codes, or with any if none is given. */
export function isRefusal(error: unknown, ...codes: ErrorCode[]): error is LoopError {
  return error instanceof LoopError &&
    (codes.length === 0 || (codes as string[]).includes(error.code));
}

/** Undefined where the system refuses `look` with one of these codes, or with any if none is given. */
export function unlessRefused<T>(look: () => T, ...codes: ErrorCode[]): T | undefined {
  try {
    return look();
  } catch (error) {
    if (isRefusal(error, ...codes)) return undefined;
    throw error;
  }
}

/** The same of what takes its time. */
export async function laterUnlessRefused<T>(
  look: () => Promise<T>,
  ...codes: ErrorCode[]
): Promise<T | undefined> {
  try {
    return await look();
  } catch (error) {
    if (isRefusal(error, ...codes)) return undefined;
    throw error;
  }
}

/** What `look` gives, or the system's refusal of it. */
export async function orRefusal<T>(look: () => Promise<T>): Promise<T | LoopError> {
  try {
    return await look();
  } catch (error) {
    if (isRefusal(error)) return error;
    throw error;
  }
}

/**
 * What is looked up to explain an error. If that is refused as well, undefined: the error that it was for is
 * told without it, and not hidden by the second one.
 */
export const toExplain: <T>(look: () => T) => T | undefined = unlessRefused;

/** The same of what takes its time. */
export const laterToExplain: <T>(look: () => Promise<T>) => Promise<T | undefined> =
  laterUnlessRefused;

/**
 * The same error with more at the end of its hint: what is left after it, and what takes that away. Any other
 * error as it is.
 */
export let withMore: (error: unknown, more: string) => unknown;

/** The same error of a file that was opened by another name than the one which tells a person. */
export let withPath: (error: unknown, path: string) => unknown;

/**
 * The first of two errors, which tells the second one as well: what it was met for could not be done, and so
 * is left. What both say is told once.
 */
export let withSecond: (first: unknown, second: unknown) => unknown;

/** Whether who has heard `told` knows all that `error` says. */
export const isTold = (error: unknown, told: unknown): boolean =>
  told instanceof Error && (error as Error).message === told.message;

/** The first error, when what undoes the rest after it has ended; it tells what of that failed. */
export function afterUndoing(error: unknown, undo: Promise<unknown>): Promise<unknown> {
  return undo.then(() => error, (second) => withSecond(error, second));
}

/**
 * Hints that follow from the call and its error alone; what has to be looked up is looked up where the
 * error arises. The expression matches "CALL PATH", where CALL is the ioctl request if there is one. The
 * first match wins, so a narrow row stands above a wide one.
 */
const HINTS: readonly [code: ErrorCode, on: RegExp, hint: string][] = [
  [
    "ENOENT",
    / \/dev\/loop-control$/,
    "is the loop module loaded (modprobe loop), and does this container have /dev/loop-control?",
  ],
  [
    "ENOTTY",
    / \/dev\/loop-control$/,
    "it is not the loop driver's control device, which is character device 10:237",
  ],
  [
    "ENODEV",
    / \/dev\/loop-control$/,
    "this kernel has no loop driver, or its module is not installed for the running kernel",
  ],
  [
    "EACCES",
    /^open \/dev\/loop/,
    "attaching loop devices needs root; without it: readPartitions(), or systemd-mountfsd; root gets this " +
    "where /dev is mounted nodev: mount -o remount,dev /dev",
  ],
  [
    "EACCES",
    // Files of /dev/shm are no devices.
    /^open \/dev\/(?!shm\/)/,
    "a block device needs root, and for root a /dev that is not mounted nodev: mount -o remount,dev /dev",
  ],
  [
    "EPERM",
    /^open \/dev\/loop/,
    // The kernel asks for the node's permissions first, which it would refuse with EACCES.
    "a device cgroup, as containers and units have, or a security module forbids it to root as well: " +
    "allow /dev/loop-control and block devices 7:*, of partitions 259:* (docker run --device " +
    "/dev/loop-control --device-cgroup-rule 'b 7:* rwm', systemd's DeviceAllow=/dev/loop-control rw and " +
    "DeviceAllow=block-loop rwm)",
  ],
  ["EPERM", /^LOOP_SET_STATUS64 /, "through a read-only file descriptor this needs CAP_SYS_ADMIN"],
  ["EPERM", /^BLKPG/, "adding and removing partitions needs CAP_SYS_ADMIN"],
  ["EACCES", /^BLKPG/, "adding and removing partitions needs CAP_SYS_ADMIN"],
  [
    "EBUSY",
    /^BLKPG_ADD_PARTITION /,
    "the partition overlaps one that the kernel has, or its number is taken",
  ],
  [
    "EBUSY",
    /^BLKPG_DEL_PARTITION /,
    "the partition is in use (holders() says by whom): unmount it first, or close it",
  ],
  [
    "EBUSY",
    /^LOOP_SET_BLOCK_SIZE /,
    "it cannot change while the device is mounted or somebody holds it exclusively (holders() " +
    "or losetup, findmnt say who): unmount it first",
  ],
  [
    "EBUSY",
    /^LOOP_CONFIGURE /,
    "others took or hold every device the kernel offered (losetup --list shows who has what)",
  ],
  [
    "EINVAL",
    /^LOOP_CHANGE_FD /,
    "only a read-only device can change its file, and only for one of the same size",
  ],
  [
    "EINVAL",
    /^LOOP_SET_DIRECT_IO /,
    "the backing file's file system, or its alignment, does not allow direct I/O",
  ],
  [
    "EAGAIN",
    /^posix_spawn /,
    "no process can be started: this user or this control group has as many as it may (ulimit -u, pids.max)",
  ],
  [
    "ENOENT",
    / \/proc\/sys\/kernel\/random\/boot_id$/,
    "is /proc mounted whole? With subset=pid, as a unit's ProcSubset=pid has it, /proc/sys is not there",
  ],
  ["EMFILE", /^/, "this process has reached its limit of open files (ulimit -n)"],
  ["ENOSPC", /^LOOP_CTL_/, "no free loop device and no number left for a new one"],
];

/**
 * V8 keeps ten stack frames by default, and as many of the library's can lie between the caller's line and
 * the system call.
 */
const USUAL_FRAMES = 10;
const FRAMES = 30;
const Errors = Error as unknown as { stackTraceLimit: number };

/**
 * What the constructor of {@linkcode LoopError} takes.
 *
 * @example
 * ```ts
 * import { LoopError } from "@loopdev/loopdev";
 * const error = new LoopError({ code: "ENOENT", syscall: "open", path: "/no/such.img" });
 * console.log(error.errno); // -2
 * ```
 */
export interface LoopErrorInit {
  /** The error, as in errno(3): its name, or the positive number that the kernel gave. */
  code: ErrorCode | number;
  /** The system call that failed, as its manual page calls it: "open", "ioctl"; none if none did. */
  syscall?: string;
  /** The file or device. */
  path: string;
  /** The ioctl request, as the kernel's headers call it: "LOOP_CONFIGURE". */
  request?: string;
  /** What caused it, or what to do about it; by default what call and code say by themselves. */
  hint?: string;
  /** What the hint speaks of, line by line, below the message. */
  lines?: readonly string[];
  /** The error behind this one. */
  cause?: unknown;
}

/**
 * The system refused something. Has the fields of Node's system errors. Branch on
 * {@linkcode LoopError.code}: the message is for people and may change.
 *
 * @example
 * ```ts
 * import { attach, LoopError } from "@loopdev/loopdev";
 * try {
 *   await using loop = await attach("/no/such.img");
 * } catch (error) {
 *   if (!(error instanceof LoopError) || error.code !== "ENOENT") throw error;
 * }
 * ```
 */
export class LoopError extends Error {
  /** Always `"LoopError"`. */
  override readonly name = "LoopError";
  /** Symbolic error, as in errno(3): `"EBUSY"`. */
  readonly code: string;
  /** Negative error number: −16. */
  readonly errno: number;
  /** What strerror(3) says, in lower case: "device or resource busy". */
  readonly reason: string;
  /** The system call that failed: `"ioctl"`. Undefined where the library refused before any call did. */
  declare readonly syscall?: string;
  /** The file or device: `"/dev/loop4"`. */
  readonly path: string;
  /** The ioctl request, if it was one: `"LOOP_CONFIGURE"`. */
  declare readonly request?: string;
  readonly #lines: readonly string[];
  readonly #hint: string | undefined;

  static {
    withMore = (error, more) => {
      if (!isRefusal(error)) return error;
      return error.withHint(error.#hint ? `${error.#hint}; ${more}` : more);
    };
    withPath = (error, path) => isRefusal(error) ? error.#with({ path }) : error;
    withSecond = (first, second) => {
      if (!isRefusal(first) || !isRefusal(second) || first.message === second.message) return first;
      const told = HINTS.find(([, , hint]) =>
        first.#hint?.includes(hint) && second.#hint?.includes(hint)
      )?.[2];
      const { message } = told === undefined
        ? second
        : second.withHint(second.#hint!.replace(told, "").replace(/^; /, ""));
      return withMore(first, `and then ${message}`);
    };
  }

  /** Composes the message from the call, the error, the hint and the lines below it. */
  constructor({ code: given, syscall, path, request, hint, lines = [], cause }: LoopErrorInit) {
    const [code, errno, text] = describe(given);
    const call = request ?? syscall;
    hint ??= HINTS.find(([on, expression]) => on === code && expression.test(`${call} ${path}`))
      ?.[2];
    const shown = Errors.stackTraceLimit;
    // A program that has asked for fewer gets no more.
    if (shown >= USUAL_FRAMES) Errors.stackTraceLimit = Math.max(shown, FRAMES);
    super(
      `${code}: ${text}, ${call ? `${call} ` : ""}${quote(path)}${
        hint ? ` (${printable(hint)})` : ""
      }${lines.map((line) => `\n  ${printable(line)}`).join("")}`,
      cause === undefined ? undefined : { cause },
    );
    Errors.stackTraceLimit = shown;
    this.#lines = lines;
    this.#hint = hint;
    this.code = code;
    this.errno = -errno;
    this.reason = text;
    if (syscall !== undefined) this.syscall = syscall;
    this.path = path;
    if (request !== undefined) this.request = request;
  }

  /** The same error with the same stack, and another hint. */
  withHint(hint: string): LoopError {
    return this.#with({ hint });
  }

  #with(changed: { hint?: string; path?: string }): LoopError {
    const { errno, syscall, path, request, cause, message, stack } = this;
    const error = new LoopError({
      ...{ code: -errno, syscall, path, request, cause, hint: this.#hint, lines: this.#lines },
      ...changed,
    });
    // If this were the new one's `cause`, the same stack would be printed twice.
    if (stack) error.stack = stack.replace(message, () => error.message);
    return error;
  }
}

function describe(given: ErrorCode | number): [code: string, errno: number, text: string] {
  const known = Object.entries(ERRORS).find(([code, [errno]]) => code === given || errno === given);
  if (known) return [known[0], ...known[1]];
  return [`E${given}`, Number(given), `error ${given}`];
}

function quote(path: string): string {
  return `'${printable(JSON.stringify(path).slice(1, -1))}'`;
}

/**
 * Escapes what a file's name could do to a terminal: control characters, line separators and changes of
 * the writing direction. JSON.stringify() escapes only some of them.
 */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
