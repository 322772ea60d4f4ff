/**
 * {@linkcode LoopError}: what the system refused, in the shape of Node's system errors, with the cause
 * a person can act on.
 *
 * @module
 */

/** Error numbers of `<asm-generic/errno.h>` that loop devices can give, with glibc's wording. */
const ERRORS: Record<number, [code: string, text: string]> = {
  1: ["EPERM", "operation not permitted"],
  2: ["ENOENT", "no such file or directory"],
  3: ["ESRCH", "no such process"],
  4: ["EINTR", "interrupted system call"],
  5: ["EIO", "input/output error"],
  6: ["ENXIO", "no such device or address"],
  9: ["EBADF", "bad file descriptor"],
  11: ["EAGAIN", "resource temporarily unavailable"],
  12: ["ENOMEM", "cannot allocate memory"],
  13: ["EACCES", "permission denied"],
  14: ["EFAULT", "bad address"],
  15: ["ENOTBLK", "block device required"],
  16: ["EBUSY", "device or resource busy"],
  17: ["EEXIST", "file exists"],
  19: ["ENODEV", "no such device"],
  20: ["ENOTDIR", "not a directory"],
  21: ["EISDIR", "is a directory"],
  22: ["EINVAL", "invalid argument"],
  23: ["ENFILE", "too many open files in system"],
  24: ["EMFILE", "too many open files"],
  25: ["ENOTTY", "inappropriate ioctl for device"],
  26: ["ETXTBSY", "text file busy"],
  27: ["EFBIG", "file too large"],
  28: ["ENOSPC", "no space left on device"],
  30: ["EROFS", "read-only file system"],
  32: ["EPIPE", "broken pipe"],
  34: ["ERANGE", "numerical result out of range"],
  36: ["ENAMETOOLONG", "file name too long"],
  38: ["ENOSYS", "function not implemented"],
  40: ["ELOOP", "too many levels of symbolic links"],
  61: ["ENODATA", "no data available"],
  75: ["EOVERFLOW", "value too large for defined data type"],
  95: ["EOPNOTSUPP", "operation not supported"],
  110: ["ETIMEDOUT", "timed out"],
  116: ["ESTALE", "stale file handle"],
  117: ["EUCLEAN", "structure needs cleaning"],
  122: ["EDQUOT", "disk quota exceeded"],
  124: ["EMEDIUMTYPE", "wrong medium type"],
};

interface Hint {
  code: string;
  /** Matches the ioctl request if there is one, else the system call. */
  call?: RegExp;
  path?: RegExp;
  hint: string;
}

