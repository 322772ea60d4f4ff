/**
 * The mount and PID namespaces of a command, and the process 1 in them.
 *
 * unshare(2) is not for the threads of a runtime. So unshare(1) makes the namespaces, and a shell is their
 * process 1: it mounts what it is told to, and then waits for the end of a pipe of which this process
 * holds the only write end. However this process ends, the pipe ends with it, then process 1, and then
 * the kernel kills every process of the namespace and unmounts what lies in it. No signal from inside the
 * namespace reaches process 1, and it waits again if its reader is killed.
 *
 * The command is not a child of process 1, since a shell's status does not tell a signal from an exit code.
 * nsenter(1) takes a child of ours into both namespaces instead.
 *
 * @module
 */
import { isErrno, LoopError } from "../base/errors.ts";
import { encodeName } from "../base/names.ts";
import { whyNotPermitted } from "../kernel/capabilities.ts";
import { uninterruptedOnThread } from "../kernel/chain.ts";
import {
  check,
  memoryFile,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  open,
  type OpenFile,
  readAt,
  readLink,
} from "../kernel/file.ts";
import { pipe } from "../kernel/pipe.ts";
import { exitOf, hasReader, scriptFile, startProgram, writeToPipe } from "../kernel/program.ts";
import { fileStatus, isThere } from "../kernel/stat.ts";
import { TOOLS } from "./helper.ts";

/**
 * Descriptor 3 is the pipe, 4 where it answers. Each request is one line of the pipe, and each argument
 * another one. A process of another PID namespace has the number by which we know it in the /proc that
 * we see, so it is read before anything is mounted there.
 */
const SCRIPT = `
read -r pid rest </proc/self/stat || exit
argument() { IFS= read -r "$1" <&3; }
# With "none" mount takes these options alone, and looks nothing up.
seal() { mount -o remount,bind,ro,nosuid,nodev,noexec none "$1"; }
stay() {
  while :; do
    (read -r _ <&3; exit 7) &
    wait $!
    [ $? -eq 7 ] && exit 0
  done
}
while argument request; do
  case $request in
    # util-linux would take the path for what it links to, and busybox does not know -c.
    move) argument tree && argument to &&
      { mount -c --move "$tree" "$to" || mount --move "$tree" "$to"; } ;;
    private) argument at && mount --make-private "$at" ;;
    proc) argument at && mount -t proc -o nosuid,nodev,noexec proc "$at" ;;
    seal) argument at && seal "$at" ;;
    freeze) argument at && mount --bind "$at" "$at" && seal "$at" ;;
    options) argument at && argument options && mount -o "remount,bind,$options" none "$at" ;;
    answer) echo "$pid" >&4 ;;
    stay) exec 4>&- && stay ;;
  esac || exit
done
`;

/** Programs of this machine, by their absolute paths. */
type Tools = Readonly<Record<"sh" | "unshare" | "nsenter" | "mount", string>>;

const NEEDS = "run() needs sh, unshare, nsenter and mount: install util-linux (on Debian and " +
  "Ubuntu mount, too, on Alpine util-linux-misc)";

function findTools(): Tools {
  const folders = TOOLS.slice(TOOLS.indexOf("=") + 1).split(":");
  const find = (name: string) => {
    const found = folders.map((folder) => `${folder}/${name}`).find(isThere);
    if (found !== undefined) return found;
    throw new LoopError({ code: "ENOENT", path: name, hint: NEEDS });
  };
  return {
    sh: find("sh"),
    unshare: find("unshare"),
    nsenter: find("nsenter"),
    mount: find("mount"),
  };
}

/** A program that runs a command in the namespace. Its errors belong to descriptor 2, those of the command to 3. */
export interface Entry {
  readonly args: readonly string[];
  readonly env: readonly string[];
}

/** How a command sees the namespace. */
export interface View {
  /** As the namespace's process 1 sees it; undefined: process 1's own. */
  readonly root: string | undefined;
  /** The working directory, likewise. */
  readonly directory: string;
  /** The program and its arguments. */
  readonly command: readonly string[];
  /** `NAME=value` */
  readonly env: readonly string[];
  /** undefined: root. */
  readonly user: { readonly uid: number; readonly gid: number } | undefined;
}

