/** Runs a command for an example. */
import { spawn } from "node:child_process";
import process from "node:process";
import { onSignal, signalCode } from "./program.ts";

/** Runs the command to its end, passing signals on to it, and gives its exit code. */
export function runCommand(
  [name, ...args]: readonly string[],
  env: Record<string, string>,
  cwd?: string,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(name, args, { stdio: "inherit", env: { ...process.env, ...env }, cwd });
    onSignal((signal) => {
      // After its end its number may be another process's.
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
      // Not child.kill(): on Deno that makes the signal the reported end, whatever the child did.
      process.kill(child.pid, signal);
    });
    child.on("error", (error) => reject(new Error(`cannot run '${name}': ${error.message}`)));
    child.on("exit", (code, signal) => resolve(signal ? signalCode(signal) : code ?? 1));
  });
}
