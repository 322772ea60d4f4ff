/** Boots a guest under QEMU's software emulation and hands on what it reports. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import process from "node:process";
import type { Emulator } from "./emulator.ts";
import type { Machine } from "./machines.ts";

/** An event of the guest: init's own (boot, ready, begin, end, done, error) or a test's. */
export type GuestEvent = { event: string } & Record<string, unknown>;

export interface Boot {
  machine: Machine;
  emulator: Emulator;
  vmlinuz: string;
  initramfs: string;
  /** The kernel's console, then all that the guest wrote. */
  consoleLog: string;
  /** The guest's processors; one thread each. Two are needed to show the race. */
  smp?: number;
  thread?: "multi" | "single";
  memoryMiB?: number;
  append?: readonly string[];
  /** Whether the kernel takes a module that nobody has signed. */
  unsigned?: boolean;
  /** The whole boot may take this long, and this long without a line. */
  seconds: number;
  silenceSeconds: number;
  /** Called with each event, and with each other line. */
  onEvent(event: GuestEvent): void;
  onLine?(line: string): void;
}

export interface Outcome {
  done: boolean;
  /** Why it ended, when not by itself. */
  failure?: string;
  milliseconds: number;
}

const NO_DEFAULTS = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"];
/** See packagesOf(). */
const SIGNED = "module.sig_enforce=1";
const APPEND = [
  "rdinit=/init",
  "panic=-1",
  "random.trust_cpu=on",
  "mitigations=off",
];

/** Boots once. Never rejects for what the guest does. */
export function boot(options: Boot): Promise<Outcome> {
  const start = Date.now();
  const { machine, emulator: { command: [program, ...first] } } = options;
  const signed = options.unsigned ? [] : [SIGNED];
  const append = [`console=${machine.console}`, ...APPEND, ...signed, ...options.append ?? []];
  const child = spawn(program, [
    ...first,
    ...NO_DEFAULTS,
    ...machine.hardware(options.consoleLog),
    ...["-accel", `tcg,thread=${options.thread ?? "multi"}`],
    ...["-smp", String(options.smp ?? 2), "-m", String(options.memoryMiB ?? 3072)],
    ...["-kernel", options.vmlinuz, "-initrd", options.initramfs],
    ...["-append", append.join(" ")],
  ], { stdio: ["ignore", "pipe", "pipe"] });

  const outcome: Outcome = { done: false, milliseconds: 0 };
  const fail = (reason: string) => {
    outcome.failure ??= reason;
    child.kill("SIGKILL");
  };
  let silence: ReturnType<typeof setTimeout>;
  const heard = () => {
    clearTimeout(silence);
    const { silenceSeconds } = options;
    silence = setTimeout(() => fail(`silent for ${silenceSeconds} s`), silenceSeconds * 1000);
  };
  const deadline = setTimeout(
    () => fail(`not done in ${options.seconds} s`),
    options.seconds * 1000,
  );
  heard();
  const onParentExit = () => child.kill("SIGKILL");
  process.once("exit", onParentExit);

  createInterface({ input: child.stdout }).on("line", (raw) => {
    heard();
    const line = raw.replace(/\r$/, "");
    const event = parseEvent(line);
    if (event === undefined) return options.onLine?.(line);
    if (event.event === "done") outcome.done = true;
    options.onEvent(event);
  });
  let stderr = "";
  child.stderr.on("data", (chunk) => stderr += chunk);

  return new Promise((resolve) => {
    const end = (reason: string | undefined) => {
      clearTimeout(silence);
      clearTimeout(deadline);
      process.removeListener("exit", onParentExit);
      if (!outcome.done) outcome.failure ??= reason;
      outcome.milliseconds = Date.now() - start;
      resolve(outcome);
    };
    child.once("error", (error) => end(`${machine.emulator.program}: ${error.message}`));
    child.once("close", () => end(stderr.trim() || "the guest died"));
  });
}

function parseEvent(line: string): GuestEvent | undefined {
  if (!line.startsWith("#guest {")) return undefined;
  try {
    return JSON.parse(line.slice("#guest ".length));
  } catch {
    return undefined;
  }
}
