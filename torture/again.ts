/**
 * What a failure of part "interleave" that was printed as a test stands on: images, a stranger, and the oracle.
 * The test makes the calls itself, by the public API; here its answers are noted and judged.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { keepersOf, killAll } from "../tests/support/keepers.ts";
import { onThisRuntime } from "../tests/support/support.ts";
import { makePristine, writeTable } from "./images.ts";
import { judge } from "./judge.ts";
import { askStranger, DEVICES, endStranger, KEEPER_MS, LaneHome, SETTLE_MS } from "./lane.ts";
import type { Answer, Event } from "./model.ts";
import { answerOf, errorOf, pause } from "./play.ts";
import type { FileName, Step, TableName } from "./programs.ts";

const FIRST_NUMBER = 64_000;
/** A race is not lost each time. */
const ROUNDS = 100;

/** What the printed program uses besides the public API. */
export interface Surroundings {
  readonly files: Readonly<Record<FileName, string>>;
  readonly folders: Readonly<Record<string, string>>;
  /** Nodes of the stranger's devices. */
  readonly nodes: readonly string[];
  /** Notes a call of that step, and its answer. */
  call<T>(step: number, promise: Promise<T>): Promise<T>;
  pause(ms: number): Promise<void>;
  write(file: string, table: TableName): Promise<void>;
  killKeeper(): Promise<void>;
  /** Asks the stranger: `attach 0 FILE`, where 0 is his first device. */
  stranger(request: string): Promise<Answer & { id?: number; point?: string }>;
}

type Body = (its: Surroundings) => Promise<void>;

/** Runs the program until it fails: then it throws an Error that says what is wrong. `script`: where it stands. */
export async function again(script: string, steps: readonly Step[], body: Body): Promise<void> {
  const given = process.env.LOOPDEV_AGAIN;
  if (given !== undefined) return await playBelow(given, steps, body);
  const folder = mkdtempSync(join(tmpdir(), "loopdev-again-"));
  try {
    makePristine(join(folder, "pristine"));
    const home = homeIn(folder);
    home.make();
    const dies = steps.some(({ op }) => op === "die");
    for (let round = 0; round < ROUNDS; round++) {
      home.prepare(steps);
      const events: Event[] = [];
      const note = (event: Event) => void events.push(event);
      const made = dies ? await below(script, folder, note) : await run(home, steps, body, note);
      const wrong = await judge(events, () => home.seen(), dies ? KEEPER_MS : SETTLE_MS);
      await Promise.allSettled(made.map(async (one) => await one[Symbol.asyncDispose]()));
      home.tidy();
      if (wrong !== undefined) throw new Error(`round ${round}: ${wrong}`);
    }
  } finally {
    homeIn(folder).tidy();
    await endStranger(FIRST_NUMBER, DEVICES);
    rmSync(folder, { recursive: true, force: true });
  }
}

const homeIn = (folder: string) => {
  const pristine = join(folder, "pristine");
  return new LaneHome({ folder, pristine, firstNumber: FIRST_NUMBER }, 0);
};

/** In a process of its own, which the program kills. */
async function below(script: string, folder: string, note: (event: Event) => void): Promise<[]> {
  const [command, ...args] = onThisRuntime(script);
  const env = { ...process.env, LOOPDEV_AGAIN: folder };
  const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "inherit"] });
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (line.startsWith("{")) note(JSON.parse(line));
  });
  await new Promise((resolve) => child.on("close", resolve));
  return [];
}

async function playBelow(folder: string, steps: readonly Step[], body: Body): Promise<void> {
  const note = (event: Event) => console.log(JSON.stringify(event));
  await run(homeIn(folder), steps, body, note);
}

async function run(
  home: LaneHome,
  steps: readonly Step[],
  body: Body,
  noted: (event: Event) => void,
): Promise<AsyncDisposable[]> {
  const { files, folders, numbers, note } = home.lane(askStranger, noted);
  const calls: Promise<unknown>[] = [];
  const made: AsyncDisposable[] = [];
  await body({
    ...{ files, folders, pause },
    nodes: numbers.map((number) => `/dev/loop${number}`),
    call(step, promise) {
      note({ call: step, step: steps[step] });
      const heard = promise.then((value) => {
        note({ answer: step, ...answerOf(value) });
        if (typeof value === "object" && value !== null && Symbol.asyncDispose in value) {
          made.push(value as AsyncDisposable);
        }
      }, (error) => note({ answer: step, error: errorOf(error) }));
      calls.push(heard);
      return promise;
    },
    write: (file, table) => Promise.resolve(writeTable(file, table)),
    killKeeper: () => Promise.resolve(killAll(keepersOf(process.pid))),
    stranger: async (request) => {
      const [verb, device, ...rest] = request.split(" ");
      const isOwn = ["attach", "detach", "hold"].includes(verb);
      const number = isOwn ? numbers[Number(device)] : Number(device);
      const answer = await askStranger([verb, number, ...rest].join(" "));
      const { id, point } = answer as { id?: number; point?: string };
      const mount = id === undefined ? {} : { mount: `${id} ${point}` };
      return { ok: "done", ...answer, ...isOwn ? { number } : {}, ...mount };
    },
  });
  await Promise.all(calls);
  return made;
}
