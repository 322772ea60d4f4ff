/** A subject in a process of its own, with images of its own. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { ext4Image, makeExt4 } from "../tests/support/mount_image.ts";
import { makeImage, onRuntime, ROOT, scratch, THREE_PARTITIONS } from "../tests/support/support.ts";
import { openFiles } from "./common.ts";
import { type RuntimeName, type ScenarioName, WARM_UPS } from "./scenarios.ts";

/** What an act came to. */
export interface Reply {
  readonly result?: { readonly path?: string };
  readonly error?: {
    readonly name?: string;
    readonly code?: string;
    readonly syscall?: string;
    readonly request?: string;
    readonly path?: string;
    readonly message?: string;
    /** The messages of its causes. */
    readonly behind?: readonly string[];
  };
  /** What it has written to stderr. */
  readonly warned?: string;
}

/** Longer than any bounded retry of the library. */
const HANG_MS = 30_000;

/** The end of an idle process. */
const END_MS = 2000;
/** After its last answer. */
const LEAVE_MS = 10_000;

let made = 0;

/** An image with a GPT, one whose MBR changes, one with a file system, one that grows, and one with a tree. */
export function makeImages(): string[] {
  const number = made++;
  return [
    makeImage(`gpt-${number}.img`, 8, THREE_PARTITIONS),
    makeImage(`dos-${number}.img`, 8),
    ext4Image(`ext4-${number}.img`),
    makeImage(`grown-${number}.img`, 8, THREE_PARTITIONS),
    treeImage(`tree-${number}.img`),
  ];
}

/** An image with a root, and a /home that its fstab names. */
function treeImage(name: string): string {
  const file = makeImage(name, 10, "label: gpt\nstart=1MiB, size=4MiB\nsize=4MiB, name=home\n");
  const root = scratch("root");
  for (const folder of ["etc", "home"]) mkdirSync(`${root}/${folder}`, { recursive: true });
  writeFileSync(`${root}/etc/fstab`, "PARTLABEL=home /home ext4 defaults 0 2\n");
  const size = 4 * 2 ** 20;
  for (const [i, folder] of [root, undefined].entries()) {
    if (!makeExt4(file, { start: 2 ** 20 + i * size, size }, folder)) {
      throw new Error("mkfs.ext4 fails");
    }
  }
  return file;
}

/** Lines that a child writes to stdout, with a deadline. */
export class Lines {
  #lines: string[] = [];
  #wake = () => {};
  #over = false;
  #stderr = "";
  readonly ended: Promise<void>;

  constructor(child: ChildProcessWithoutNullStreams) {
    let rest = "";
    child.stdout.on("data", (data) => {
      const lines = (rest + data).split("\n");
      rest = lines.pop()!;
      this.#lines.push(...lines);
      this.#wake();
    });
    child.stderr.on("data", (data) => this.#stderr += data);
    child.stdin.on("error", () => {});
    this.ended = new Promise((resolve) =>
      child.on("close", () => {
        this.#over = true;
        this.#wake();
        resolve();
      })
    );
  }

  get over(): boolean {
    return this.#over;
  }

  async next(ms = HANG_MS): Promise<string> {
    const deadline = Date.now() + ms;
    while (this.#lines.length === 0) {
      if (this.#over) throw new Error(`the process died: ${this.#stderr.trim().slice(0, 500)}`);
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`no answer within ${ms} ms`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return this.#lines.shift()!;
  }
}

export class Subject implements AsyncDisposable {
  readonly images: readonly string[];
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: Lines;
  #pid = 0;

  private constructor(runtime: RuntimeName, images: readonly string[]) {
    this.images = images;
    const [name, ...args] = onRuntime(runtime, join(ROOT, "torture/subject.ts"), ...images);
    this.#child = spawn(name, args, { stdio: "pipe" });
    this.#lines = new Lines(this.#child);
  }

  /** Starts one and lets it act once: what it loads lazily is loaded then. */
  static async start(
    runtime: RuntimeName,
    warmUp: ScenarioName,
    images: readonly string[] = makeImages(),
  ): Promise<Subject> {
    const subject = new Subject(runtime, images);
    subject.#pid = JSON.parse(await subject.#lines.next()).pid;
    const first = WARM_UPS[warmUp] ?? warmUp;
    await subject.prepare(first);
    const { error } = await subject.act(first);
    if (error) throw new Error(`${runtime} ${first} fails without a fault: ${error.message}`);
    await subject.undo(first);
    return subject;
  }

  /** The image with a file system. */
  get mounted(): string {
    return this.images[2];
  }

  /** The image that grows. */
  get grown(): string {
    return this.images[3];
  }

  get pid(): number {
    return this.#pid;
  }

  async prepare(scenario: ScenarioName): Promise<void> {
    await this.#ask(`prepare ${scenario}`);
  }

  /** Acts a scenario; rejects if the process dies or hangs. */
  async act(scenario: ScenarioName): Promise<Reply> {
    return await this.#ask(`act ${scenario}`) as Reply;
  }

  /** Has nothing more to do; resolves to its exit code, or to undefined if it does not end. */
  async leave(): Promise<number | null | undefined> {
    this.#child.stdin.end();
    const late = new Promise<void>((resolve) => setTimeout(resolve, LEAVE_MS).unref());
    await Promise.race([this.#lines.ended, late]);
    return this.isRunning ? undefined : this.#child.exitCode;
  }

  /** Takes back what an act rightly left; gives what went wrong, if anything. */
  async undo(scenario: ScenarioName): Promise<string | undefined> {
    return (await this.#ask(`undo ${scenario}`) as { error?: string }).error;
  }

  async #ask(request: string): Promise<unknown> {
    this.#child.stdin.write(`${request}\n`);
    return JSON.parse(await this.#lines.next());
  }

  descriptors(): string[] {
    return openFiles(this.#pid);
  }

  threads(): string[] {
    return readdirSync(`/proc/${this.#pid}/task`);
  }

  get isRunning(): boolean {
    return !this.#lines.over;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // It ends by itself, and tells a coverage run what it reached.
    this.#child.stdin.end();
    const timer = setTimeout(() => {
      if (this.isRunning) process.kill(this.#child.pid!, "SIGKILL");
    }, END_MS);
    await this.#lines.ended;
    clearTimeout(timer);
  }
}
