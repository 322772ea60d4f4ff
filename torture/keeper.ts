/**
 * Part "keeper": SIGKILL of a keeper at each of its own system calls, while it unmounts what a killed
 * process has left. The next mount() of any process ends what it began.
 */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { progress, say } from "../dev/terminal.ts";
import { ext4Image } from "../tests/support/mount_image.ts";
import { onRuntime, ROOT, scratch } from "../tests/support/support.ts";
import type { Part, Row } from "./common.ts";
import { keepersOf } from "../tests/support/keepers.ts";
import { damageOf, endOf } from "./mount_ends.ts";
import type { RuntimeName } from "./scenarios.ts";
import { Lines } from "./subject_process.ts";

const FORMS = ["directory", "at"] as const;
/** Of a keeper's calls, most of which read a byte of the list of mounts. */
const [FULL_KILLS, CI_KILLS] = [400, 6];

/**
 * A process that mounts is killed, and its keeper at its call `nth`; without it, strace counts the calls.
 * Resolves to how many the keeper made; what is wrong goes to `blame`.
 */
async function killAt(
  runtime: RuntimeName,
  form: typeof FORMS[number],
  nth: number | undefined,
  blame: (problem: string) => void,
): Promise<number> {
  const [image, at, log] = [ext4Image("keeper.img"), scratch("keeper.at"), scratch("keeper.log")];
  mkdirSync(at, { recursive: true });
  const script = join(ROOT, "tests/support/form_mounter.ts");
  const [command, ...args] = onRuntime(runtime, script, image, form, at);
  const child = spawn(command, args, { stdio: "pipe" });
  const lines = new Lines(child);
  await lines.next();
  const [keeper] = keepersOf(child.pid!);
  const inject = nth === undefined ? [] : ["-e", `inject=all:signal=KILL:when=${nth}`];
  const strace = spawn("strace", ["-o", log, ...inject, "-p", String(keeper)], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = new Promise((resolve) => strace.on("close", resolve));
  await new Promise((resolve) => {
    strace.stderr.on("data", (data) => / attached/.test(String(data)) && resolve(undefined));
    strace.on("close", resolve);
  });
  process.kill(child.pid!, "SIGKILL");
  await lines.ended;
  await ended;
  const problems = await endOf(child.pid!, [image], nth !== undefined);
  for (const problem of [...problems, ...damageOf(image)]) blame(problem);
  return readFileSync(log, "utf8").split("\n").filter((line) => / = /.test(line)).length;
}

async function killMany(
  runtime: RuntimeName,
  form: typeof FORMS[number],
  most: number,
): Promise<Row> {
  const violations: string[] = [];
  const blameAt = (where: string) => (problem: string) => {
    violations.push(`${where}: ${problem}`);
    say(`VIOLATION keeper: ${runtime} ${form}, ${where}: ${problem}`);
  };
  const calls = await killAt(runtime, form, undefined, blameAt("not killed"));
  const step = Math.max(1, calls / most);
  let kills = 0;
  for (let at = calls; at >= 1; at -= step) {
    const nth = Math.floor(at);
    progress(`keeper: ${runtime} ${form} ${nth}/${calls}`);
    await killAt(runtime, form, nth, blameAt(`call ${nth}`));
    kills++;
  }
  const detail = `${calls} calls, ${kills} kills, ${violations.length} violations` +
    violations.slice(0, 3).map((text) => ` | ${text}`).join("");
  say(`keeper: ${runtime} ${form}: ${detail}`);
  const outcome = violations.length === 0 ? "pass" : "fail";
  return { part: "keeper", name: `${runtime} ${form}`, outcome, detail };
}

export const keepers: Part = async ({ full, scale, runtimes }) => {
  const rows: Row[] = [];
  for (const [turn, runtime] of runtimes.entries()) {
    for (const form of full ? FORMS : [FORMS[turn % FORMS.length]]) {
      rows.push(await killMany(runtime, form, (full ? FULL_KILLS : CI_KILLS) * scale));
    }
  }
  return rows;
};
