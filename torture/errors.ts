/** Which errors a system call can give, by its manual page and by what drivers behind it return. */

const OPEN = [
  ...["EPERM", "EACCES", "EBUSY", "EINTR", "EINVAL", "EIO"],
  ...["ENOMEM", "ENXIO", "ENODEV", "ENOSPC", "EMFILE", "ENFILE"],
];
const MAKE = ["EPERM", "EACCES", "EINVAL", "EIO", "ENOMEM", "ENOSPC", "EROFS"];
const READ = ["EAGAIN", "EINTR", "EINVAL", "EIO", "ENOMEM", "ENXIO", "ENODEV"];
const WRITE = [...READ, "EPERM", "ENOSPC"];
const STAT = ["EACCES", "EINVAL", "EIO", "ENOMEM"];
const REMOVE = ["EPERM", "EACCES", "EBUSY", "EIO", "ENOMEM", "EROFS"];
const SYNC = ["EINTR", "EINVAL", "EIO", "ENOSPC"];

export const ERRORS: Record<string, readonly string[]> = {
  open: OPEN,
  openat: OPEN,
  openat2: [...OPEN, "ENOSYS"],
  ioctl: [
    ...["EPERM", "EACCES", "EBUSY", "EAGAIN", "EINTR", "EINVAL", "EIO"],
    ...["ENOMEM", "ENXIO", "ENODEV", "ENOSPC", "ENOTTY"],
  ],
  read: READ,
  pread64: READ,
  preadv: READ,
  write: WRITE,
  pwrite64: WRITE,
  pwritev: WRITE,
  stat: STAT,
  fstat: STAT,
  lstat: STAT,
  newfstatat: STAT,
  statx: [...STAT, "ENOSYS"],
  access: STAT,
  faccessat2: STAT,
  statfs: STAT,
  fstatfs: STAT,
  getdents64: ["EINVAL", "EIO", "ENOMEM"],
  fcntl: ["EPERM", "EINTR", "EINVAL", "EMFILE"],
  mknod: MAKE,
  mknodat: MAKE,
  mkdir: MAKE,
  mkdirat: MAKE,
  unlink: REMOVE,
  unlinkat: REMOVE,
  rename: REMOVE,
  renameat2: REMOVE,
  readlink: STAT,
  readlinkat: STAT,
  lseek: ["EINVAL", "ENXIO"],
  fsopen: ["EPERM", "ENODEV", "ENOMEM", "EMFILE", "ENOSYS"],
  // EACCES is an answer: what cannot be written is mounted read-only.
  fsconfig: ["EPERM", "EBUSY", "EINTR", "EINVAL", "EIO", "ENOMEM", "EROFS", "EUCLEAN"],
  mount_setattr: ["EPERM", "EINVAL", "ENOMEM", "ENOSYS"],
  fchown: ["EPERM", "EIO", "EROFS"],
  fchmod: ["EPERM", "EIO", "EROFS"],
  open_tree: ["EPERM", "EACCES", "EINVAL", "EMFILE", "ENOMEM"],
  symlinkat: MAKE,
  fchmodat: ["EPERM", "EACCES", "EIO", "ENOMEM"],
  pidfd_open: ["EINVAL", "EMFILE", "ENFILE", "ENOMEM"],
  fsmount: ["EPERM", "EBUSY", "EINVAL", "EMFILE", "ENOMEM"],
  move_mount: ["EPERM", "EBUSY", "EINVAL", "ELOOP", "ENOENT", "ENOMEM", "ENOSPC"],
  umount2: ["EPERM", "EBUSY", "EINVAL", "ENOMEM", "ENOENT"],
  pipe2: ["EMFILE", "ENFILE", "ENOMEM"],
  ppoll: ["EINTR", "EINVAL", "ENOMEM"],
  execve: ["EACCES", "ENOENT", "ENOEXEC", "ENOMEM", "EIO"],
  setsid: ["EPERM"],
  dup2: ["EBADF", "EBUSY", "EINTR", "EMFILE"],
  // ENODEV and ESRCH are answers: no file system is on it, or it has no quotas.
  quotactl: ["EACCES", "EPERM", "EIO", "ENOMEM", "ENOSYS"],
  wait4: ["EINTR", "ECHILD"],
  syncfs: SYNC,
  fsync: SYNC,
  fdatasync: SYNC,
  sync_file_range: [...SYNC, "ENOMEM"],
  fallocate: ["EPERM", "EINTR", "EIO", "ENODEV", "ENOSPC"],
  ftruncate: ["EPERM", "EINTR", "EINVAL", "EIO", "ENOSPC"],
  flock: ["EAGAIN", "EINTR", "EINVAL", "ENOMEM"],
  memfd_create: ["EPERM", "EINVAL", "EMFILE", "ENOMEM"],
  dup: ["EBUSY", "EMFILE", "EINTR"],
  dup3: ["EBUSY", "EMFILE", "EINTR"],
  capget: ["EPERM", "EINVAL"],
  cachestat: ["EPERM", "ENOSYS"],
  inotify_add_watch: ["EACCES", "ENOMEM", "ENOSPC"],
};

