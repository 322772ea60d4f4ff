/**
 * What importing loopdev, attaching and detaching once take beside a script that does nothing: whole
 * processes, with the library of dist/ as users import it. And the whole job of bench/mounts.ts, with the
 * keeper's start, beside a shell script. By itself it prints a line a runtime:
 *
 *     deno run --allow-all bench/startup.ts
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readOptions } from "../dev/options.ts";
import { onRuntime, ROOT, type Runtime, RUNTIMES } from "../tests/support/support.ts";
import { leaveOut } from "./contenders.ts";
import { makeImage, median } from "./measure.ts";
import { makeFileSystem } from "./mounts.ts";
import { onceByProcesses } from "./peers.ts";

/** Turns of each; a median of fewer says little on a busy machine. */
const STARTS = 21;
/** What `import "loopdev"` leads to. */
const BUNDLES: Record<Runtime, string> = {
  bun: "loopdev.bun.js",
  deno: "loopdev.deno.js",
  node: "loopdev.js",
};

/** ms of each start. */
export interface Startup {
  empty: number[];
  attach: number[];
  /** The job of bench/mounts.ts, once. */
  job: number[];
  /** The same by a shell and processes. */
  shell: number[];
}

/** Undefined: losetup gives up where somebody else is first at a device. */
function wholeProcess([file, ...args]: string[]): number | undefined {
  const start = performance.now();
  const { status, stderr } = spawnSync(file, args, { encoding: "utf8" });
  if (status === 0) return performance.now() - start;
  if (!stderr.startsWith("losetup: ")) throw new Error(stderr);
}

const ATTACH = (bundle: string, image: string) =>
  `import { attach } from ${JSON.stringify(bundle)};
   const image = ${JSON.stringify(image)};
   const loop = await attach(image, { partscan: true, workaround: "never" });
   await loop.detach();\n`;

/** Deno has its own writeFileSync(); to load node:fs would cost it more than the job does. */
const JOB = (bundle: string, image: string) =>
  `import { attach } from ${JSON.stringify(bundle)};
   const { writeFileSync } = "Deno" in globalThis ? Deno : await import("node:fs");
   const loop = await attach(${JSON.stringify(image)});
   const root = await loop.mount();
   const content = new Uint8Array(4096).fill(120);
   for (let i = 0; i < 10; i++) writeFileSync(root.path + "/" + Date.now() + "-" + i, content);
   await root.unmount();
   await loop.detach();\n`;

/** All of them take turns. Undefined where nothing is built. `folder`: where the images lie. */
export function measureStartup(
  runtime: Runtime,
  folder: string,
  starts = STARTS,
): Startup | undefined {
  const bundle = join(ROOT, "dist", BUNDLES[runtime]);
  if (!existsSync(bundle)) {
    leaveOut("start-up", "nothing is built: deno task build");
    return undefined;
  }
  const script = (name: string, text: string) => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return onRuntime(runtime, path);
  };
  const image = makeFileSystem(folder, "startup.img", 64);
  const commands: Record<keyof Startup, string[]> = {
    empty: script("empty.js", "export {};\n"),
    attach: script("attach.js", ATTACH(bundle, makeImage(folder, "plain.img", 8))),
    job: script("job.js", JOB(bundle, image)),
    shell: onceByProcesses(folder, image),
  };
  const times: Startup = { empty: [], attach: [], job: [], shell: [] };
  // The first start of each fills the caches.
  for (let turn = 0; turn <= starts; turn++) {
    for (const name of Object.keys(times) as (keyof Startup)[]) {
      const took = wholeProcess(commands[name]);
      if (turn > 0 && took !== undefined) times[name].push(took);
    }
  }
  return times;
}

const HELP = `Usage: bench/startup.ts

Measures a script that imports the library of dist/, attaches and detaches once, beside one that does
nothing, on each runtime; and one that mounts and writes ten files, too, beside a shell script that
does. Needs root, mkfs.ext4, and deno task build before.

  -h, --help  this text`;

if (import.meta.main) {
  readOptions(HELP, {});
  const folder = mkdtempSync(
    join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "loopdev-bench-"),
  );
  try {
    for (const runtime of RUNTIMES) {
      const times = measureStartup(runtime, folder);
      if (!times) break;
      const [empty, attach, job, shell] = Object.values(times).map(median);
      const ratio = (attach / empty).toFixed(2);
      console.log(
        `${runtime}: ${attach.toFixed(1)} / ${empty.toFixed(1)} ms = ${ratio} × empty; ` +
          `with a mount and ten files ${job.toFixed(1)} ms, a shell's ${shell.toFixed(1)} ms`,
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
