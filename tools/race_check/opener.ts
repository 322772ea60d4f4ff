/**
 * The hostile opener: opens a loop device O_RDONLY and closes it, as udevd does, but at the worst
 * moment. An open while the kernel still owes the device a scan makes it scan then and there;
 * LOOP_CONFIGURE's own scan afterwards drops what was found and adds it again.
 *
 *     bun tools/race_check/opener.ts DISK [react | spin]
 *     deno run --allow-ffi tools/race_check/opener.ts loop0 spin
 *
 * It never touches another device than the one it is given, and prints "ready" once it is warm. Other
 * programs start it on a thread of its own with {@linkcode startOpener}, and give it a device and take
 * it back.
 */
import process from "node:process";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { cString, O_CLOEXEC } from "../../lib/kernel/file.ts";
import { readOptions } from "../../dev/options.ts";
import type { Descriptor } from "../../lib/runtime/contract.ts";
import { libc } from "../../lib/runtime/libc.ts";
import { UeventSocket } from "./uevents.ts";

/** "react" opens after each uevent; "spin" without a pause. Which one hits depends on the kernel. */
export const OPENER_KINDS = ["react", "spin"] as const;
export type OpenerKind = typeof OPENER_KINDS[number];

/** Two words that both threads see: what to do, and what is being done. */
const TASK = 0;
const DOING = 1;
const REST = -1;
const END = -2;

/** A task is one word, so that it is taken over whole: the device's number and the kind. */
function taskOf(number: number, kind: OpenerKind): number {
  return number * 2 + OPENER_KINDS.indexOf(kind);
}

const REACTION_MS = 5;

/** Nothing but the two calls: what else is done between them makes the window harder to hit. */
function openAndClose(path: Uint8Array): void {
  const fd = libc().open(path, O_CLOEXEC, 0);
  if (fd >= 0) libc().close(fd as Descriptor);
}

/** The opener's thread, until its task is END. */
function work(words: Int32Array, warm = () => {}): void {
  using socket = new UeventSocket();
  // Warm up elsewhere: the first calls are interpreted, and too slow to hit the window.
  const harmless = cString("/dev/null");
  for (let i = 0; i < 5000; i++) {
    socket.wait(0);
    openAndClose(harmless);
    socket.discard();
  }
  warm();
  for (;;) {
    const task = Atomics.load(words, TASK);
    Atomics.store(words, DOING, task);
    if (task === END) return;
    if (task === REST) {
      Atomics.wait(words, TASK, REST);
      continue;
    }
    const path = cString(`/dev/loop${task >> 1}`);
    const reacts = OPENER_KINDS[task & 1] === "react";
    socket.discard();
    while (Atomics.load(words, TASK) === task) {
      if (reacts && !socket.wait(REACTION_MS)) continue;
      // Open first, read afterwards: the window is as short as the kernel's way from uevent to scan.
      openAndClose(path);
      socket.discard();
    }
  }
}

/** A running opener. It rests until it gets a device. */
export class Opener implements AsyncDisposable {
  readonly #words: Int32Array;
  readonly #exited: Promise<void>;
  #failure: Error | undefined;

  constructor() {
    this.#words = new Int32Array(new SharedArrayBuffer(8)).fill(REST);
    this.#words[DOING] = 0;
    const worker = new Worker(new URL(import.meta.url), { workerData: this.#words });
    worker.on("error", (error) => this.#failure = error as Error);
    this.#exited = new Promise((resolve) => worker.on("exit", () => resolve()));
  }

  /** Resolves once the opener opens device `number`. */
  open(number: number, kind: OpenerKind): Promise<void> {
    return this.#assign(taskOf(number, kind));
  }

  /** Resolves once the opener has no device open and opens none. */
  rest(): Promise<void> {
    return this.#assign(REST);
  }

  async #assign(task: number): Promise<void> {
    Atomics.store(this.#words, TASK, task);
    Atomics.notify(this.#words, TASK);
    const deadline = performance.now() + 30_000;
    while (Atomics.load(this.#words, DOING) !== task) {
      if (this.#failure) throw new Error(`the opener failed: ${this.#failure.message}`);
      if (performance.now() > deadline) throw new Error("the opener does not answer");
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Atomics.store(this.#words, TASK, END);
    Atomics.notify(this.#words, TASK);
    await this.#exited;
  }
}

/** Resolves when the opener is warm. */
export async function startOpener(): Promise<Opener> {
  const opener = new Opener();
  await opener.rest();
  return opener;
}

const HELP = `Usage: opener.ts DISK [react | spin]

Opens DISK, which is loop0 or the like, at each of its uevents, or all the time, until it is killed.

  -h, --help  this text`;

if (!isMainThread) {
  if (workerData instanceof Int32Array) work(workerData);
} else if (import.meta.main) {
  const { operands: [disk = "", kind = "react"] } = readOptions(HELP, {}, { most: 2 });
  const number = /^(?:\/dev\/)?loop(\d+)$/.exec(disk)?.[1];
  if (number === undefined || !OPENER_KINDS.includes(kind as OpenerKind)) {
    console.error(HELP);
    process.exit(1);
  }
  work(Int32Array.of(taskOf(Number(number), kind as OpenerKind), 0), () => console.log("ready"));
}
