/**
 * Runs a command in other surroundings: `isolate.ts WHAT... -- COMMAND...`. Mounts are seen by the
 * command alone. By libc, since unshare(1), setpriv(1) and script(1) are not everywhere.
 *
 *     tmpfs=/dev        an empty tmpfs is mounted there
 *     read-only=/dev    what is there can only be read
 *     nodev=/dev        device nodes there cannot be opened
 *     unmount=/sys      what is there is gone
 *     personality=linux32         uname(2) says another machine
 *     personality=uname-2.6       or an old release
 *     refuse=executable-memory    memory that was writable cannot become executable
 *     without=mknod     without a capability; or without=all
 *     with=sys_admin    without any but this one; or these: with=sys_admin,chown
 *     user=65534        as that user, in no group
 *     terminal          on a terminal of its own, which is copied to stdout
 */
import process from "node:process";
import { cStrings, libcCall, must, zeroed } from "./libc_call.ts";

const unshare = libcCall("unshare", "i32");
const mount = libcCall("mount", "buffer", "buffer", "buffer", "u64", "u64");
const umount2 = libcCall("umount2", "buffer", "i32");
const prctl = libcCall("prctl", "i32", "u64", "u64", "u64", "u64");
const setgroups = libcCall("setgroups", "u64", "u64");
const setresgid = libcCall("setresgid", "i32", "i32", "i32");
const setresuid = libcCall("setresuid", "i32", "i32", "i32");
const personality = libcCall("personality", "u64");
const open = libcCall("open", "buffer", "i32", "i32");
const dup2 = libcCall("dup2", "i32", "i32");
const ioctl = libcCall("ioctl", "i32", "u64", "buffer");
const fcntl = libcCall("fcntl", "i32", "i32", "u64");
const signal = libcCall("signal", "i32", "u64");
const sigprocmask = libcCall("sigprocmask", "i32", "buffer", "u64");
const execvp = libcCall("execvp", "buffer", "buffer");

const F_SETFD = 2;
const CLONE_NEWNS = 0x20000;
const [MS_RDONLY, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC] = [1, 4, 32, 4096, 16384];
const MS_PRIVATE = 1 << 18;
const MNT_DETACH = 2;
const PR_CAPBSET_DROP = 24;
const PR_SET_MDWE = 65, PR_MDWE_REFUSE_EXEC_GAIN = 1;
const CAPABILITIES: Record<string, number> = {
  chown: 0,
  dac_override: 1,
  dac_read_search: 2,
  fowner: 3,
  setgid: 6,
  setuid: 7,
  sys_admin: 21,
  mknod: 27,
  setfcap: 31,
};
const PERSONALITIES: Record<string, number> = { linux32: 0x8, "uname-2.6": 0x20000 };
const O_RDWR = 2, O_NOCTTY = 0o400;
const TIOCSPTLCK = 0x40045431, TIOCGPTN = 0x80045430;
const SIGPIPE = 13, SIG_DFL = 0, SIG_SETMASK = 2;

let ownMounts = false;

/** Changes from here on are not seen outside. */
function hideMounts(): void {
  if (ownMounts) return;
  must(unshare(CLONE_NEWNS), "unshare");
  must(mount("none", "/", "none", MS_REC | MS_PRIVATE, 0), "mount --make-rprivate /");
  ownMounts = true;
}

/** Root gets on exec what the bounding set has. What this kernel does not know is EINVAL. */
function dropCapabilities(but: readonly string[]): void {
  const kept = but.map((name) => CAPABILITIES[name]);
  for (let capability = 0; capability < 64; capability++) {
    if (!kept.includes(capability)) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
}

const SURROUNDINGS: Record<string, (where: string) => void> = {
  tmpfs(where) {
    hideMounts();
    must(mount("none", where, "tmpfs", 0, 0), `mount -t tmpfs none ${where}`);
  },
  "read-only"(where) {
    hideMounts();
    // A process keeps the root that it has: what is bound over it, it would not see.
    if (where !== "/") must(mount(where, where, "none", MS_BIND, 0), `mount --bind ${where}`);
    const flags = MS_REMOUNT | MS_BIND | MS_RDONLY;
    must(mount("none", where, "none", flags, 0), `mount -o remount,bind,ro ${where}`);
  },
  nodev(where) {
    hideMounts();
    must(mount("none", where, "none", MS_REMOUNT | MS_NODEV, 0), `mount -o remount,nodev ${where}`);
  },
  user(id) {
    const [user, group] = [Number(id), Number(id)];
    must(setgroups(0, 0), "setgroups");
    must(setresgid(group, group, group), "setresgid");
    must(setresuid(user, user, user), "setresuid");
  },
  personality(name) {
    must(personality(PERSONALITIES[name]), "personality");
  },
  unmount(where) {
    hideMounts();
    must(umount2(where, MNT_DETACH), `umount --lazy ${where}`);
  },
  refuse() {
    must(prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0), "prctl(PR_SET_MDWE)");
  },
  without(name) {
    if (name === "all") dropCapabilities([]);
    else must(prctl(PR_CAPBSET_DROP, CAPABILITIES[name], 0, 0, 0), "prctl");
  },
  with: (names) => dropCapabilities(names.split(",")),
};

/** The command on a new terminal. cat ends with EIO when nobody has the terminal open any more. */
function onTerminal(command: string[]): string[] {
  const master = must(open("/dev/ptmx", O_RDWR | O_NOCTTY, 0), "open /dev/ptmx");
  must(ioctl(master, TIOCSPTLCK, zeroed(4)), "TIOCSPTLCK");
  const number = zeroed(4);
  must(ioctl(master, TIOCGPTN, number), "TIOCGPTN");
  must(dup2(master, 3), "dup2");
  const script = 'cat <&3 2>/dev/null & exec 3<&-; "$@" <"$0" >"$0" 2>&1; s=$?; wait; exit $s';
  const path = `/dev/pts/${new DataView(number.buffer).getUint32(0, true)}`;
  return ["sh", "-c", script, path, ...command];
}

const args = process.argv.slice(2);
const end = args.indexOf("--");
let command = args.slice(end + 1);
for (const word of args.slice(0, end)) {
  const [what, value] = word.split("=");
  if (what === "terminal") command = onTerminal(command);
  else SURROUNDINGS[what](value);
}
// Runtimes ignore SIGPIPE, and what is ignored or blocked stays so beyond exec.
signal(SIGPIPE, SIG_DFL);
sigprocmask(SIG_SETMASK, zeroed(128), 0);
// Node makes the standard descriptors close-on-exec.
for (const fd of [0, 1, 2]) fcntl(fd, F_SETFD, 0);
const { array, strings } = cStrings(command);
must(execvp(command[0], array), `cannot run '${command[0]}' (${strings.length} words)`);
