/**
 * The experiments behind loopdev's guarantees: system calls that fail, processes that are killed,
 * devices that others fight for, and many cycles.
 *
 *     deno task torture --json torture.json
 */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { numberOf, readOptions } from "../dev/options.ts";
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
  grow_tables: script("grow_tables", ({ full, scale }) => [
    "--count",
    String(Math.ceil((full ? 10_000 : 200) * scale)),
  ]),
  file_systems: script("file_systems", ({ full, scale }) => [
    "--count",
    String(Math.ceil((full ? 200_000 : 5_000) * scale)),
  ]),
  planted: script("planted", ({ full, only }) => [
    ...full ? [] : ["--some", "2"],
    ...only ? ["--only", only.source] : [],
  ]),
  mutants: script("mutants", ({ full }) => full ? [] : ["--some", "8"]),
};

const HELP = `Usage: torture/run.ts [options]

Part "faults" makes each system call of each scenario fail with each error that it can give: once, from then
on, and together with each call of the undo that follows. With --size full all of them on each runtime; with ci
each scenario on one runtime, and as many, drawn anew, as 280 seconds times --scale allow in all.

Needs root, strace, losetup, sfdisk, delpart and e2fsprogs, bun, deno and node; touches no loop device but its own.
Exits with 1 if any guarantee was violated.

      --part NAME      ${Object.keys(PARTS).join(", ")}; repeatable (all)
      --size SIZE      ci or full (full)
      --scale X        multiplies how often things are done (1)
      --runtime NAME   ${RUNTIMES.join(" or ")}; repeatable (all)
      --scenario NAME  of faults and kill: ${SCENARIOS.join(", ")}; repeatable (all)
      --only PATTERN   of faults and kill: only cases whose names match; of interleave: kinds of programs
      --seed N         of interleave: other random programs (1)
      --program FILE   of interleave: only this one, which a failure has left
      --json FILE      writes the verdicts
  -h, --help           this text`;

function parse() {
  const { values: flags } = readOptions(HELP, {
    part: { type: "string", multiple: true },
    size: { type: "string" },
    scale: { type: "string" },
    runtime: { type: "string", multiple: true },
    scenario: { type: "string", multiple: true },
    only: { type: "string" },
    seed: { type: "string" },
    program: { type: "string" },
    json: { type: "string" },
  });
  const choose = <T extends string>(
    flag: "part" | "runtime" | "scenario" | "size",
    all: readonly T[],
  ): readonly T[] => {
    const chosen = [flags[flag] ?? []].flat() as T[];
    for (const name of chosen) {
      if (!all.includes(name)) throw new Error(`--${flag} takes ${all.join(", ")}, not '${name}'`);
    }
    return chosen.length > 0 ? chosen : all;
  };
  const scale = Number(flags.scale ?? 1);
  if (!(scale > 0)) throw new Error(`--scale takes a number above 0, not '${flags.scale}'`);
  const request: Request = {
    full: choose("size", ["full", "ci"])[0] === "full",
    scale,
    runtimes: choose<RuntimeName>("runtime", RUNTIMES),
    scenarios: choose<ScenarioName>("scenario", SCENARIOS),
    only: flags.only === undefined ? undefined : new RegExp(flags.only),
    seed: numberOf("seed", flags.seed, 1),
    program: flags.program,
  };
  const parts = choose("part", Object.keys(PARTS));
  return { parts, request, json: flags.json };
}

async function main(): Promise<number> {
  const { parts, request, json } = parse();
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
  status = await main();
} catch (error) {
  console.error(`torture: ${error instanceof Error ? error.message : error}`);
} finally {
  cleanUp();
}
process.exit(status);
