/**
 * A command in the files of a mount, or of several that make a tree: a namespace → copies of the mounts in
 * it → what else a chroot needs → the command → its end, which is that of the namespace.
 *
 * @module
 */
import { LoopError, unlessRefused } from "../base/errors.ts";
import { delay, poll } from "../base/retry.ts";
import { absolutePath, ifAllowed, memoryFile, O_RDWR, open, OpenFile } from "../kernel/file.ts";
import { wordsOf } from "../kernel/loose_mount.ts";
import { mapIds } from "../kernel/mount.ts";
import { pipe } from "../kernel/pipe.ts";
import {
  environment,
  type Exit,
  exitOf,
  makeBlocking,
  PipeReader,
  readUntilExit,
  signalChildren,
  startProgram,
  unknownExit,
} from "../kernel/program.ts";
import { fileStatus } from "../kernel/stat.ts";
import { checkCommand } from "./run_command.ts";
import {
  CHILD_KILLED,
  type Entry,
  messageFile,
  messagesIn,
  Namespace,
  type View,
} from "./run_namespace.ts";
import { explainNoOwner, makeUserNamespace, type Owner, ownerOf, userOf } from "./owner.ts";
import { type CheckedRun, checkRun, type RunOptions, type RunOutput } from "./run_options.ts";
import { find, furnish, type Root } from "./run_tree.ts";

/** A mount for a command: its part of the tree. */
export interface RunMount {
  /** Its root directory, open. */
  readonly root: OpenFile;
  /** As in LoopMount. */
  readonly path: string;
  /** As the kernel calls it: "ext4". */
  readonly type: string;
  /** Where it lies in the tree: "/" for the first one, "/boot/efi". */
  readonly point: string;
  /** Makes a mount of the same files that belongs to its descriptor. */
  copy(): Promise<OpenFile>;
}

/** From SIGTERM to SIGKILL. */
const GRACE_MS = 5000;
const SIGTERM = 15;
const SIGKILL = 9;

/** As `kill -l` names them, from 1 on: alike on x86-64 and aarch64. */
const SIGNALS =
  ("HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD " +
    "CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS").split(" ");

/** What a command without an environment of its own has in most distributions. */
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Runs a command. The first mount of the tree is its root; each other one comes after the one it lies in.
 * `stop` kills the command at once; then, too, run() resolves to how it ended.
 */
export async function runIn(
  tree: readonly RunMount[],
  command: string | readonly string[],
  options: RunOptions,
  stop: AbortSignal,
): Promise<RunOutput> {
  const run = checkRun(command, options);
  const { signal } = run;
  const refuse = () => {
    signal?.throwIfAborted();
    if (!stop.aborted) return;
    const hint = "it has been unmounted before the command began";
    throw new LoopError({ code: "EBADF", path: tree[0].path, hint });
  };
  refuse();
  await using namespace = Namespace.start();
  const owner = run.owner === undefined ? undefined : ownerOf(run.owner);
  const root = await assemble(namespace, tree, run, owner);
  refuse();
  if (run.chroot) await furnish(namespace, root, tree.map(({ point }) => point), run.devices);
  const prepared = await prepare(namespace, root, run, owner);
  refuse();
  const output = await execute(namespace, prepared, run, stop);
  signal?.throwIfAborted();
  return output;
}

/** Brings the tree into the namespace, and opens its root. */
async function assemble(
  namespace: Namespace,
  tree: readonly RunMount[],
  { suid }: CheckedRun,
  owner: Owner | undefined,
): Promise<Root> {
  const at = placeFor(tree[0], owner);
  using idMap = owner && await makeUserNamespace(owner);
  for (const mount of tree) {
    const to = mount.point === "/" ? at : `${at}${mount.point}`;
    const copy = await mount.copy();
    const lent = namespace.lend(copy);
    if (idMap) await give(mount, copy, idMap, owner);
    namespace.tell("move", lent, to);
    // A copy of a shared mount is shared: what is mounted below it would appear outside, too.
    namespace.tell("private", to);
    if (suid) {
      namespace.tell(
        "options",
        to,
        ["suid", ...wordsOf(mount.root).filter((word) => word !== "nosuid")].join(),
      );
    }
  }
  const file = await namespace.open(at);
  const [there, meant] = [fileStatus(file), fileStatus(tree[0].root)];
  if (there.dev === meant.dev && there.inode === meant.inode) return { file, path: at };
  throw new LoopError({ code: "ESTALE", path: at, hint: "another mount came over it" });
}

