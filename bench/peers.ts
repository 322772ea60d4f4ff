/** Other programs that do the job of bench/mounts.ts, each in a shell that reads how often. */
import { existsSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { basename, join } from "node:path";
import { attempt, must, type Program } from "./contenders.ts";

/** `$0` is the image, `$1` a directory. `files`: ten of 4 KiB, whose names begin with `$0`. */
const FILES = `export content=$(printf '%4096s' x)
files='for i in 0 1 2 3 4 5 6 7 8 9; do printf %s "$content" > "$0-$i"; done'
write() {
  for i in 0 1 2 3 4 5 6 7 8 9; do printf %s "$content" > "$1/$$-$count-$i"; done
}
count=$(date +%s)`;

const loop = (cycle: string) =>
  `${FILES}
while read -r what cycles; do
  while [ "$cycles" -gt 0 ]; do
    count=$((count + 1))
    { ${cycle}; } || exit
    cycles=$((cycles - 1))
  done
  echo done
done`;

const PROCESSES = `device=$(losetup --find --show "$0") && mount "$device" "$1" && write "$1" &&
  umount "$1" && losetup --detach "$device"`;

/** systemd 254 and later. The command starts in the mounted directory. */
const DISSECT_WITH = `systemd-dissect --with "$0" sh -c "$files" "$$-$count"`;
/** systemd 252 and later. */
const DISSECT = `systemd-dissect --mount "$0" "$1" && write "$1" && systemd-dissect --umount "$1"`;

/** It boots a virtual machine for each image; without KVM where that boots none. */
const GUESTFISH = `set --; for i in 0 1 2 3 4 5 6 7 8 9; do
    set -- "$@" : fill 120 4096 "/$$-$count-$i"
  done
  guestfish --rw --add "$0" run : mount /dev/sda / "$@" : umount /dev/sda`;
const GUESTFISH_BACKENDS = [
  "export LIBGUESTFS_BACKEND=direct",
  "export LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg",
];

/** What takes a second or more. */
export const SLOWEST = "guestfish";

/** The shell script that does it once, with processes. */
export function onceByProcesses(folder: string, image: string): string[] {
  const at = join(folder, "at");
  mkdirSync(at, { recursive: true });
  return ["sh", "-c", `${FILES}\n${PROCESSES}`, image, at];
}

/**
 * The root of another Debian, whose programs are newer than this machine's, or which may not be
 * installed here: guestfish brings udev and a kernel. It is used where somebody has made it:
 *
 *     debootstrap --variant=minbase \
 *       --include=systemd-container,guestfish,linux-image-amd64,qemu-system-x86 trixie FOLDER
 */
const OTHER = join(homedir(), ".cache/loopdev-peers/root");

/** Runs `$2` in the root `$0`, with the folder `$1` as /images and its image `$3`, in mounts of its own. */
const ENTER = `mount -t proc proc "$0/proc" && mount --rbind /sys "$0/sys" &&
  mount --rbind /dev "$0/dev" && mount -t tmpfs run "$0/run" && mkdir -p "$0/images" &&
  mount --bind "$1" "$0/images" && exec chroot "$0" sh -c "$2" "/images/$3" /images/at`;

/** How a script is started: with an image of its own, and the directory to mount on. */
type Start = (script: string) => string[];

function enter(folder: string, image: () => string): Start {
  // What the host unmounts has to go here, too, or it would stay in use.
  const unshare = ["unshare", "--mount", "--propagation", "slave"];
  return (script) => [...unshare, "sh", "-c", ENTER, OTHER, folder, script, basename(image())];
}

const shell = (name: string, start: Start, cycle: string, setUp = ":"): Program => ({
  name,
  command: start(`${setUp}\n${loop(cycle)}`),
  strategies: { job: "job" },
});

/** Runs a script to its end. */
function tryOut(start: Start, script: string): string {
  const [file, ...args] = start(script);
  return must(file, args);
}

function dissect(start: Start): Program {
  const [, version] = /systemd (\d+)/.exec(tryOut(start, "systemd-dissect --version"))!;
  const [how, cycle] = Number(version) < 254
    ? ["--mount, --umount", DISSECT]
    : ["--with", DISSECT_WITH];
  return shell(`systemd-dissect ${how} (${version})`, start, cycle);
}

/** The first of its back ends that can boot. */
function guestfish(start: Start): Program {
  tryOut(start, "guestfish --version");
  let failure: unknown;
  for (const backend of GUESTFISH_BACKENDS) {
    try {
      tryOut(start, `${backend}; guestfish --ro --add "$0" run`);
      const name = backend.includes("tcg") ? `${SLOWEST}, without KVM` : SLOWEST;
      return shell(name, start, GUESTFISH, backend);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/**
 * What this machine has of them; what it lacks is left out, by name. `image` makes one: a program may
 * end before the kernel has let its image go. `slowest`: with what boots a virtual machine each time.
 */
export function peers(folder: string, image: () => string, slowest: boolean): Program[] {
  const at = join(folder, "at");
  mkdirSync(at);
  const here: Start = (script) => ["sh", "-c", script, image(), at];
  const there = existsSync(OTHER) ? enter(folder, image) : undefined;
  const found = [
    attempt("losetup and mount", () => {
      must("losetup", ["--version"]);
      return shell("processes from sh", here, PROCESSES);
    }),
    attempt("systemd-dissect", () => dissect(here)),
    there && attempt("systemd-dissect of another release", () => dissect(there)),
    slowest ? attempt("guestfish", () => guestfish(there ?? here)) : undefined,
  ];
  return found.filter((one) => one !== undefined);
}
