/** strace on a running process: begin, end, and the calls in between. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { scratch } from "../tests/support/support.ts";
import { RUNTIME_CALLS, RUNTIME_FILES } from "./errors.ts";
import { MARKS } from "./scenarios.ts";

/** One system call, as strace shows it. */
export interface Call {
  readonly thread: string;
  /** Seconds. */
  readonly at: number;
  readonly name: string;
  /** The how manieth of this name in its thread since strace began: what `when=` counts. */
  readonly nth: number;
  /** Of ioctl: LOOP_CONFIGURE, BLKPG_ADD_PARTITION; of fsconfig: FSCONFIG_CMD_CREATE. */
  readonly request: string | undefined;
  /** The file, by the name that users know it by. */
  readonly path: string;
  readonly fd: number | undefined;
  /** undefined: it did not return. */
  readonly result: number | undefined;
  /** The error that a fault gave. */
  readonly injected: string | undefined;
  readonly text: string;
}

export interface Trace {
  /** Lets go of the process, if it still is, and gives its calls in their order. */
  end(): Promise<Call[]>;
}

let logs = 0;

/** Attaches strace to all threads of a process, or to those named and no other. */
export async function beginTrace(
  pid: number,
  { inject = [], threads }: { inject?: readonly string[]; threads?: readonly string[] } = {},
): Promise<Trace> {
  const log = scratch(`trace-${logs++}`);
  const args = [
    ...["-o", log, "-y", "-s", "200", "-ttt", "-e", "signal=none"],
    ...["-e", `trace=!${RUNTIME_CALLS.join(",")}`],
    // What a program that we start does is its own.
    ...["-b", "execve"],
    ...inject.flatMap((what) => ["-e", `inject=${what}`]),
    ...threads ? threads.flatMap((thread) => ["-p", thread]) : ["-ff", "-p", String(pid)],
  ];
  const child = spawn("strace", args, { stdio: ["ignore", "ignore", "pipe"] });
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  let said = "";
  const attached = () =>
    (said.match(/ attached(?: with \d+ threads)?$/gm)?.length ?? 0) >= (threads?.length ?? 1);
  await new Promise<void>((resolve) => {
    child.stderr.on("data", (data) => {
      said += data;
      if (attached()) resolve();
    });
    child.on("close", () => resolve());
  });
  if (!attached()) throw new Error(said);
  return {
    async end() {
      if (child.exitCode === null && child.signalCode === null) process.kill(child.pid!, "SIGINT");
      await ended;
      return readLogs(log);
    },
  };
}

function readLogs(log: string): Call[] {
  const folder = dirname(log);
  const names = readdirSync(folder).filter((name) =>
    name === basename(log) || name.startsWith(`${basename(log)}.`)
  );
  const calls = names.flatMap((name) => {
    const text = readFileSync(join(folder, name), "utf8");
    rmSync(join(folder, name));
    return parse(text, name.slice(basename(log).length + 1));
  });
  return nameDescriptors(calls.sort((a, b) => a.at - b.at));
}

/** Links in /sys are resolved by strace; a user knows the name that was opened. */
function nameDescriptors(calls: Call[]): Call[] {
  const opened = new Map<number, string>();
  return calls.map((call) => {
    const { name, fd, path, result } = call;
    if (name === "openat" && result !== undefined && result >= 0) opened.set(result, path);
    if (fd === undefined) return call;
    const known = { ...call, path: opened.get(fd) ?? path };
    if (name === "close") opened.delete(fd);
    return known;
  });
}

