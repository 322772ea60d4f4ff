/** The runtimes that loopdev is for, and how each runs a script of ours. */
import { join } from "node:path";
import process from "node:process";

export const ROOT: string = new URL("..", import.meta.url).pathname;

export const RUNTIMES = ["bun", "deno", "node"] as const;
export type Runtime = typeof RUNTIMES[number];
export const RUNTIME_NAMES: Record<Runtime, string> = { bun: "Bun", deno: "Deno", node: "Node.js" };

/** The one that runs the tests. */
export const RUNTIME: Runtime = "Deno" in globalThis
  ? "deno"
  : "Bun" in globalThis
  ? "bun"
  : "node";

/** The machine's own Node may have no node:ffi. */
export const NODE: string = RUNTIME === "node"
  ? process.execPath
  : join(ROOT, "dev/node_modules/.bin/node");

/** Node warns of what is experimental, and of a script in a folder without a package.json. */
const QUIET = ["ExperimentalWarning", "MODULE_TYPELESS_PACKAGE_JSON"]
  .map((warning) => `--disable-warning=${warning}`);

const COMMANDS: Record<Runtime, readonly string[]> = {
  bun: ["bun", "run"],
  deno: ["deno", "run", "--no-prompt", "--quiet", "--no-lock", "--allow-all"],
  node: [NODE, ...QUIET],
};

/** The command line that runs a script of ours on a runtime. */
export function onRuntime(runtime: Runtime, script: string, ...args: string[]): string[] {
  return [...COMMANDS[runtime], script, ...args];
}

/** The same on the runtime that runs the tests. */
export function onThisRuntime(script: string, ...args: string[]): string[] {
  const [, ...rest] = onRuntime(RUNTIME, script, ...args);
  return [process.execPath, ...rest];
}