export class Namespace implements AsyncDisposable {
  readonly #tools: Tools;
  readonly #pipe: OpenFile;
  readonly #answers: OpenFile;
  readonly #messages: OpenFile;
  /** unshare's, which ends after process 1, and with it the last process of the namespace. */
  readonly #pid: number;
  readonly #files: OpenFile[] = [];
  #ended: Promise<void> | undefined;

  private constructor(tools: Tools) {
    this.#tools = tools;
    try {
      const { readEnd, writeEnd } = pipe("the pipe to a command's namespace");
      using theirs = readEnd;
      this.#pipe = this.#keep(writeEnd);
      const answers = pipe("the answers of a command's namespace");
      using saying = answers.writeEnd;
      this.#answers = this.#keep(answers.readEnd);
      this.#messages = this.#keep(messageFile());
      using nothing = open("/dev/null", O_RDWR);
      using script = scriptFile("loopdev-run", SCRIPT);
      this.#pid = startProgram({
        path: tools.unshare,
        args: [
          ...["unshare", "--mount", "--pid", "--fork", "--propagation", "slave"],
          ...["--", tools.sh, "/proc/self/fd/5"],
        ],
        env: [TOOLS, "LC_ALL=C"],
        files: [nothing, nothing, this.#messages, theirs, saying, script].map((
          file,
          i,
        ) => [i, file]),
        session: true,
      });
    } catch (error) {
      this.#closeFiles();
      throw error;
    }
  }

  /** Starts it. Whoever has it must end it. */
  static start(): Namespace {
    return new Namespace(findTools());
  }

  /** Tells process 1 what to do. Errors show when it is asked for an answer. */
  tell(request: string, ...args: string[]): void {
    for (const argument of args) {
      if (!argument.includes("\n")) continue;
      const hint = "its path has a line break, which run() cannot pass on";
      throw new LoopError({ code: "EINVAL", path: argument, hint });
    }
    const written = writeToPipe(this.#pipe, encodeName([request, ...args, ""].join("\n")));
    // EPIPE: it has ended, and answers no more.
    if (!isErrno(written, "EPIPE")) check(written, "write", this.#pipe.path);
  }

  /** Resolves to the pid of process 1 when it has done all it was told. Rejects with what went wrong. */
  async answer(): Promise<number> {
    this.tell("answer");
    const buffer = new Uint8Array(new ArrayBuffer(32));
    const length = await this.#answers.callOnThread((fd) =>
      uninterruptedOnThread("read", fd, buffer, buffer.length)
    );
    check(length, "read", this.#answers.path);
    if (length > 0) return parseInt(new TextDecoder().decode(buffer.subarray(0, length)));
    using messages = this.#messages.duplicate();
    await this.end();
    throw whatFailed(messages, this.#tools);
  }

  /** Opens a file or directory as process 1 sees it, O_PATH. */
  async open(path: string): Promise<OpenFile> {
    const pid = await this.answer();
    return this.#keep(open(`/proc/${pid}/root${path}`, O_PATH, 0, path));
  }

  /** Process 1 stays until {@linkcode Namespace.end}, and does nothing more. */
  async stay(): Promise<(view: View) => Entry> {
    const pid = await this.answer();
    this.tell("stay");
    const [mount, pids] = ["mnt", "pid"].map((name) =>
      this.#keep(open(`/proc/${pid}/ns/${name}`, O_RDONLY))
    );
    const top = this.#keep(open(`/proc/${pid}/root`, O_PATH));
    const isTold = await tellsSignals(this.#tools.unshare);
    // While it has the pipe open it lives, and the number is its own.
    if (!hasReader(this.#pipe)) throw whatFailed(this.#messages, this.#tools);
    const options = [
      ...[`--mount=${pathOf(mount)}`, `--pid=${pathOf(pids)}`, `--root=${pathOf(top)}`],
      // By default the namespace's own root, which lies outside where this process is in a chroot.
      `--wd=${pathOf(top)}`,
      ...isTold ? ["--no-fork", "--", this.#tools.unshare, "--fork", "--"] : ["--"],
    ];
    return (view) => this.#enter(options, view);
  }

  /**
   * It ends as the command does. unshare makes the fork(2), since nsenter would die of a Ctrl-C that the
   * command outlives. A shell passes only such variables on as it could have set. The last nsenter enters
   * the namespace that it is in: from util-linux 2.41 on it refuses to enter none.
   */
  #enter(options: readonly string[], { root = "/", directory, command, env, user }: View): Entry {
    const { sh, nsenter } = this.#tools;
    const isPlain = (variable: string) => /^[A-Za-z_]\w*=/.test(variable);
    const others = env.filter((variable) => !isPlain(variable));
    const args = [
      ...[nsenter, ...options, sh, "-c", 'exec "$@" 2>&3 3>&-', "sh"],
      ...others.length > 0 ? ["/usr/bin/env", ...others] : [],
      ...[nsenter, "--mount=/proc/self/ns/mnt", `--root=${root}`, `--wd=${directory}`],
      // It gives up every other group, too.
      ...user ? [`--setgid=${user.gid}`, `--setuid=${user.uid}`] : [],
      "--",
      ...command,
    ];
    return { args, env: env.filter(isPlain) };
  }

  /** Lends a file to process 1: gives the path by which it finds it. */
  lend(file: OpenFile): string {
    return pathOf(this.#keep(file));
  }

  #keep(file: OpenFile): OpenFile {
    this.#files.push(file);
    return file;
  }

  #closeFiles(): void {
    for (const file of this.#files.splice(0)) file.close();
  }

  /** Kills every process in it. Resolves when the kernel has unmounted what lay in it. */
  end(): Promise<void> {
    return this.#ended ??= this.#end();
  }

  async #end(): Promise<void> {
    this.#closeFiles();
    await exitOf(this.#pid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}

let isTold: Promise<boolean> | undefined;

/**
 * Whether this unshare ends by the signal that its child ended by. Before util-linux 2.38 it blocks SIGTERM,
 * and then says 0: nsenter makes the fork there, and a Ctrl-C ends the command at once.
 */
function tellsSignals(unshare: string): Promise<boolean> {
  return isTold ??= (async () => {
    using nothing = open("/dev/null", O_RDWR);
    using said = messageFile();
    const files = [nothing, said, nothing].map((file, i) => [i, file] as const);
    const args = ["unshare", "--version"];
    await exitOf(startProgram({ path: unshare, args, env: [TOOLS], files, session: true }));
    const [, major, minor] = /util-linux (\d+)\.(\d+)/.exec(messagesIn(said)) ?? [];
    return major === undefined || Number(major) > 2 || Number(minor) >= 38;
  })().catch((error) => {
    // It says nothing of unshare: the next command asks again.
    isTold = undefined;
    throw error;
  });
}

/** By this path other processes find a file that is open here. */
function pathOf(file: OpenFile): string {
  return file.call((fd) => `/proc/${readLink("/proc/self")}/fd/${fd}`);
}

/** A file for what programs write to their standard error. */
export function messageFile(): OpenFile {
  return memoryFile("loopdev-run-messages", 1);
}

/** What they wrote, in one line. */
export function messagesIn(file: OpenFile): string {
  const bytes = readAt(file, 0, fileStatus(file).size);
  return new TextDecoder().decode(bytes).replaceAll(/\0|\n\s*dmesg\(1\).*/g, "").trim()
    .replaceAll(/\s*\n\s*/g, "; ");
}

/** What unshare of util-linux 2.36 to 2.38 says where its child was killed by SIGKILL. */
export const CHILD_KILLED = /^unshare: sigprocmask unblock failed.*/;

/** What unshare says where this process's root directory is none of a mount; util-linux, busybox. */
const NO_MOUNT =
  /^unshare: (?:cannot change root filesystem propagation|can't mount none on \/ .*): Invalid .*/;

function whatFailed(messages: OpenFile, { unshare }: Tools): LoopError {
  const text = messagesIn(messages).replace(CHILD_KILLED, "").replace(
    NO_MOUNT,
    "$&; the root directory is none of a mount, as in a chroot: mount --bind the directory on itself " +
      "before chroot",
  );
  const isForbidden = /^unshare: .*not permitted/.test(text);
  const hint = isForbidden
    ? whyNotPermitted("making namespaces", "CAP_SYS_ADMIN")
    : `the process that makes a command's surroundings has ended: ${text || "it was killed"}`;
  return new LoopError({ code: isForbidden ? "EPERM" : "EIO", path: unshare, hint });
}