function parse(text: string, threadOfFile: string): Call[] {
  const counts = new Map<string, number>();
  const calls: Call[] = [];
  for (const line of text.split("\n")) {
    const [, thread = threadOfFile, at, name, rest] =
      /^(?:(\d+) +)?(\d+\.\d+) (\w+)\((.*)$/.exec(line) ?? [];
    if (name === undefined) continue;
    const nth = (counts.get(`${thread} ${name}`) ?? 0) + 1;
    counts.set(`${thread} ${name}`, nth);
    // wait4() takes a process.
    const fd = name === "wait4" ? null : /^(-?\d+)(?!x)(?:<([^>]*)>)?/.exec(rest);
    const named = /"([^"]+)"/.exec(rest)?.[1];
    const result =
      / = (-?\d+)(?:<[^>]*>(?:\(deleted\))?)?(?: (E[A-Z0-9]+) \(.*\))?( \(INJECTED\))?$/
        .exec(rest);
    calls.push({
      thread,
      at: Number(at),
      name,
      nth,
      request: ["ioctl", "fsconfig"].includes(name) ? requestOf(rest) : undefined,
      path: userPath(fd ? fd[2] ?? "" : named ?? ""),
      fd: fd ? Number(fd[1]) : undefined,
      result: result ? Number(result[1]) : undefined,
      injected: /\(INJECTED\)$/.test(rest)
        ? / = -1 (E[A-Z0-9]+) [^=]*$/.exec(rest)?.[1]
        : undefined,
      text: `${name}(${rest}`,
    });
  }
  return calls;
}

function requestOf(rest: string): string | undefined {
  const request = /^[^,]*, (\w+)/.exec(rest)?.[1];
  return request === "BLKPG" ? /op=(\w+)/.exec(rest)?.[1] ?? request : request;
}

/** The kernel resolves /sys/block's links, and our own node is no name for a user. */
function userPath(path: string): string {
  return path.replace("/sys/devices/virtual/block/", "/sys/block/")
    .replace("/dev/.loopdev-loop", "/dev/loop");
}

/** Younger than this strace, which can do nothing to it: cachestat(2) before 6.5. */
const NAMELESS = /^syscall_0x/;

/** What lies between the two marks, on any thread, but the runtime's own pipes and event queues. */
export function between(calls: readonly Call[]): Call[] {
  const mark = (name: string) => calls.find(({ text }) => text.includes(name))?.at;
  const begin = mark(MARKS.begin) ?? Infinity;
  const end = mark(MARKS.end) ?? Infinity;
  return calls.filter((call) => {
    const { at, fd, path, text } = call;
    return at > begin && at < end && !text.includes(MARKS.persisted) && !NAMELESS.test(call.name) &&
      (fd === undefined || path.startsWith("/") || path.includes("fscontext")) &&
      (!/^(clone|ppoll)/.test(call.name) || isOfKeeper(call)) && !RUNTIME_FILES.test(path);
  });
}

/** posix_spawn(), and the look at a pipe whether it has a reader; runtimes start threads, and wait. */
const isOfKeeper = ({ name, text }: Call) =>
  text.includes(name === "ppoll" ? "events=0" : "CLONE_VFORK");

/** Without what a child does before it becomes another program. */
export function withoutChildren(calls: readonly Call[]): Call[] {
  const children = calls.filter(({ name }) => name === "execve").map(({ thread }) => thread);
  return calls.filter(({ thread }) => !children.includes(thread));
}

/**
 * What makes a call the same in two runs: the device's number differs, a partition's does not, and no
 * mount's name.
 */
export function signature({ name, request, path, fd }: Call): string {
  const anyPath = path.replaceAll(/loop\d+/g, "loopN").replace(/\b(7|259):\d+/, "$1:N")
    .replace(/^\/run\/loopdev\/\d+-\d+-\w{10}/, "/run/loopdev/OWNER").replace(
      /loopN-\d{6}/,
      "loopN-N",
    )
    .replace(/^\/\w{20}\//, "/RANDOM/").replace(/^\/proc\/self\/fd\/\d+/, "/proc/self/fd/N")
    .replace(/^\/proc\/\d+\/fd\/\d+\/\w{20}/, "/proc/PID/fd/N/RANDOM");
  return [name, request, fd === undefined ? undefined : "fd", anyPath].filter(Boolean).join(" ");
}
