/**
 * Hostile processes, one kind after the other: attach() succeeds beside each of them, in bounded time.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { say } from "../dev/terminal.ts";
import { makeImage, onRuntime, ROOT, THREE_PARTITIONS } from "../tests/support/support.ts";
import { devicesOf, type Row, within } from "./common.ts";
import { Contender, makePattern } from "./contender_process.ts";
import type { RuntimeName } from "./scenarios.ts";

/** Longer than all tries of a bounded retry together. */
const BOUND_MS = 20_000;

interface Hostility {
  readonly name: string;
  /** A command that prints a line when it is at it, and ends when its stdin does or it is killed. */
  command(): string[];
}

/** The device that LOOP_CTL_GET_FREE will offer, found by losetup. */
const FIRST_FREE = "device=$(losetup --find) && ";

const HOSTILITIES: Hostility[] = [
  {
    name: "grabs 32 devices, lets go, again and again",
    command() {
      const images = Array.from({ length: 32 }, (_, i) => makePattern(`grabbed-${i}.img`));
      const loop = `while :; do for i; do losetup --find "$i" 2>/dev/null; [ "$said" ] || echo on
        said=1; done; for i; do losetup --associated "$i" | while IFS=: read -r device _; do
        losetup --detach "$device"; done; done; read -r -t 0.001 _; [ $? -gt 128 ] || exit 0; done`;
      return ["bash", "-c", loop, "grab", ...images];
    },
  },
  {
    name: "opens and closes the free device in a loop",
    command: () => ["sh", "-c", `${FIRST_FREE} exec "$@" "$device" spin`, "spin", ...opener()],
  },
  {
    name: "holds a lock (flock LOCK_EX) on the free device",
    command: () => ["sh", "-c", `${FIRST_FREE} exec 9<"$device" && flock 9 && echo on && exec cat`],
  },
  {
    name: "holds the first free devices O_EXCL",
    command: () => onRuntime("bun", join(ROOT, "torture/hold_exclusively.ts")),
  },
];

function opener(): string[] {
  return onRuntime("bun", join(ROOT, "tools/race_check/opener.ts"));
}

/** Resolves when the process is at it. */
async function start(command: string[]): Promise<ChildProcess> {
  const [name, ...args] = command;
  const child = spawn(name, args, { stdio: ["pipe", "pipe", "inherit"] });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once("data", () => resolve());
    child.on("close", () => reject(new Error(`${command.slice(0, 3).join(" ")} ended`)));
  });
  return child;
}

async function stop(child: ChildProcess): Promise<void> {
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  child.stdin!.end();
  const timer = setTimeout(() => process.kill(child.pid!, "SIGTERM"), 1000);
  await ended;
  clearTimeout(timer);
}

/** Each kind of hostility against attach() on all runtimes at once. */
export async function hostility(runtimes: readonly RuntimeName[], times: number): Promise<Row[]> {
  const rows: Row[] = [];
  for (const { name, command } of HOSTILITIES) {
    const images = runtimes.map((runtime) =>
      makeImage(`victim-${runtime}.img`, 8, THREE_PARTITIONS)
    );
    const victims = runtimes.map((runtime, i) => new Contender(runtime, [images[i]]));
    for (const victim of victims) await victim.ready();
    const hostile = await start(command());
    const attempts: { ms: number; error?: string }[] = [];
    try {
      const answers = await Promise.all(
        victims.map((victim) => victim.ask(`cycle ${times}`, BOUND_MS * times)),
      );
      attempts.push(...answers.flatMap(({ attempts }) => attempts));
    } finally {
      await stop(hostile);
    }
    for (const victim of victims) await victim[Symbol.asyncDispose]();

    const violations = attempts.flatMap(({ ms, error }) => [
      ...ms > BOUND_MS ? [`attach() took ${ms.toFixed(0)} ms`] : [],
      ...error === undefined ? [] : [`attach() failed: ${error}`],
    ]);
    if (!await within(1000, () => images.flatMap(devicesOf).length === 0)) {
      violations.push("devices are left");
    }
    const sorted = attempts.map(({ ms }) => ms).sort((a, b) => a - b);
    const detail = `${attempts.length} attach(), median ` +
      `${sorted[sorted.length >> 1].toFixed(1)} ms, slowest ${sorted.at(-1)!.toFixed(0)} ms; ` +
      `${violations.length} violations` + violations.slice(0, 3).map((v) => ` | ${v}`).join("");
    const outcome = violations.length === 0 ? "pass" : "fail";
    rows.push({ part: "contention", name, outcome, detail });
    say(`contention: ${name}: ${detail}`);
  }
  return rows;
}
