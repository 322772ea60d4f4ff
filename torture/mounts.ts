/**
 * Part "mounts": SIGKILL at random moments while a process mounts in each of the forms, writes, freezes
 * and unmounts; of it, and as often of its keeper as well, before it or just behind it. No device, no node,
 * no mount and no directory is left, where both died after the next mount(); of the file system a
 * journal brings back all that was saved, and e2fsck finds nothing else to do.
 */
import { spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { attach } from "../mod.ts";
import { ext4Partitions } from "../tests/support/mount_image.ts";
import { onRuntime, ROOT } from "../tests/support/support.ts";
import { devicesOf, isBound, type Part, partitionsOf, type Row } from "./common.ts";
import { progress, say } from "../dev/terminal.ts";
import { tally, within } from "./common.ts";
import { keepersOf, unlessGone } from "../tests/support/keepers.ts";
import { endOf } from "./mount_ends.ts";
import { Random } from "../tests/cases/random.ts";
import type { RuntimeName } from "./scenarios.ts";

const SEED = 1;
/** Processes at a time. */
const LANES = 4;
/** As the kernel takes for what a dead process had open. */
const LET_GO_MS = 5000;

/** A file system of its own, in memory: a disk's flushes would be most of a cycle. */
const FOLDER = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

/** Who is killed. */
const VICTIMS = ["process", "process", "keeper, process", "process, keeper"] as const;

/** What a killed process had said. */
interface Life {
  readonly pid: number;
  /** Its keeper was killed, too. */
  readonly alone: boolean;
  readonly phase: string;
  readonly saved: readonly string[];
  readonly loop: number | undefined;
}

/**
 * Starts one, and ends it after its first cycle: in the next ones, by at most the time that the first
 * one took, times `moment`.
 */
async function live(
  runtime: RuntimeName,
  image: string,
  first: number,
  moment: number,
  victim: typeof VICTIMS[number],
): Promise<Life> {
  const script = join(ROOT, "torture/mount_subject.ts");
  const [command, ...args] = onRuntime(runtime, script, image, String(first));
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  const closed = new Promise((resolve) => child.on("close", resolve));
  let said = "";
  let complaint = "";
  let timer: ReturnType<typeof setTimeout> | undefined;
  let began: number | undefined;
  child.stderr.on("data", (data) => complaint += data);
  child.stdout.on("data", (data) => {
    said += data;
    began ??= performance.now();
    // From the first mount on a directory it has a keeper.
    if (timer !== undefined || said.split("attaching").length < 4) return;
    const keepers = victim === "process" ? [] : keepersOf(child.pid!);
    const victims = { process: [child.pid!], keeper: keepers };
    const order = victim.split(", ").flatMap((who) => victims[who as keyof typeof victims]);
    timer = setTimeout(() => {
      for (const pid of order) unlessGone(() => process.kill(pid, "SIGKILL"));
    }, moment * (performance.now() - began) / 2);
  });
  await closed;
  clearTimeout(timer);
  if (child.signalCode !== "SIGKILL") throw new Error(`it ended by itself: ${complaint}`);
  const lines = said.split("\n").slice(0, -1);
  const words = lines.map((line) => line.split(" "));
  return {
    pid: child.pid!,
    alone: victim !== "process",
    phase: lines.findLast((line) => line.endsWith("ing")) ?? "starting",
    saved: words.filter(([word]) => word === "saved").map(([, n]) => n),
    loop: words.filter(([word]) => word === "loop").map(([, n]) => Number(n)).at(-1),
  };
}

async function status(command: string, ...args: string[]): Promise<[number | null, string]> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  child.stdout.on("data", (data) => said += data);
  child.stderr.on("data", (data) => said += data);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return [code, said];
}

/** A line of any process's list of mounts that names the device. */
function mountedSomewhere(loop: number): string | undefined {
  const source = new RegExp(` /dev/loop${loop}(p\\d+)? `);
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const line = readFileSync(`/proc/${pid}/mountinfo`, "utf8").split("\n")
        .find((line) => source.test(line));
      if (line !== undefined) return line;
    } catch {
      // It has ended.
    }
  }
  return undefined;
}

