/**
 * Runs programs, several at a time, and says which promise was broken:
 *     interleaver.ts FOLDER PRISTINE FIRST_NUMBER LANES
 * Each line of stdin is a request, as JSON: `{ seed, from, count, only? }` draws programs, `{ program, times }`
 * runs one again and again until it fails. `end` ends. Each violation is a line of JSON, and a request's end.
 *     interleaver.ts FOLDER PRISTINE FIRST_NUMBER LANES LANE
 * runs one program on that lane, tells the events as they come, and may be killed by it.
 */
import { spawn } from "node:child_process";
import { writeSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { readOptions } from "../dev/options.ts";
import { onThisRuntime, ROOT } from "../tests/support/support.ts";
import { callText, judge } from "./judge.ts";
import { askStranger, DEVICES, endStranger, KEEPER_MS, LaneHome, Peer, SETTLE_MS } from "./lane.ts";
import type { Event } from "./model.ts";
import { Player } from "./play.ts";
import { draw, type Program } from "./programs.ts";

const HELP = `Usage: torture/interleaver.ts FOLDER PRISTINE FIRST_NUMBER LANES [LANE]

What part "interleave" starts: runs the programs that stdin asks for, LANES at a time, on copies of the
images in PRISTINE and on devices from FIRST_NUMBER on.

  -h, --help  this text`;
const { operands } = readOptions(HELP, {}, { least: 4, most: 5 });
const [folder, pristine] = operands;
const [firstNumber, lanes] = operands.slice(2).map(Number);
const homes = Array.from(
  { length: lanes },
  (_, lane) => new LaneHome({ folder, pristine, firstNumber }, lane),
);

/** Longer than any program takes that does not hang. */
const HANG_MS = 30_000;

async function withinHang<T>(running: Promise<T>): Promise<T | "hangs"> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const hang = new Promise<"hangs">((resolve) => {
    timer = setTimeout(() => resolve("hangs"), HANG_MS);
  });
  return await Promise.race([running, hang]).finally(() => clearTimeout(timer));
}

interface Run {
  readonly violation: string | undefined;
  readonly events: readonly Event[];
}

/** Names the calls without an answer. */
function hanging(events: readonly Event[]): string {
  const isAnswered = (id: number) => events.some((one) => "answer" in one && one.answer === id);
  const calls = events.flatMap((one) =>
    "call" in one && !isAnswered(one.call) ? [callText(one.step)] : []
  );
  return `a call hangs: ${calls.join(", ")}`;
}

/** Runs it once. */
async function runOnce(program: Program, lane: number, settle?: number): Promise<Run> {
  const home = homes[lane];
  home.prepare(program.steps);
  if (program.steps.some(({ op }) => op === "die")) return await runAndDie(program, lane, settle);
  const events: Event[] = [];
  const player = new Player(home.lane(askStranger, (event) => void events.push(event)));
  const hung = await withinHang(player.run(program)) === "hangs";
  const violation = hung
    ? hanging(events)
    : await judge(events, () => home.seen(), settle ?? SETTLE_MS);
  const endless = await withinHang(player.end(() => home.attached())) === "hangs"
    ? "its end hangs"
    : undefined;
  const left = violation ?? endless ?? await home.left(settle);
  // The next program shall begin clean.
  if (left !== undefined) await takeAway(home);
  return { violation: left, events };
}

/** In a process of its own, which is killed by the program. */
async function runAndDie(program: Program, lane: number, settle?: number): Promise<Run> {
  const home = homes[lane];
  const script = join(ROOT, "torture/interleaver.ts");
  const [command, ...args] = onThisRuntime(script, ...operands.slice(0, 4), `${lane}`);
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  const closed = new Promise((resolve) => child.on("close", resolve));
  const events: Event[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (!line.startsWith("{")) return;
    const { ask, id, ...event } = JSON.parse(line);
    if (ask === undefined) return events.push(event);
    const tell = (answer: object) => child.stdin.write(`${JSON.stringify({ id, ...answer })}\n`);
    askStranger(ask).then((answer) => tell({ answer }), ({ message }) => tell({ error: message }));
  });
  child.stdin.on("error", () => {}).write(`${JSON.stringify(program)}\n`);
  const hung = await withinHang(closed) === "hangs";
  if (hung) child.kill("SIGKILL");
  await closed;
  const violation = hung
    ? hanging(events)
    : await judge(events, () => home.seen(), keeperMs(settle));
  await takeAway(home);
  return { violation, events };
}

/** The child's part of that. */
async function playAndDie(lane: number): Promise<void> {
  const home = homes[lane];
  const say = (value: object) => void writeSync(1, `${JSON.stringify(value)}\n`);
  const peer = new Peer((line) => {
    const [, id, ask] = /^(\d+) (.*)\n$/.exec(line)!;
    say({ id, ask });
  });
  let program: Program | undefined;
  for await (const line of createInterface({ input: process.stdin })) {
    if (program) {
      peer.hear(line);
      continue;
    }
    program = JSON.parse(line) as Program;
    new Player(home.lane((request) => peer.ask(request), say)).run(program);
  }
}

/** A keeper takes longer than a detach. */
const keeperMs = (settle?: number) => settle === undefined ? KEEPER_MS : 4 * settle;

async function takeAway(home: LaneHome): Promise<void> {
  home.tidy();
  await home.left();
}

interface Request {
  readonly seed?: number;
  readonly from?: number;
  readonly count?: number;
  readonly only?: string;
  /** Ends at the first violation. */
  readonly first?: boolean;
  readonly program?: Program;
  readonly times?: number;
  /** For how many ms what differs from what may be is looked at again. */
  readonly settle?: number;
}

async function serve(request: Request): Promise<void> {
  const { seed = 1, from = 0, only, program, settle, first = program !== undefined } = request;
  const count = program ? request.times ?? 1 : request.count ?? 1;
  const kinds = only === undefined ? undefined : new RegExp(only);
  const tally: Record<string, number> = {};
  let next = from;
  let isOver = false;
  const work = async (lane: number) => {
    while (next < from + count && !isOver) {
      const index = next++;
      const run = program ?? draw(seed, index, kinds);
      const { violation, events } = await runOnce(run, lane, settle);
      tally[run.kind] = (tally[run.kind] ?? 0) + 1;
      if (violation === undefined) continue;
      isOver ||= first;
      console.log(JSON.stringify({ violation, program: run, events }));
    }
  };
  const ticks = setInterval(() => console.log(JSON.stringify({ at: next - from })), 1000);
  const busy = Math.min(lanes, count);
  await Promise.all(Array.from({ length: busy }, (_, lane) => work(lane)));
  clearInterval(ticks);
  console.log(JSON.stringify({ tally }));
}

if (operands[4] !== undefined) await playAndDie(Number(operands[4]));
else {
  for (const home of homes) home.make();
  // Whoever started this has gone.
  process.stdin.on("end", () => process.exit(1));
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === "end") break;
    await serve(JSON.parse(line));
  }
  await endStranger(firstNumber, DEVICES * lanes);
}
process.exit(0);
