/** Commands that run at the same time, each line of theirs behind the name of the one that printed it. */
import { spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";

/**
 * Runs them all to their ends, whatever becomes of the others.
 *
 * @param {Record<string, string[]>} commands by the names that their lines get
 * @param {import("node:child_process").SpawnOptions} [options]
 * @returns {Promise<Record<string, string | undefined>>} what went wrong, by the same names
 */
export async function sideBySide(commands, options = {}) {
  const width = Math.max(...Object.keys(commands).map((name) => name.length));
  const ends = Object.entries(commands).map(
    async ([name, [command, ...args]]) => {
      const child = spawn(command, args, {
        ...options,
        stdio: ["ignore", "pipe", "pipe"],
      });
      const printed = [
        [child.stdout, process.stdout],
        [child.stderr, process.stderr],
      ].map(async ([from, to]) => {
        for await (
          const line of createInterface({ input: from, crlfDelay: Infinity })
        ) {
          to.write(`${name.padEnd(width)} | ${line}\n`);
        }
      });
      const wrong = await new Promise((resolve) => {
        child.on("error", (error) => resolve(error.message));
        child.on(
          "close",
          (status, signal) =>
            resolve(
              status === 0 ? undefined : `ended with ${signal ?? status}`,
            ),
        );
      });
      await Promise.all(printed);
      return [name, wrong];
    },
  );
  return Object.fromEntries(await Promise.all(ends));
}