/** What is wrong after the end of a life; `image` holds all that its predecessors saved, too. */
async function inspect(
  image: string,
  { pid, alone, loop, saved }: Life,
  all: Set<string>,
): Promise<string[]> {
  const wrong = await endOf(pid, [image], alone);
  for (const { number } of devicesOf(image)) {
    const line = mountedSomewhere(number);
    if (line !== undefined) wrong.push(`a mount is left: ${line}`);
  }
  if (loop !== undefined && !isBound(loop)) {
    const gone = () => isBound(loop) || partitionsOf(loop).length === 0;
    if (!await within(LET_GO_MS, gone)) wrong.push("a partition is left");
  }
  for (const n of saved) all.add(n);
  {
    // The same device if it is free: whoever has it next takes over what is left between two calls.
    const number = loop === undefined || isBound(loop) ? undefined : loop;
    const options = { partscan: true, timeout: 30_000 };
    await using again = await attach(image, { ...options, number }).catch(() =>
      attach(image, options)
    );
    // Another lane's process may be about to lose the race for this device.
    const node = `/dev/.loopdev-loop${again.number}`;
    if (!await within(LET_GO_MS, () => !existsSync(node))) wrong.push("a node of ours is left");
    // Replays the journal.
    await using root = await again.mount(1);
    for (const n of all) {
      const path = `${root.path}/saved-${n}`;
      const content = existsSync(path) ? readFileSync(path, "utf8") : undefined;
      if (content !== n.repeat(500)) wrong.push(`what was saved as ${n} is not there`);
    }
    // "deferred": a child of another lane's had not come from fork() to exec(), where it lets go.
    await root.unmount();
  }
  const isOver = () => devicesOf(image).length === 0;
  if (!await within(LET_GO_MS, isOver)) wrong.push("it cannot be unmounted");
  const [code, said] = await status("e2fsck", "-fn", `${image}?offset=${1024 * 1024}`);
  if (code !== 0) wrong.push(`e2fsck ends with ${code}: ${said.trim().split("\n").join(" ")}`);
  return wrong;
}

async function killMany(
  runtime: RuntimeName,
  count: number,
  pristine: string,
  folder: string,
): Promise<Row> {
  const random = new Random(SEED);
  const violations: string[] = [];
  const phases: string[] = [];
  let started = 0;
  let saved = 0;
  const lane = async (number: number) => {
    const image = join(folder, `${runtime}-${number}.img`);
    const all = new Set<string>();
    for (let lives = 0; started < count; lives++) {
      started++;
      progress(`mounts: ${runtime} ${started}/${count}`);
      // Before the disk is full of what was saved.
      if (lives % 20 === 0) {
        copyFileSync(pristine, image);
        all.clear();
      }
      const moment = random.below(10_000) / 10_000;
      const victim = VICTIMS[random.below(VICTIMS.length)];
      const life = await live(runtime, image, 1000 * (lives + 1), moment, victim);
      phases.push(life.phase);
      if (phases.length % 100 === 0) say(`mounts: ${runtime}: ${phases.length} kills`);
      saved += life.saved.length;
      for (const wrong of await inspect(image, life, all)) {
        const what = `${victim} killed, ${life.phase}: ${wrong}`;
        violations.push(what);
        say(`VIOLATION mounts: ${runtime}: ${what}`);
      }
    }
  };
  await Promise.all(Array.from({ length: LANES }, (_, i) => lane(i)));
  const detail = `${phases.length} kills (${tally(phases)}), ${saved} files saved, ` +
    `${violations.length} violations${violations.slice(0, 3).map((text) => ` | ${text}`).join("")}`;
  say(`mounts: ${runtime}: ${detail}`);
  const bad = violations.length > 0 || saved === 0;
  return { part: "mounts", name: runtime, outcome: bad ? "fail" : "pass", detail };
}

export const mounts: Part = async ({ full, scale, runtimes }) => {
  const count = Math.ceil((full ? 1000 : 15) * scale);
  const folder = mkdtempSync(join(FOLDER, "loopdev-mounts-"));
  try {
    const pristine = await ext4Partitions("pristine.img", 1, 16);
    const rows: Row[] = [];
    for (const runtime of runtimes) rows.push(await killMany(runtime, count, pristine, folder));
    return rows;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};