/** First match wins: the narrower row stands above the wider one. */
const HINTS: Hint[] = [
  {
    code: "ENOENT",
    path: /^\/dev\/loop-control$/,
    hint:
      "is the loop module loaded (modprobe loop), and does this container have /dev/loop-control?",
  },
  {
    code: "ENOTTY",
    path: /^\/dev\/loop-control$/,
    hint: "it is not the loop driver's control device, which is character device 10:237",
  },
  {
    code: "ENODEV",
    path: /^\/dev\/loop-control$/,
    hint: "this kernel has no loop driver, or its module is not installed for the running kernel",
  },
  {
    code: "ENOENT",
    path: /^\/dev\/loop\d+/,
    hint:
      "the kernel has this device, but /dev has no node for it: /dev is static (a container?); " +
      "mount a devtmpfs there or make the node with mknod",
  },
  {
    code: "ENOENT",
    path: /^\/sys\//,
    hint: "is sysfs mounted on /sys?",
  },
  {
    code: "EACCES",
    call: /^open$/,
    path: /^\/dev\/loop/,
    hint: "attaching loop devices needs root",
  },
  {
    code: "EPERM",
    path: /^\/dev\/loop/,
    call: /^open$/,
    hint:
      "attaching loop devices needs root, and in a container also its device cgroup's permission",
  },
  {
    code: "EPERM",
    call: /^mknod$/,
    hint:
      "/dev lacks this node, and making it needs CAP_MKNOD: mount a devtmpfs on /dev, or start " +
      "the container with that capability",
  },
  {
    code: "EPERM",
    call: /^LOOP_SET_STATUS64$/,
    hint: "through a read-only file descriptor this needs CAP_SYS_ADMIN",
  },
  {
    code: "EPERM",
    call: /^BLKPG/,
    hint: "adding and removing partitions needs CAP_SYS_ADMIN",
  },
  {
    code: "EACCES",
    call: /^BLKPG/,
    hint: "adding and removing partitions needs CAP_SYS_ADMIN",
  },
  {
    code: "EBUSY",
    call: /^BLKPG_ADD_PARTITION$/,
    hint:
      "the partition overlaps another one in the image's partition table, or its number is taken",
  },
  {
    code: "EBUSY",
    call: /^BLKPG_DEL_PARTITION$/,
    hint: "the partition is in use: unmount it first (findmnt, lsof)",
  },
  {
    code: "EBUSY",
    call: /^LOOP_SET_BLOCK_SIZE$/,
    hint:
      "it cannot change while the device is mounted or somebody holds it exclusively (holders() " +
      "or losetup, findmnt say who): unmount it first",
  },
  {
    code: "EBUSY",
    call: /^LOOP_CONFIGURE$/,
    hint: "every device the kernel offered was taken or held by another process " +
      "(losetup --list shows who has what)",
  },
  {
    code: "EINVAL",
    call: /^LOOP_CHANGE_FD$/,
    hint: "only a read-only device can change its file, and only for one of the same size",
  },
  {
    code: "EINVAL",
    call: /^LOOP_SET_DIRECT_IO$/,
    hint: "the backing file's file system, or its alignment, does not allow direct I/O",
  },
  {
    code: "EMFILE",
    hint: "this process has reached its limit of open files (ulimit -n)",
  },
  {
    code: "ENOSPC",
    call: /^LOOP_CTL_/,
    hint: "no free loop device and no number left for a new one",
  },
];

/** Of what a {@linkcode LoopError} is made. */
export interface LoopErrorInit {
  /** Positive error number, as in errno(3). */
  errno: number;
  /** The system call, as its manual page calls it: "open", "ioctl". */
  syscall: string;
  /** The file or device it was made on. */
  path: string;
  /** The ioctl request, as the kernel's headers call it: "LOOP_CONFIGURE". */
  request?: string;
  /** What the person can do, where the table of hints cannot know. */
  hint?: string;
  /** The error behind this one. */
  cause?: unknown;
}

/**
 * The system refused something. In the shape of Node's system errors; branch on
 * {@linkcode LoopError.code}, the message is for people.
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
  /** The refused system call: `"ioctl"`. */
  readonly syscall: string;
  /** The file or device: `"/dev/loop4"`. */
  readonly path: string;
  /** The ioctl request, if it was one: `"LOOP_CONFIGURE"`. */
  readonly request?: string;

  /** Composes the message from the call, the error and the hint. */
  constructor({ errno, syscall, path, request, hint, cause }: LoopErrorInit) {
    const [code, text] = ERRORS[errno] ?? [`E${errno}`, `error ${errno}`];
    const call = request ?? syscall;
    hint ??= HINTS.find((row) =>
      row.code === code && (row.call?.test(call) ?? true) && (row.path?.test(path) ?? true)
    )?.hint;
    super(
      `${code}: ${text}, ${call} ${quote(path)}${hint ? ` (${printable(hint)})` : ""}`,
      cause === undefined ? undefined : { cause },
    );
    this.code = code;
    this.errno = -errno;
    this.reason = text;
    this.syscall = syscall;
    this.path = path;
    if (request !== undefined) this.request = request;
  }

  /** The same error where more is known of its cause. */
  withHint(hint: string): LoopError {
    const { errno, syscall, path, request } = this;
    return new LoopError({ errno: -errno, syscall, path, request, hint, cause: this });
  }
}

function quote(path: string): string {
  return `'${printable(JSON.stringify(path).slice(1, -1))}'`;
}

/**
 * What comes from a file's name must not reach a terminal raw: controls, line separators, and what
 * turns the direction of writing. JSON.stringify() leaves most of them alone.
 */
function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
