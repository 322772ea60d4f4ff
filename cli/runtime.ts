/**
 * What a program needs of its runtime: the only file here that names one.
 *
 * @module
 */

/** Arguments, output, exit. */
export interface Runtime {
  readonly args: readonly string[];
  /** Writes all of it, before it returns. */
  write(stream: "stdout" | "stderr", text: string): void;
  isTerminal(stream: "stdout" | "stderr"): boolean;
  /** Width of the terminal that stdout is. */
  columns(): number;
  exit(code: number): never;
}

/** On Deno neither `process` nor `node:`, which cost more than all the rest. */
export async function currentRuntime(): Promise<Runtime> {
  return "Deno" in globalThis ? denoRuntime() : await nodeRuntime();
}

function denoRuntime(): Runtime {
  return {
    args: Deno.args,
    write(stream, text) {
      const bytes = new TextEncoder().encode(text);
      for (let done = 0; done < bytes.length;) {
        done += Deno[stream].writeSync(bytes.subarray(done));
      }
    },
    isTerminal: (stream) => Deno[stream].isTerminal(),
    columns: () => Deno.consoleSize().columns,
    exit: Deno.exit,
  };
}

async function nodeRuntime(): Promise<Runtime> {
  const { default: process } = await import("node:process");
  const { readFileSync, writeSync } = await import("node:fs");
  // Of `bun cli.ts -- x` Bun keeps the "--" for itself.
  const args = process.argv.slice(2);
  const words = readFileSync("/proc/self/cmdline", "utf8").split("\0").slice(0, -1);
  if (words.at(-args.length - 1) === "--") args.unshift("--");
  return {
    args,
    write(stream, text) {
      const bytes = new TextEncoder().encode(text);
      for (let done = 0; done < bytes.length;) {
        done += writeSync(process[stream].fd, bytes, done);
      }
    },
    isTerminal: (stream) => process[stream].isTTY ?? false,
    columns: () => process.stdout.columns,
    exit: (code) => process.exit(code),
  };
}
