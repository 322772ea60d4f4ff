/** A lane of part "interleave": the images, directories and devices that one program at a time has for itself. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { onThisRuntime, ROOT } from "../tests/support/support.ts";
import { copyPristine, FILES, writeTable } from "./images.ts";
import type { Answer } from "./model.ts";
import type { Lane } from "./play.ts";
import type { FileName, Step } from "./programs.ts";
import { look, type Seen } from "./seen.ts";
import { tidy } from "./tidy.ts";

/** The stranger's. */
export const DEVICES = 2;
/** A detach by the last close takes effect a moment later. */
export const SETTLE_MS = 2000;
/** And a killed process's keeper has to look for what it left. */
export const KEEPER_MS = 8000;

/** The stranger could not do it. */
class Refused extends Error {
  override readonly name = "Refused";
}

/** The other end of a pipe, which answers requests by their numbers. */
export class Peer {
  readonly #waiting = new Map<string, (answer: { answer?: Answer; error?: string }) => void>();
  readonly #write: (line: string) => void;
  #requests = 0;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  hear(line: string): void {
    const { id, ...answer } = JSON.parse(line);
    this.#waiting.get(id)?.(answer);
    this.#waiting.delete(id);
  }

  async ask(request: string): Promise<Answer> {
    const id = String(this.#requests++);
    const answered = new Promise<{ answer?: Answer; error?: string }>((resolve) =>
      this.#waiting.set(id, resolve)
    );
    this.#write(`${id} ${request}\n`);
    const { answer, error } = await answered;
    if (error !== undefined) throw new Refused(error);
    return answer!;
  }
}

let stranger: { child: ChildProcess; ready: Promise<Peer> } | undefined;

/** Asks the stranger, who is started when he is asked first. */
export async function askStranger(request: string): Promise<Answer> {
  stranger ??= startStranger();
  return await (await stranger.ready).ask(request);
}

/** Ends him, and takes his devices away. */
export async function endStranger(firstNumber: number, count: number): Promise<void> {
  if (!stranger) return;
  for (let i = 0; i < count; i++) await askStranger(`remove ${firstNumber + i}`).catch(() => {});
  stranger.child.stdin!.end();
  stranger = undefined;
}

function startStranger(): { child: ChildProcess; ready: Promise<Peer> } {
  const [command, ...args] = onThisRuntime(join(ROOT, "torture/stranger.ts"));
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  const peer = new Peer((line) => void child.stdin!.write(line));
  const ready = new Promise<Peer>((resolve) =>
    createInterface({ input: child.stdout! }).on("line", (line) => {
      if (line === "ready") resolve(peer);
      else if (line.startsWith("{")) peer.hear(line);
    })
  );
  return { child, ready };
}

/** Where one lane's images and directories are. */
export interface Home {
  readonly folder: string;
  readonly pristine: string;
  readonly firstNumber: number;
}

const WRITING = ["mount", "strangerMountsDevice"];

export class LaneHome {
  readonly files: Readonly<Record<FileName, string>>;
  readonly #folders: Readonly<Record<string, string>>;
  readonly #pristine: string;
  readonly #numbers: readonly number[];
  readonly #names: ReadonlyMap<string, string>;
  /** What the last program has changed: all that is in the files, or their tables. */
  #isWritten = false;
  readonly #tables = new Set<FileName>();

  constructor({ folder, pristine, firstNumber }: Home, lane: number) {
    const paths = FILES.map((name) => [name, join(folder, `${name}-${lane}.img`)] as const);
    this.files = Object.fromEntries(paths) as Record<FileName, string>;
    this.#names = new Map(paths.map(([name, path]) => [path, name]));
    this.#folders = Object.fromEntries(
      ["d0", "d1", "beside"].map((name) => [name, join(folder, `${name}-${lane}`)]),
    );
    this.#pristine = pristine;
    this.#numbers = Array.from({ length: DEVICES }, (_, i) => firstNumber + DEVICES * lane + i);
  }

  make(): void {
    // Of a run that was killed here.
    this.tidy();
    for (const path of Object.values(this.#folders)) mkdirSync(path, { recursive: true });
    for (const name of FILES) copyPristine(this.#pristine, name, this.files[name]);
  }

  /** What a program gets. */
  lane(ask: Lane["ask"], note: Lane["note"]): Lane {
    return {
      files: this.files,
      folders: this.#folders,
      numbers: this.#numbers,
      ask,
      note: (event) => {
        if (!("answer" in event) || event.shown === undefined) return note(event);
        note({ ...event, shown: this.#names.get(event.shown) ?? event.shown });
      },
    };
  }

  /** Gives the images their first content again, where the last program has changed it. */
  prepare(steps: readonly Step[]): void {
    if (this.#isWritten) {
      for (const name of FILES) copyPristine(this.#pristine, name, this.files[name]);
    } else for (const name of this.#tables) writeTable(this.files[name], "both");
    this.#tables.clear();
    this.#isWritten = steps.some(({ op }) => WRITING.includes(op));
    for (const step of steps) if (step.op === "writeTable") this.#tables.add(step.file);
  }

  /** What the kernel has of the lane's files. */
  seen(): Seen {
    return look((backing) => this.#names.get(backing.replace(/ \(deleted\)$/, "")));
  }

  attached(): FileName[] {
    const files = Object.values(this.seen().devices).map(({ file }) => file as FileName);
    return [...new Set(files)];
  }

  /** What is wrong if something is still attached when all has ended. */
  async left(settle = SETTLE_MS): Promise<string | undefined> {
    for (const end = Date.now() + settle;;) {
      const left = this.attached();
      if (left.length === 0) return undefined;
      if (Date.now() > end) return `after the end of all ${left} is still attached`;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Takes away what a killed process, or a stranger, has left. */
  tidy(): void {
    const ours = new Set([...Object.values(this.files), ...Object.values(this.#folders)]);
    tidy((path) => ours.has(path));
  }
}