/** Makes a mount the user's, which is not attached yet. */
async function give(
  { type }: RunMount,
  copy: OpenFile,
  idMap: OpenFile,
  owner: Owner,
): Promise<void> {
  try {
    await mapIds(copy, idMap);
  } catch (error) {
    throw explainNoOwner(error, type, owner);
  }
}

/**
 * The directory in the namespace: the same as outside, where only root can have renamed what leads there,
 * and only root can go; else any that every machine has, since nobody else sees what lies on it.
 */
function placeFor({ path }: RunMount, owner: Owner | undefined): string {
  if (!owner && path.startsWith("/run/loopdev/")) return path;
  const places = ["/run/loopdev", "/mnt", "/media", "/srv", "/opt"];
  const found = places.find((place) => ifAllowed(() => fileStatus(place))?.type === "directory");
  if (found !== undefined) return found;
  const hint = "run() mounts the image there in the command's namespace: make the directory";
  throw new LoopError({ code: "ENOENT", path: "/mnt", hint });
}

async function prepare(
  namespace: Namespace,
  root: Root,
  run: CheckedRun,
  owner: Owner | undefined,
): Promise<Entry> {
  const { chroot, command } = run;
  const env = environmentOf(run, root.path, owner);
  let [directory, at, whose] = [run.cwd ?? "/", root, "the image"];
  if (!chroot) {
    at = { file: await namespace.open("/"), path: "" };
    directory = run.cwd === undefined ? root.path : absolutePath(run.cwd);
    whose = "this machine";
  }
  const found = await find(at, directory);
  if (found?.type !== "directory") {
    const code = found?.type === undefined ? "ENOENT" : "ENOTDIR";
    throw new LoopError({ code, path: directory, hint: `cwd: ${whose} has no such directory` });
  }
  const path = env.find((entry) => entry.startsWith("PATH="))!.slice("PATH=".length);
  await checkCommand(command[0], { root: at, path, directory, whose });
  // The last one: what this process lends is found through this machine's /proc.
  if (!chroot) namespace.tell("proc", "/proc");
  const enter = await namespace.stay();
  const view: View = {
    root: chroot ? root.path : undefined,
    directory: `${at.path}/${found.below}`,
    command,
    env,
    user: owner,
  };
  return enter(view);
}

function environmentOf(
  { env, clearEnv, chroot }: CheckedRun,
  root: string,
  owner: Owner | undefined,
): string[] {
  const inherited = clearEnv ? [] : environment().map((entry): [string, string] => {
    const end = entry.indexOf("=");
    return [entry.slice(0, end), entry.slice(end + 1)];
  });
  // The folders of this machine's PATH are not the image's.
  const own = chroot ? { PATH } : { LOOPDEV_ROOT: root, ...owner && variablesOf(owner) };
  // Without one, each program of this machine would look in folders of its own choice.
  const all = { PATH, ...Object.fromEntries(inherited), ...own, ...env };
  return Object.entries(all).map(([name, value]) => `${name}=${value}`);
}

/** What a login of this machine's user sets. */
function variablesOf({ uid }: Owner): Record<string, string> {
  const { name, home } = userOf(uid) ?? { name: `${uid}`, home: "/" };
  return { HOME: home, USER: name, LOGNAME: name };
}

/** Starts the command, and resolves when it and all that it has started have ended. */
async function execute(
  namespace: Namespace,
  { args, env }: Entry,
  run: CheckedRun,
  stop: AbortSignal,
): Promise<RunOutput> {
  using stdio = new Stdio(run);
  const pid = startProgram({ path: args[0], args, env, session: false, files: stdio.files });
  stdio.closeTheirs();
  const ends: (() => void)[] = [];
  const on = (signal: AbortSignal | undefined, act: () => void) => {
    if (signal?.aborted) act();
    signal?.addEventListener("abort", act);
    ends.push(() => signal?.removeEventListener("abort", act));
  };
  on(stop, () => void namespace.end());
  const over = new AbortController();
  on(run.signal, () => void terminate(pid, over.signal).then(() => namespace.end(), () => {}));
  let exit: Exit | undefined;
  try {
    exit = await readUntilExit(pid, stdio.readers);
  } finally {
    over.abort();
    for (const end of ends) end();
    await namespace.end();
    // Where nobody could wait for it: the kernel keeps how a child ended until somebody asks.
    if (!exit) await exitOf(pid);
  }
  // What the programs wrote that the command left behind.
  for (const reader of stdio.readers) reader.read();
  return stdio.outputOf(exitOfCommand(exit, stdio.messages, run, stop));
}

