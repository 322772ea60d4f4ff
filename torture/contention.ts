/**
 * Part "contention": many attach at the same time, loopdev on every runtime and losetup. Each gets a
 * device of its own with the right contents, none is lost, nobody's device is cleared.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { progress, say } from "../dev/terminal.ts";
import { removeMade } from "../tests/support/own_devices.ts";
import { Contender, makePattern } from "./contender_process.ts";
import { devicesOf, type Part, within } from "./common.ts";
import { hostility } from "./hostile.ts";
import type { RuntimeName } from "./scenarios.ts";

const LOSETUPS = 2;
const DETACH_MS = 1000;

/**
 * losetup in a loop, until its stdin ends. After each turn it tells whether the device that it got
 * still had its file, and the right contents. It loses races of its own: then it tries again.
 */
const LOSETUP_LOOP = `
exec 3<&0
while ! read -r -t 0 _ <&3; do
  device=$(losetup --find --show "$1" 2>/dev/null) || { echo race; continue; }
  if ! cmp -s -n 65536 "$1" "$device"; then echo "contents of $device"
  elif [ "$(cat "/sys/block/\${device#/dev/}/loop/backing_file")" != "$1" ]; then echo "lost $device"
  else echo good; fi
  losetup --detach "$device" || echo "could not detach $device"
done`;

class LosetupLoop {
  readonly #lines: string[] = [];
  readonly #child;
  readonly #ended: Promise<void>;

  constructor(image: string) {
    this.#child = spawn("bash", ["-c", LOSETUP_LOOP, "losetup-loop", image]);
    let rest = "";
    this.#child.stdout.on("data", (data) => {
      const lines = (rest + data).split("\n");
      rest = lines.pop()!;
      this.#lines.push(...lines);
    });
    this.#child.stderr.on("data", (data) => this.#lines.push(String(data).trim()));
    this.#ended = new Promise((resolve) => this.#child.on("close", () => resolve()));
  }

  async end(): Promise<string[]> {
    this.#child.stdin.end("\n");
    await this.#ended;
    return this.#lines;
  }
}

async function crowd(attaches: number, rounds: number, runtimes: readonly RuntimeName[]) {
  const violations: string[] = [];
  const times: number[] = [];
  const made = new Set<number>();
  const images: string[] = [];
  const known = (number: number) => existsSync(`/sys/block/loop${number}`);
  const before = new Set(Array.from({ length: 4096 }, (_, i) => i).filter(known));
  const contenders = [...runtimes, ...runtimes].map((runtime, i) => {
    const own = Array.from({ length: attaches }, (_, j) => makePattern(`contender-${i}-${j}.img`));
    images.push(...own);
    return new Contender(runtime, own);
  });
  for (const contender of contenders) await contender.ready();
  const losetups = Array.from({ length: LOSETUPS }, (_, i) => {
    images.push(makePattern(`losetup-${i}.img`));
    return new LosetupLoop(images.at(-1)!);
  });
  for (let round = 0; round < rounds; round++) {
    progress(`contention: round ${round + 1} of ${rounds}`);
    const held = await Promise.all(contenders.map((contender) => contender.ask("hold", 120_000)));
    const numbers: number[] = held.flatMap(({ numbers }) => numbers);
    violations.push(...held.flatMap(({ problems }) => problems));
    if (new Set(numbers).size < numbers.length) violations.push("two have the same device");
    for (const number of numbers) made.add(number);
    times.push(...held.map(({ ms }) => ms));
    const dropped = await Promise.all(
      contenders.map((contender) => contender.ask("drop", 120_000)),
    );
    for (const { outcomes } of dropped) {
      const lost = outcomes.filter((outcome: string) => outcome === "lost").length;
      if (lost > 0) violations.push(`${lost} devices were lost while they were held`);
    }
  }
  const said = (await Promise.all(losetups.map((losetup) => losetup.end()))).flat();
  for (const contender of contenders) await contender[Symbol.asyncDispose]();
  const bad = said.filter((line) => line !== "good" && line !== "race");
  violations.push(...bad.map((line) => `losetup: ${line}`));
  const left = () => images.flatMap(devicesOf);
  if (!await within(DETACH_MS, () => left().length === 0)) {
    violations.push(`${left().length} devices are left`);
  }
  await removeMade([...made].filter((number) => !before.has(number)));
  const count = (word: string) => said.filter((line) => line === word).length;
  const detail = `${contenders.length} × ${attaches} at once × ${rounds} rounds, slowest round ` +
    `${Math.max(...times).toFixed(0)} ms; losetup beside it: ${count("good")} good, ` +
    `${count("race")} races of its own`;
  if (count("good") === 0) violations.push("losetup never got a device: nobody to disturb");
  return { detail, violations };
}

export const contention: Part = async ({ full, scale, runtimes }) => {
  const [attaches, rounds] = full ? [50, 20] : [12, 5];
  const { detail, violations } = await crowd(attaches, Math.ceil(rounds * scale), runtimes);
  for (const problem of violations.slice(0, 10)) {
    say(`VIOLATION contention: ${problem}\n  again: deno task torture --part contention`);
  }
  const rows = [{
    part: "contention",
    name: "loopdev and losetup at once",
    outcome: violations.length === 0 ? "pass" as const : "fail" as const,
    detail: `${detail}; ${violations.length} violations` +
      violations.map((problem) => ` | ${problem}`).slice(0, 3).join(""),
  }];
  say(`contention: ${rows[0].detail}`);
  return [...rows, ...await hostility(runtimes, Math.ceil((full ? 40 : 6) * scale))];
};
