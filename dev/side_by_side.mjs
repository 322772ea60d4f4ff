/** Commands that run side by side. Plain JavaScript, as dev/test.mjs is. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { readReport } from "./junit.mjs";

/**
 * Runs each to its end, and prints each line of theirs behind its name. Test suites among them take
 * turns where a test wants the machine for itself (tests/support/turns.ts).
 *
 * @param {{ name: string, command: string[], cwd?: string, env?: Record<string, string> }[]} commands
 * @param {import("node:child_process").SpawnOptions} options
 * @returns {Promise<Map<string, string | undefined>>} by name: how it failed, or undefined
 */
export async function runSideBySide(commands, { env = process.env, ...options }) {
  const folder = mkdtempSync(join(tmpdir(), "loopdev-turns-"));
  const turns = join(folder, "turns");
  writeFileSync(turns, "");
  const width = Math.max(...commands.map(({ name }) => name.length));
  const outcomes = commands.map((
    { name, command: [program, ...args], cwd = options.cwd, env: own },
  ) =>
    new Promise((resolve) => {
      const child = spawn(program, args, {
        ...options,
        cwd,
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...env, ...own, LOOPDEV_TEST_TURNS: turns },
      });
      for (const [stream, to] of [[child.stdout, process.stdout], [child.stderr, process.stderr]]) {
        createInterface({ input: stream }).on("line", (line) => {
          to.write(`${name.padEnd(width)} | ${line}\n`);
        });
      }
      child.on("error", (error) => resolve([name, error.message]));
      child.on("close", (status, signal) => {
        resolve([name, status === 0 ? undefined : String(signal ?? status)]);
      });
    })
  );
  try {
    return new Map(await Promise.all(outcomes));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * Runs suites side by side, each with a JUnit report.
 *
 * @param {{ name: string, command: string[], cwd?: string, env?: Record<string, string>, report: string }[]} suites
 * @param {import("node:child_process").SpawnOptions} options
 * @returns {Promise<{ reports: { name: string, cases: ReturnType<typeof readReport> }[], broken: string[], exitCode: number }>}
 *   `broken`: what is wrong, a line each; `exitCode`: 0, 1 where tests failed and nothing else, or 2
 */
export async function runSuites(suites, options) {
  for (const { report } of suites) rmSync(report, { force: true });
  const ends = await runSideBySide(suites, options);
  const reports = suites.map(({ name, report }) => ({ name, cases: readReport(report) }));
  const wrong = reports.map(({ name, cases }) => {
    const failed = cases.filter((test) => test.failed).length;
    if (failed > 0) {
      return { code: 1, what: `${name}: ${failed} ${failed === 1 ? "test" : "tests"} failed` };
    }
    if (ends.get(name) !== undefined) {
      return { code: 2, what: `${name} ended with ${ends.get(name)}` };
    }
    if (cases.length === 0) return { code: 2, what: `${name} ran no test` };
    return { code: 0, what: "" };
  });
  return {
    reports,
    broken: wrong.filter(({ code }) => code > 0).map(({ what }) => what),
    exitCode: Math.max(...wrong.map(({ code }) => code)),
  };
}
