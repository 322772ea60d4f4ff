/**
 * What importing loopdev, attaching and detaching once take beside a script that does nothing: whole
 * processes, with the library of dist/ as users import it. By itself it prints a line a runtime:
 *
 *     deno run --allow-all bench/startup.ts
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readOptions } from "../dev/options.ts";
import { onRuntime, ROOT, type Runtime, RUNTIMES } from "../tests/support/support.ts";
import { makeImage, median } from "./measure.ts";

/** Turns of each; a median of fewer says little on a busy machine. */
const STARTS = 31;
/** What `import "loopdev"` leads to: on Bun to the library that is compiled in advance. */
const bundleOf = (runtime: Runtime) =>
  join(ROOT, runtime === "bun" ? "dist/loopdev.bun.js" : "dist/loopdev.js");

/** ms of each start. */
export interface Startup {
  empty: number[];
  attach: number[];
}

function wholeProcess([file, ...args]: string[]): number {
  const start = performance.now();
  const { status, stderr } = spawnSync(file, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return performance.now() - start;
}

/** The two take turns. Undefined where nothing is built. */
export function measureStartup(runtime: Runtime): Startup | undefined {
  if (!existsSync(bundleOf(runtime))) return undefined;
  const folder = mkdtempSync(join(tmpdir(), "loopdev-startup-"));
  try {
    const [empty, attach] = [join(folder, "empty.js"), join(folder, "attach.js")];
    writeFileSync(empty, "export {};\n");
    writeFileSync(
      attach,
      `import { attach } from ${JSON.stringify(bundleOf(runtime))};
       const image = ${JSON.stringify(makeImage(folder, "plain.img", 8))};
       const loop = await attach(image, { partscan: true, workaround: "never" });
       await loop.detach();\n`,
    );
    const times: Startup = { empty: [], attach: [] };
    // The first start of each fills the caches.
    for (let turn = 0; turn <= STARTS; turn++) {
      for (const [name, script] of [["empty", empty], ["attach", attach]] as const) {
        const took = wholeProcess(onRuntime(runtime, script));
        if (turn > 0) times[name].push(took);
      }
    }
    return times;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const HELP = `Usage: bench/startup.ts

Measures a script that imports the library of dist/, attaches and detaches once, beside one that does
nothing, on each runtime. Needs root, and deno task build before.

  -h, --help  this text`;

if (import.meta.main) {
  readOptions(HELP, {});
  for (const runtime of RUNTIMES) {
    const times = measureStartup(runtime);
    if (!times) throw new Error("nothing is built: deno task build");
    const [attach, empty] = [median(times.attach), median(times.empty)];
    const ratio = (attach / empty).toFixed(2);
    console.log(`${runtime}: ${attach.toFixed(1)} / ${empty.toFixed(1)} ms = ${ratio} × empty`);
  }
}
