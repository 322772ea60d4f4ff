/** What the examples share that run a command: signals, exit codes, and a line for each error. */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import process from "node:process";
import { messagesOf } from "./printable.ts";

/** Exit code of a process that a signal ends, as shells give it. */
export function signalCode(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}

/** Calls `handle` for each SIGINT and SIGTERM, from now on. */
export function onSignal(handle: (signal: NodeJS.Signals) => void): void {
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => handle(signal));
}

/** Runs the command to its end, passing signals on to it, and gives its exit code. */
export function runCommand(
  [name, ...args]: string[],
  env: Record<string, string>,
  cwd?: string,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(name, args, { stdio: "inherit", env: { ...process.env, ...env }, cwd });
    // Not child.kill(): on Deno that makes the signal the reported end, whatever the child did.
    onSignal((signal) => child.pid !== undefined && process.kill(child.pid, signal));
    child.on("error", (error) => reject(new Error(`cannot run '${name}': ${error.message}`)));
    child.on("exit", (code, signal) => resolve(signal ? signalCode(signal) : code ?? 1));
  });
}

/**
 * Runs a program to its end. `stop` is aborted by the first SIGINT or SIGTERM, from the start: one in
 * the middle of attach() must undo it. Errors are lines on stderr.
 */
export async function runMain(
  name: string,
  main: (args: string[], stop: AbortSignal) => Promise<number>,
): Promise<never> {
  const stop = new AbortController();
  onSignal((signal) => stop.abort(signal));
  let status: number;
  try {
    status = await main(process.argv.slice(2), stop.signal);
  } catch (error) {
    const isStopped = stop.signal.aborted && error === stop.signal.reason;
    status = isStopped ? signalCode(stop.signal.reason) : 1;
    if (!isStopped) {
      for (const message of messagesOf(error)) console.error(`${name}: ${message}`);
    }
  }
  process.exit(status);
}
