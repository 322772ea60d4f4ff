/** Parts that are programs of their own: they run alone, too. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { spawn } from "node:child_process";
import process from "node:process";
import { onRuntime, ROOT, scratch } from "../tests/support/support.ts";
import type { Part, Request, Row } from "./common.ts";

/** Runs torture/NAME.ts, if there is one; its verdicts are its rows, or its exit code. */
export function script(name: string, options: (request: Request) => string[]): Part {
  return async (request) => {
    const path = join(ROOT, `torture/${name}.ts`);
    if (!existsSync(path)) return [];
    const json = scratch(`${name}.json`);
    const [command, ...args] = onRuntime("deno", path, ...options(request), "--json", json);
    const child = spawn(command, args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    child.stdout.on("data", (data) => {
      said += data;
      process.stderr.write(data);
    });
    const status = await new Promise((resolve) => child.on("close", resolve));
    const rows: Row[] = existsSync(json) ? JSON.parse(readFileSync(json, "utf8")).rows ?? [] : [];
    const detail = said.trim().split("\n").at(-1) ?? "";
    const all: Row = { part: name, name: "all", outcome: status === 0 ? "pass" : "fail", detail };
    return rows.length === 0 || rows.every(({ outcome }) => outcome === "pass") && status !== 0
      ? [...rows, all]
      : rows;
  };
}
