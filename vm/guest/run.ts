/**
 * Commands in an image on a kernel of Debian's: what they see, in the three forms of a mount, and that
 * nothing is left when their process is killed: while the command runs, as it says itself, and every other
 * time at a moment by chance before.
 *
 *     bun vm/guest/run.ts 30
 */
import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { attach, type LoopMount, type MountOptions } from "../../mod.ts";
import { kernelRelease } from "../../lib/kernel/release.ts";
import { progress, report } from "./report.ts";

const cycles = Number(process.argv[2] ?? 30);
const image = "/tmp/run.img";
copyFileSync("/guest/run.img", image);
const at = "/tmp/run-at";
mkdirSync(at, { recursive: true });
const [major, minor] = kernelRelease().split(".").map(Number);
const takesDetached = major > 6 || major === 6 && minor >= 15;
const FORMS: readonly MountOptions[] = [{}, { at }, ...takesDetached ? [{ detached: true }] : []];
const WORD = "954321";

const mountLines = () => readFileSync("/proc/self/mountinfo", "utf8").split("\n").length;
const bound = () =>
  readdirSync("/sys/block").filter((name) => {
    try {
      return readFileSync(`/sys/block/${name}/loop/backing_file`, "utf8").startsWith(image);
    } catch {
      return false;
    }
  });
const processes = () =>
  readdirSync("/proc").filter((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/cmdline`, "utf8").includes(WORD);
    } catch {
      return false;
    }
  });

/** A script, and what it must print. */
const CASES: readonly [name: string, script: string, expected: RegExp, chroot: boolean][] = [
  ["dev", "ls /dev /dev/pts | xargs; echo x >/dev/null", /fd full null ptmx .* ptmx\n$/, true],
  ["proc", "cat /proc/1/comm; ls -d /proc/[0-9]* | wc -l", /^\w+\n[3-9]\n$/, true],
  ["sealed", "echo 1 2>&1 >/proc/sys/kernel/printk", /Read-only/, true],
  ["tmp", "touch /tmp/x /run/x /dev/shm/x && echo ok", /^ok\n$/, true],
  ["mount", "mount -t tmpfs x /etc && echo ok", /^ok\n$/, true],
  [
    "machine",
    'cd / && realpath "$LOOPDEV_ROOT" && ls "$LOOPDEV_ROOT/bin/busybox"',
    /busybox\n$/,
    false,
  ],
];

const faults = new Map<string, number>();
const blame = (what: string) => faults.set(what, (faults.get(what) ?? 0) + 1);
const times: number[] = [];

async function look(root: LoopMount): Promise<void> {
  for (const [name, script, expected, chroot] of CASES) {
    const begin = performance.now();
    const { code, stdout } = await root.run(["sh", "-c", script], { stdout: "piped", chroot });
    times.push(performance.now() - begin);
    const text = new TextDecoder().decode(stdout);
    if (!expected.test(text)) blame(`${name} ${code}: ${text.slice(0, 80)}`);
  }
  const daemon = await root.run(["sh", "-c", `setsid sleep ${WORD} & exit 3`]);
  if (daemon.code !== 3) blame(`code ${daemon.code}`);
  for (const signal of ["KILL", "TERM"]) {
    const killed = await root.run(["sh", "-c", `kill -${signal} $$`]);
    if (killed.signal !== `SIG${signal}`) blame(`SIG${signal} is ${killed.code} ${killed.signal}`);
  }
  if (processes().length > 0) blame("a daemon is left");
}

/** How long a command took to begin, in ms: the kills by chance come before. */
let longest = 0;

/** Gives whether the command ran by its own word, and its processes were there. */
async function killOnce(isEarly: boolean): Promise<boolean> {
  const runner = new URL("../../tests/support/runner.ts", import.meta.url).pathname;
  const deno = ["run", "-A", "--no-check", "--no-config", "--no-lock"];
  const loop = `while :; do sleep ${WORD}; done`;
  const script = `setsid sleep ${WORD} & trap '' TERM; echo it runs; ${loop}`;
  const args = [..."Deno" in globalThis ? deno : [], runner, image, "{}", "sh", "-c", script];
  const begin = performance.now();
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const closed = new Promise((resolve) => child.on("close", resolve));
  const started = new Promise<boolean>((resolve) => {
    child.stdout.on("data", (data) => String(data).includes("it runs") && resolve(true));
    child.stdout.on("end", () => resolve(false));
  });
  const chance = new Promise<boolean>((resolve) => {
    if (isEarly) setTimeout(() => resolve(false), longest * Math.random());
  });
  const isRunning = await Promise.race([started, chance]);
  if (isRunning) longest = Math.max(longest, performance.now() - begin);
  // The runner's own command line has the word, too.
  const ran = isRunning && processes().length > 1;
  child.kill("SIGKILL");
  await closed;
  return ran;
}

const before = mountLines();
async function checkLeft(what: string): Promise<void> {
  const end = Date.now() + 10_000;
  const left = () => [
    ...processes().map((pid) => `process ${pid}`),
    ...bound(),
    ...mountLines() === before ? [] : ["a mount"],
  ];
  while (left().length > 0 && Date.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  for (const each of left()) blame(`${what} leaves ${each}`);
}

const start = Date.now();
let ranWhenKilled = 0;
for (let done = 0; done < cycles; done++) {
  if (done < FORMS.length) {
    await using loop = await attach(image);
    await using root = await loop.mount(undefined, FORMS[done]);
    await look(root).catch(({ message }) => blame(message));
  } else if (await killOnce((done - FORMS.length) % 2 === 1)) ranWhenKilled++;
  await checkLeft(done < FORMS.length ? "a run" : "a kill");
  progress(done + 1, cycles);
}
const median = times.toSorted((a, b) => a - b)[times.length >> 1];
report({
  event: "result",
  faults: [...faults].map(([what, times]) => `${times} × ${what}`),
  cycles,
  ranWhenKilled,
  seen: `${FORMS.length} forms, ${cycles - FORMS.length} kills, ${ranWhenKilled} while it ran, ` +
    `a command ${Math.round(median)} ms`,
  elapsed: Date.now() - start,
});
