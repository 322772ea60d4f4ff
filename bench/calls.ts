/**
 * Whether C makes the same system calls as loopdev, which is what "C, same calls" says: traces a cycle of
 * each and prints what one of them makes more often. Whose thread makes a call is no difference.
 *
 *     deno run -A bench/calls.ts
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { readOptions } from "../dev/options.ts";
import { table } from "../dev/terminal.ts";
import { ROOT } from "../tests/support/support.ts";
import { command, must, RUNTIMES } from "./contenders.ts";
import { makeImages } from "./measure.ts";
import { makeFileSystem } from "./mounts.ts";

const HELP = `Usage: bench/calls.ts [RUNTIME]

Traces a cycle of attach and detach with each strategy, and one with a mount, on Bun or on RUNTIME, and
the same of bench/cycle.c and bench/mount_cycle.c: prints the system calls of which one makes more,
in most cycles. Exits with 1 if there are any. Needs root, cc, strace, sfdisk and mkfs.ext4.

  -h, --help  this text`;

const STRATEGIES = ["none", "one-step", "two-step", "userspace"];

/** Cycles, and those in which a runtime does what it does once. */
const CYCLES = 14;
const WARM = 4;

/** What a runtime does for itself: memory, threads, its event loop and clock. */
const OWN =
  "futex,madvise,mmap,munmap,mprotect,brk,epoll_wait,epoll_pwait,epoll_pwait2,epoll_ctl," +
  "sched_yield,clock_gettime,clock_nanosleep,getpid,gettid,getrusage,rt_sigprocmask,rt_sigaction," +
  "rt_sigreturn,restart_syscall,membarrier,timerfd_settime,sched_getaffinity";

/** A word for the call: its name, and which request or file. Undefined for a runtime's own. */
function wordFor(line: string): string | undefined {
  const call = /^\d+ +(\w+)\((.*)/.exec(line);
  if (!call) return undefined;
  const [, name, rest] = call;
  // An eventfd, by which threads wake each other; and JavaScriptCore, which looks how large it is.
  if (/^(read|write)$/.test(name) && /^\d+, ("\\\d|\[)|^\d+, "[^"]*"\.*, 1024\)/.test(rest)) return;
  if (rest.includes("/proc/self/statm") || name === "newfstatat") return undefined;
  // Bun's writeFileSync() has it, where others open with O_TRUNC.
  if (name === "ftruncate") return undefined;
  const [, request = ""] = /^\d+, ((?:LOOP|BLK|F_|FSCONFIG|SYNC)\w*)/.exec(rest) ?? [];
  const [, path = ""] = /"(\/(?:dev|sys|proc|run)\/[^"]*)"/.exec(rest) ?? [];
  return [name, request, path.replaceAll(/\d+|\/run\/\S*/g, "N")].filter(Boolean).join(" ");
}

/** Without the looks whether other processes that mount are dead: one opens, locks and closes theirs. */
function withoutOthers(lines: readonly string[]): string[] {
  let locked: string | undefined;
  return lines.filter((line) => {
    if (line.includes("O_NOFOLLOW|O_CLOEXEC|O_DIRECTORY")) return false;
    const [, tried] = / flock\((\d+),/.exec(line) ?? [];
    locked = tried ?? locked;
    if (tried !== undefined || locked === undefined) return tried === undefined;
    const isTheirs = line.includes(` close(${locked})`);
    if (isTheirs) locked = undefined;
    return !isTheirs;
  });
}

/** How often each call is made in most of the cycles: somebody else may be first at a device. */
function cycleOf(log: string): Map<string, number> {
  const lines = withoutOthers(readFileSync(log, "utf8").split("\n"));
  const binds = lines.flatMap((line, i) => /LOOP_CONFIGURE(?!.*EBUSY)/.test(line) ? [i] : []).slice(
    WARM,
  );
  const cycles = binds.slice(1).map((to, i) => {
    const words = lines.slice(binds[i], to).map(wordFor);
    return Map.groupBy(words.filter((word) => word !== undefined), (word) => word);
  });
  const all = new Set(cycles.flatMap((cycle) => [...cycle.keys()]));
  return new Map([...all].map((word) => [word, commonest(cycles, word)]));
}

function commonest(cycles: readonly Map<string, string[]>[], word: string): number {
  const counts = cycles.map((cycle) => cycle.get(word)?.length ?? 0);
  const often = (count: number) => counts.filter((each) => each === count).length;
  return counts.toSorted((a, b) => often(b) - often(a))[0];
}

function trace(folder: string, program: readonly string[], input: string): Map<string, number> {
  const log = join(folder, "trace");
  must("strace", ["-f", "-qq", "-o", log, "-e", `trace=!${OWN}`, ...program], `${input}\n`);
  return cycleOf(log);
}

/** Rows of what one of them makes more often. */
function differences(ours: Map<string, number>, theirs: Map<string, number>): string[][] {
  const words = [...new Set([...ours.keys(), ...theirs.keys()])].toSorted();
  return words.map((word) => [word, `${ours.get(word) ?? 0}`, `${theirs.get(word) ?? 0}`])
    .filter(([, a, b]) => a !== b);
}

function main(runtime: typeof RUNTIMES[number], folder: string): number {
  const compile = (name: string) => {
    must("cc", ["-O2", "-o", join(folder, name), join(ROOT, `bench/${name}.c`)]);
    return join(folder, name);
  };
  const { image, partitioned } = makeImages(folder);
  const disk = makeFileSystem(folder, "disk.img", 64);
  const [cycle, mountCycle] = ["cycle", "mount_cycle"].map(compile);
  const pairs = [
    ...STRATEGIES.map((name) => ({
      name,
      ours: command(runtime, "cycle.ts", image, partitioned),
      theirs: [cycle, "same", image, partitioned],
      input: `${name} ${CYCLES}`,
    })),
    {
      name: "mount",
      ours: command(runtime, "mount_cycles.ts", disk),
      theirs: [mountCycle, disk],
      input: `loopdev ${CYCLES}`,
    },
  ];
  const rows = pairs.flatMap(({ name, ours, theirs, input }) => {
    const found = differences(trace(folder, ours, input), trace(folder, theirs, input));
    return found.map((row) => [name, ...row]);
  });
  if (rows.length === 0) console.log("C makes the same calls.");
  else console.log(table([["cycle", "call", runtime, "C"], ...rows]));
  return rows.length === 0 ? 0 : 1;
}

const { operands: [name = "Bun"] } = readOptions(HELP, {}, { most: 1 });
const runtime = RUNTIMES.find((each) => each.toLowerCase() === name.toLowerCase());
if (runtime === undefined) {
  console.error(`bench/calls.ts: no such runtime: ${name}`);
  process.exit(2);
}
const folder = mkdtempSync(join(tmpdir(), "loopdev-bench-"));
let status = 1;
try {
  status = main(runtime, folder);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(status);
