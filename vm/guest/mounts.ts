/**
 * Mounts under a real udevd: a partition is mounted in one of the three forms, written to and unmounted,
 * or its process is killed, every other time with its keeper; the next cycle finds what was saved. No
 * partition may flicker, and nothing be left. Then each form of mount(), once.
 *
 *     bun vm/guest/mounts.ts 100
 */
import { spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { dirname } from "node:path";
import process from "node:process";
import { UeventSocket } from "../../tools/race_check/uevents.ts";
import { attach, type LoopDevice, type MountOptions } from "../../mod.ts";
import { kernelRelease } from "../../lib/kernel/release.ts";
import { keepersOf, killAll } from "../../tests/support/keepers.ts";
import { PartitionCounter } from "./cycles.ts";
import { tryForms } from "./forms.ts";
import { PARTITIONS } from "./image.ts";
import { progress, report } from "./report.ts";

const cycles = Number(process.argv[2] ?? 100);
const image = "/tmp/mounts.img";
copyFileSync("/guest/ext4.img", image);
/** For the mount that takes away what two deaths have left. */
const other = "/tmp/other.img";
copyFileSync("/guest/ext4.img", other);

const [major, minor] = kernelRelease().split(".").map(Number);
const takesDetached = major > 6 || major === 6 && minor >= 15;
const at = "/tmp/at";
mkdirSync(at, { recursive: true });
const FORMS: readonly MountOptions[] = [{}, { at }, ...takesDetached ? [{ detached: true }] : []];

using socket = new UeventSocket();
const counter = new PartitionCounter(socket, PARTITIONS);
counter.quiet(200);
let absent = 0;
let left = 0;
let seen = 0;
let lostFiles = 0;
let killed = 0;
const times = { mount: [] as number[], unmount: [] as number[] };

/** What a cycle saves, and the next one looks for. */
let saved: string | undefined;

/** Whether the partition is there, and the list of mounts as the form says. */
function look(loop: { path: string }, isListed: boolean): void {
  if (!counter.present(loop.path.slice("/dev/".length), 0)) absent++;
  if (readFileSync("/proc/self/mountinfo", "utf8").includes(loop.path) !== isListed) seen++;
}

function check(folder: string): void {
  if (saved === undefined) return;
  const path = `${folder}/${saved}`;
  if (!existsSync(path)) lostFiles++;
  else rmSync(path);
}

async function mountOnce(n: number): Promise<string> {
  await using loop = await attach(image, { partscan: true });
  const form = FORMS[n % FORMS.length];
  const begin = performance.now();
  const root = await loop.mount(1, form);
  times.mount.push(performance.now() - begin);
  look(loop, !form.detached);
  check(root.path);
  saved = `saved-${n}`;
  writeFileSync(`${root.path}/${saved}`, "x".repeat(n));
  counter.quiet(8);
  const end = performance.now();
  if (await root.unmount() !== "unmounted") left++;
  times.unmount.push(performance.now() - end);
  return loop.path;
}

/** Another process mounts it, saves, and is killed. */
async function mountAndDie(): Promise<string> {
  const script = new URL("../../tests/support/mounter.ts", import.meta.url).pathname;
  const deno = ["run", "-A", "--no-check", "--no-config", "--no-lock"];
  const args = [..."Deno" in globalThis ? deno : [], script, image, "partition"];
  const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  const closed = new Promise<[code: number | null, signal: NodeJS.Signals | null]>((resolve) =>
    child.on("close", (...how) => resolve(how))
  );
  let said = "";
  await new Promise((resolve) =>
    child.stdout.on("data", (data) => {
      said += data;
      if (said.includes("\n")) resolve(undefined);
    }).on("end", resolve)
  );
  if (!said.includes("\n")) {
    const [code, signal] = await closed;
    console.error(`the process that was to mount ended with ${signal ?? code}, and said: ${said}`);
    // A crash of the runtime in the emulation is this program's, too: it runs again then.
    process.exit(signal === null ? 1 : 128 + constants.signals[signal]);
  }
  const { loop, path } = JSON.parse(said);
  look({ path: loop }, true);
  check(path);
  saved = "written";
  counter.quiet(8);
  const isKept = killed++ % 2 === 0;
  if (!isKept) killAll(keepersOf(child.pid!));
  child.kill("SIGKILL");
  await closed;
  if (!isKept) await mountAnother();
  if (!counter.within(10_000, () => !existsSync(dirname(path)))) left++;
  return loop;
}

async function mountAnother(): Promise<void> {
  await using loop = await attach(other, { offset: 1024 * 1024, sizelimit: 8 * 1024 * 1024 });
  await using _root = await loop.mount();
}

/** One mount below another. */
async function nesting(loop: LoopDevice): Promise<string> {
  const root = await loop.mount(1);
  mkdirSync(`${root.path}/below`, { recursive: true });
  const below = await loop.mount(2, { at: `${root.path}/below` });
  return `${await below.unmount()}, ${await root.unmount()}`;
}

/** What kernels say to `detached` that do not take it. */
async function refusal(loop: LoopDevice): Promise<string | undefined> {
  if (takesDetached) return undefined;
  return await loop.mount(1, { detached: true }).then(() => "taken", ({ message }) => message);
}

const start = Date.now();
for (let done = 0; done < cycles; done++) {
  const used = done % 3 === 2 ? await mountAndDie() : await mountOnce(done + 1);
  if (!counter.detached(used.slice("/dev/".length), 10_000)) left++;
  counter.quiet(8);
  counter.endCycle();
  progress(done + 1, cycles);
}
const row = counter.row();
const loop = await attach(image, { partscan: true });
const nested = await nesting(loop);
const refused = await refusal(loop);
if (await loop.detach() !== "detached") left++;
const median = (list: number[]) =>
  Math.round(10 * list.toSorted((a, b) => a - b)[list.length >> 1]) / 10;
report({
  event: "result",
  case: "mount",
  kind: "mounts",
  opener: "none",
  ...row,
  absent,
  left,
  seen,
  lostFiles,
  killed,
  nested,
  refused,
  forms: FORMS.length,
  milliseconds: { mount: median(times.mount), unmount: median(times.unmount) },
  elapsed: Date.now() - start,
});
await tryForms();
