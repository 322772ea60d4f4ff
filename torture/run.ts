/**
 * The experiments behind loopdev's guarantees: system calls that fail, processes that are killed,
 * devices that others fight for, and many cycles.
 *
 *     deno task torture --json torture.json
 */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "@std/cli/parse-args";
import { progress, say, table } from "../dev/terminal.ts";
import { cleanUp, cleanUpWhenInterrupted } from "./cleanup.ts";
import type { Part, Request, Row } from "./common.ts";
import { contention } from "./contention.ts";
import { faults } from "./faults.ts";
import { interleave } from "./interleave.ts";
import { keepers } from "./keeper.ts";
import { kills } from "./kill.ts";
import { mounts } from "./mounts.ts";
import { script } from "./scripts.ts";
import { soaks } from "./soak.ts";
import { type RuntimeName, RUNTIMES, type ScenarioName, SCENARIOS } from "./scenarios.ts";

// Once a day Deno asks on the network for a newer one, in the middle of what is traced here.
process.env.DENO_NO_UPDATE_CHECK = "1";

const PARTS: Record<string, Part> = {
  faults,
  kill: kills,
  mounts,
  keeper: keepers,
  interleave,
  contention,
  soak: soaks,
  tables: script("tables", ({ full, scale }) => [
    "--count",
    String(Math.ceil((full ? 1_000_000 : 50_000) * scale)),
  ]),
  read_tables: script("read_tables", ({ full, scale }) => [
    "--count",
    String(Math.ceil((full ? 1_000_000 : 20_000) * scale)),
  ]),
  file_systems: script("file_systems", ({ full, scale }) => [
    "--count",
    String(Math.ceil((full ? 200_000 : 5_000) * scale)),
  ]),
  mutants: script("mutants", () => []),
};

const HELP = `Usage: run.ts [options]

Needs root, strace, losetup, sfdisk, delpart and e2fsprogs, bun and deno; touches no loop device but its own.
Exits with 1 if any guarantee was violated.

  --part NAME      ${Object.keys(PARTS).join(", ")}; repeatable (all)
  --size SIZE      ci or full (full)
  --scale X        multiplies how often things are done (1)
  --runtime NAME   ${RUNTIMES.join(" or ")}; repeatable (both)
  --scenario NAME  of faults and kill: ${SCENARIOS.join(", ")}; repeatable (all)
  --only PATTERN   of faults and kill: only cases whose names match
  --json FILE      writes the verdicts
  -h, --help       this text`;

function parse(args: string[]) {
  const flags = parseArgs(args, {
    string: ["part", "size", "scale", "runtime", "scenario", "only", "json"],
    boolean: ["help"],
    collect: ["part", "runtime", "scenario"],
    default: { size: "full", scale: "1" },
    alias: { h: "help" },
    unknown(argument: string) {
      throw new Error(`unknown argument '${argument}'; try --help`);
    },
  });
  const choose = <T extends string>(flag: string, all: readonly T[]): readonly T[] => {
    const chosen = [flags[flag]].flat();
    for (const name of chosen) {
      if (!all.includes(name)) throw new Error(`--${flag} takes ${all.join(", ")}, not '${name}'`);
    }
    return chosen.length > 0 ? chosen : all;
  };
  const scale = Number(flags.scale);
  if (!(scale > 0)) throw new Error(`--scale takes a number above 0, not '${flags.scale}'`);
  const request: Request = {
    full: choose("size", ["ci", "full"])[0] === "full",
    scale,
    runtimes: choose<RuntimeName>("runtime", RUNTIMES),
    scenarios: choose<ScenarioName>("scenario", SCENARIOS),
    only: flags.only === undefined ? undefined : new RegExp(flags.only),
  };
  const parts = choose("part", Object.keys(PARTS));
  return { help: flags.help, parts, request, json: flags.json as string | undefined };
}

async function main(args: string[]): Promise<number> {
  const { help, parts, request, json } = parse(args);
  if (help) {
    console.log(HELP);
    return 0;
  }
  if (process.getuid?.() !== 0) throw new Error("needs root");
  const rows: Row[] = [];
  for (const part of parts) {
    const start = Date.now();
    rows.push(...await PARTS[part](request));
    progress("");
    say(`${part}: ${((Date.now() - start) / 1000).toFixed(0)} s`);
  }
  if (rows.length === 0) throw new Error("no case matches: nothing was tried");
  const failed = rows.filter(({ outcome }) => outcome === "fail");
  const header = ["part", "name", "outcome", "detail"];
  console.log(table([header, ...rows.map((row) => Object.values(row).map(String))]));
  console.log(`\n${rows.length - failed.length} passed, ${failed.length} failed`);
  if (json !== undefined) writeFileSync(json, JSON.stringify({ rows }, null, 2) + "\n");
  return failed.length === 0 ? 0 : 1;
}

cleanUpWhenInterrupted();
let status = 1;
try {
  status = await main(process.argv.slice(2));
} catch (error) {
  console.error(`torture: ${error instanceof Error ? error.message : error}`);
} finally {
  cleanUp();
}
process.exit(status);