/** SIGTERM, and then some time for it. Rejects when `over` says that it has ended. */
async function terminate(pid: number, over: AbortSignal): Promise<void> {
  // What runs the command may not have made its process yet, and this process may lack a descriptor to look.
  const sends = () => unlessRefused(() => signalChildren(pid, SIGTERM)) || undefined;
  await poll(sends, GRACE_MS, over);
  await delay(GRACE_MS, over);
}

/** How the command ended, by the end and the messages of the program that ran it. */
function exitOfCommand(
  exit: Exit | undefined,
  messages: string,
  { command: [path], signal }: CheckedRun,
  stop: AbortSignal,
): Exit {
  const syscall = "wait4";
  if (!exit) throw unknownExit(path);
  if (exit.code === 0 || messages === "") return exit;
  if (stop.aborted || signal?.aborted || CHILD_KILLED.test(messages)) {
    return { code: 128 + SIGKILL, signal: SIGKILL };
  }
  throw new LoopError({ code: "EIO", syscall, path, hint: messages });
}

/** The standard descriptors of a command, and our ends of its pipes. */
class Stdio implements Disposable {
  readonly files: (readonly [theirs: number, file: OpenFile])[] = [];
  readonly #pipes: Partial<Record<"stdout" | "stderr", PipeReader>> = {};
  readonly #messages = messageFile();

  constructor({ stdin, stdout, stderr }: CheckedRun) {
    try {
      const isEmpty = stdin === "null" || stdin.length === 0;
      if (isEmpty) this.files.push([0, open("/dev/null", O_RDWR)]);
      else if (stdin === "inherit") makeBlocking(0);
      else this.files.push([0, memoryFile("stdin", stdin)]);
      if (stdout === "inherit") makeBlocking(1);
      else this.files.push([1, this.#outputTo(stdout, "stdout")]);
      this.files.push([2, this.#messages.duplicate()]);
      this.files.push([3, stderr === "inherit" ? ownErrors() : this.#outputTo(stderr, "stderr")]);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #outputTo(to: "piped" | "null", name: "stdout" | "stderr"): OpenFile {
    if (to === "null") return open("/dev/null", O_RDWR);
    const { readEnd, writeEnd } = pipe(`the ${name} of a command`);
    try {
      this.#pipes[name] = new PipeReader(readEnd);
      return writeEnd;
    } catch (error) {
      readEnd.close();
      writeEnd.close();
      throw error;
    }
  }

  get readers(): PipeReader[] {
    return Object.values(this.#pipes);
  }

  /** Of the programs that run the command. */
  get messages(): string {
    return messagesIn(this.#messages);
  }

  /** Closes what the command has copies of: its pipes end with those. */
  closeTheirs(): void {
    for (const [, file] of this.files.splice(0)) file.close();
  }

  outputOf({ code, signal }: Exit): RunOutput {
    return {
      success: code === 0,
      code,
      signal: signal === undefined ? undefined : `SIG${SIGNALS[signal - 1] ?? `RT${signal}`}`,
      stdout: this.#pipes.stdout?.bytes(),
      stderr: this.#pipes.stderr?.bytes(),
    };
  }

  [Symbol.dispose](): void {
    this.closeTheirs();
    this.#messages.close();
    for (const reader of this.readers) reader[Symbol.dispose]();
  }
}

/** This process's standard error; nothing, if it has none. */
function ownErrors(): OpenFile {
  makeBlocking(2);
  const errors = new OpenFile(2, "stderr");
  return unlessRefused(() => errors.duplicate(), "EBADF") ?? open("/dev/null", O_RDWR);
}
