/** A script of its own under strace: what it prints, and the system calls that it makes. */
import { assert } from "@std/assert";
import { spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { MOD, onThisRuntime, run, RUNTIME, scratch, until } from "./support.ts";

/** A system call as strace decodes it: `openat(AT_FDCWD, "/dev/loop4", O_RDWR|O_CLOEXEC) = 7`. */
export interface TracedCall {
  /** Whether the thread made it that runs the script. */
  readonly isMain: boolean;
  readonly text: string;
}

export interface Tracing {
  /** As behind strace's `-e trace=`. */
  readonly calls: string;
  /** As behind strace's `-e inject=`; of each name one. */
  readonly inject?: string | readonly string[];
  /** Only calls on these files are traced, and made to fail. */
  readonly on?: string | readonly string[];
  /** One thread makes all calls, and no other's are given: strace's `when=` counts each thread's for itself. */
  readonly here?: boolean;
  /** Whether each descriptor is shown with its file's name. */
  readonly names?: boolean;
  /** A command line's beginning that runs the rest in other surroundings. */
  readonly around?: readonly string[];
}

export interface Traced {
  readonly stdout: string;
  readonly calls: TracedCall[];
}

/** Another process took the device, or removed it, between LOOP_CTL_GET_FREE and LOOP_CONFIGURE. */
const LOST = [
  /LOOP_CONFIGURE\b.* = -1 EBUSY/,
  /^openat\([^"]*"\/(dev\/(\.loopdev-)?loop\d+|sys\/block\/loop\d+\/dev)".* = -1 E/,
];
/** With O_EXCL a call asks who holds our own device. */
const isLost = ({ text }: TracedCall) =>
  LOST.some((call) => call.test(text)) && !/\(INJECTED\)|O_EXCL/.test(text);
/** A neighbour has left a partition on the free device, which is removed before the bind. */
const isStale = ({ calls }: Traced) => {
  const bind = calls.findIndex(({ text }) => text.includes("LOOP_CONFIGURE"));
  return calls.slice(0, Math.max(bind, 0)).some(({ text }) => text.includes("BLKPG_DEL_PARTITION"));
};
const TRIES = 10;

/**
 * Runs `body`, to which attach(), probePartscanRace() and report() are known, under strace. Again if
 * a neighbour on this machine took the device that it was about to take, or has left something on it: then attach()
 * rightly makes more calls.
 */
export function traced(body: string, tracing: Tracing): Traced {
  let last = tracedOnce(body, tracing);
  for (let tries = 1; (last.calls.some(isLost) || isStale(last)) && tries < TRIES; tries++) {
    last = tracedOnce(body, tracing);
  }
  assert(last.status === 0, last.stderr);
  return last;
}

/** What shall fail, and how. */
export interface Fault {
  /** Its first call: strace's decoding of it matches this. */
  readonly call: RegExp;
  /** As behind strace's `-e inject=NAME:`, by the number of that call among those of its name. */
  readonly how: (nth: number) => string;
  /** Whether all calls that fail must be like it, and not only the first. */
  readonly all?: boolean;
  /** What else fails after it: calls of another name, of which the next one is the `nth`. */
  readonly then?: readonly [name: string, how: Fault["how"]];
}

/**
 * The same while calls fail. strace only counts calls by their name, and where a neighbour has taken the device in one
 * of two runs, or Node started a thread in one, the number is another call's: then again. `failed`: the name of the
 * system call.
 */
export function tracedWithFault(
  body: string,
  tracing: Omit<Tracing, "inject" | "here">,
  { call, how, all = false, then }: Fault,
): Traced & { failed: string } {
  const here = { ...tracing, here: true };
  for (let aims = 1;; aims++) {
    const texts = traced(body, here).calls.map(({ text }) => text);
    const first = texts.findIndex((text) => call.test(text));
    assert(first >= 0, `no call is like ${call}: ${texts.join("\n")}`);
    const [failed] = texts[first].split("(");
    const nth = (name: string) =>
      texts.slice(0, first).filter((text) => text.startsWith(`${name}(`)).length + 1;
    const later = then ? [`${then[0]}:${then[1](nth(then[0]))}`] : [];
    const told = traced(body, { ...here, inject: [`${failed}:${how(nth(failed))}`, ...later] });
    const failing = (name: string) =>
      told.calls.filter(({ text }) => text.startsWith(`${name}(`) && text.includes("(INJECTED)"));
    const made = failing(failed);
    const meant = made.filter(({ text }) => call.test(text));
    const behind = told.calls.slice(told.calls.indexOf(made[0]) + 1);
    const next = then && behind.find(({ text }) => text.startsWith(`${then[0]}(`));
    const isAimed = (all ? meant.length === made.length : meant[0] === made[0]) &&
      (!then || next === failing(then[0])[0]);
    if (made.length > 0 && isAimed || aims === TRIES) return { ...told, failed };
  }
}

function tracedOnce(
  body: string,
  { calls, inject, on = [], here = false, names = false, around = [] }: Tracing,
): Traced & { status: number | null; stderr: string } {
  const [script, log] = [scratch("traced.ts"), scratch("strace.log")];
  const libc = JSON.stringify(new URL("lib/runtime/libc.ts", MOD));
  // Node opens its stdout when it is first used, by calls that are made to fail later.
  const early = RUNTIME === "node" ? "process.stdout;" : "";
  writeFileSync(
    script,
    `import { attach, probePartscanRace, report } from ${JSON.stringify(MOD)};
     ${here ? `import { waitHere } from ${libc}; waitHere();` : ""}
     ${early}
     ${body}`,
  );
  const { stdout, stderr, status } = run([
    ...around,
    ...["strace", "-f", "-o", log, "-e", `trace=${calls}`, ...names ? ["-y"] : []],
    ...[inject ?? []].flat().flatMap((one) => ["-e", `inject=${one}`]),
    ...[on].flat().flatMap((path) => ["-P", path]),
    ...onThisRuntime(script),
  ]);
  const lines = joinResumed(readFileSync(log, "utf8").split("\n"));
  const main = lines.find((line) => line.includes("/dev/loop"))?.split(" ")[0];
  const made = lines.filter((line) => /^\d+ +\w+\(/.test(line)).map((line) => ({
    isMain: line.startsWith(`${main} `),
    // musl's open() is open(2), glibc's is openat(2); aarch64 has openat(2) alone.
    text: line.replace(/^\d+ +/, "").replace(/^open\(/, "openat(AT_FDCWD, "),
  }));
  return { stdout, stderr, status, calls: here ? made.filter(({ isMain }) => isMain) : made };
}

/**
 * A call during which another thread made one stands on two lines; here it is one, where it began. An open() stands
 * where it ended: until then its descriptor may be another file's, which another thread closes meanwhile.
 */
function joinResumed(lines: string[]): string[] {
  const open = new Map<string, number>();
  lines.forEach((line, index) => {
    const [, thread, rest] = /^(\d+) +(.*)$/.exec(line) ?? [];
    if (rest?.endsWith(" <unfinished ...>")) open.set(thread, index);
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest ?? "")?.[1];
    const begun = open.get(thread);
    if (resumed === undefined || begun === undefined) return;
    const joined = lines[begun].replace(" <unfinished ...>", resumed.replace(/ +=/, " ="));
    const isOpen = /^\d+ +open(at2?)?\(/.test(joined);
    lines[begun] = isOpen ? "" : joined;
    lines[index] = isOpen ? joined : "";
  });
  return lines;
}

/**
 * How a command ends if others `act` while one of its calls has just been made: strace stops it then. `at`: which
 * call, in strace's options, with `signal=STOP`.
 */
export async function whileStopped(
  at: string[],
  command: string[],
  act: () => void | Promise<void>,
  options: { cwd?: string } = {},
): Promise<{ status: number | null; stderr: string }> {
  const log = scratch(`strace-${Math.random()}.log`);
  const stdio = ["ignore", "ignore", "pipe"] as ["ignore", "ignore", "pipe"];
  const child = spawn("strace", ["-f", "-o", log, ...at, ...command], { ...options, stdio });
  let stderr = "";
  child.stderr.on("data", (text) => stderr += text);
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  const stopped = () =>
    existsSync(log) ? /^(\d+) .*stopped by SIGSTOP/m.exec(readFileSync(log, "utf8")) : undefined;
  await until(() => Boolean(stopped()), "it to stop");
  await act();
  process.kill(Number(stopped()![1]), "SIGCONT");
  return { status: await ended, stderr };
}