/**
 * Those that last: a full disk, a disk that fails, a limit, a filter of system calls, a holder that stays. Not
 * EINTR, after which Bun itself opens a file again without end.
 */
export const LASTING: readonly string[] = [
  ...["EPERM", "EACCES", "EIO", "ENOSPC", "EROFS", "ENOMEM", "EMFILE", "ENFILE"],
  ...["ENOSYS", "EAGAIN", "EBUSY"],
];

/**
 * Not covered, and why. strace gives close() an error by not making the call: the descriptor would
 * stay open, which the kernel never does, and no option of strace makes the call and changes what it
 * returns (`syscall=` replaces it by one without effect).
 */
export const UNFAITHFUL: Record<string, string> = {
  close: "strace would leave the descriptor open, which the kernel never does",
  uname: "cannot fail",
  clone: "a runtime that cannot start a thread of its own dies of it",
  clone3: "a runtime that cannot start a thread of its own dies of it",
};

/** What a runtime does by itself between two calls of a library, on any thread: not traced. */
export const RUNTIME_CALLS: readonly string[] = [
  ...["futex", "madvise", "mmap", "munmap", "mprotect", "mremap", "brk", "membarrier"],
  ...["epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_ctl", "epoll_create1", "poll"],
  ...["preadv2", "pwritev2", "sendto", "recvfrom"],
  ...["socketpair", "io_uring_setup", "io_uring_enter"],
  ...["sendmsg", "recvmsg", "timerfd_settime", "eventfd2", "restart_syscall"],
  ...["nanosleep", "clock_nanosleep", "clock_gettime", "gettimeofday", "getrandom"],
  ...["sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_setscheduler"],
  ...["sched_getscheduler", "sched_getparam", "sched_setparam", "setpriority", "getpriority"],
  ...["sched_get_priority_min", "sched_get_priority_max"],
  ...["rt_sigprocmask", "rt_sigaction", "rt_sigreturn", "rt_sigsuspend", "sigaltstack", "tgkill"],
  ...["getuid", "geteuid", "getgid", "getegid", "getcwd"],
  ...["gettid", "getpid", "getrusage", "prctl", "rseq", "set_robust_list", "set_tid_address"],
  ...["exit", "exit_group", "arch_prctl", "prlimit64", "sysinfo", "mincore"],
  ...["pkey_alloc", "pkey_mprotect", "pkey_free", "getcpu", "mlock", "munlock", "mbind"],
];

/**
 * What a runtime reads now and then to learn how much memory and how many processors it has; and Node's own
 * program, which each of its threads opens when it starts.
 */
export const RUNTIME_FILES =
  /^\/(proc\/(self|\d+)\/(stat|statm|status|maps|smaps\w*|cgroup)|proc\/(meminfo|stat)|sys\/fs\/cgroup\/.*|sys\/devices\/system\/cpu\/.*|.*\/bin\/node)$/;
