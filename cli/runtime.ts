/**
 * What the program needs of its runtime. No other file of cli/ names a runtime.
 *
 * @module
 */

/** Arguments, exit, and a way to write for a program that cannot call libc. */
export interface Runtime {
  readonly args: readonly string[];
  /** Throws whatever the runtime throws. */
  write(stream: "stdout" | "stderr", bytes: Uint8Array): void;
  exit(code: number): never;
  /** Calls back, instead of dying, at each of these signals. */
  onSignal(listener: (signal: Signal) => void): void;
}

/** What a terminal, an administrator or a service manager ends a program with. */
const SIGNALS = ["SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP"] as const;
export type Signal = typeof SIGNALS[number];

/** Without `process` on Deno and `node:` on either: each costs more time than the rest of the start. */
export function currentRuntime(): Runtime {
  return "Deno" in globalThis ? denoRuntime() : bunRuntime();
}

function denoRuntime(): Runtime {
  return {
    args: Deno.args,
    write: (stream, bytes) => void Deno[stream].writeSync(bytes),
    exit: Deno.exit,
    onSignal(listener) {
      for (const signal of SIGNALS) Deno.addSignalListener(signal, () => listener(signal));
    },
  };
}

const DESCRIPTORS = { stdout: 1, stderr: 2 };

/** Not imported: Deno would load an import, too. */
function nodeFs(): { writeSync(fd: number, bytes: Uint8Array): number } {
  return process.getBuiltinModule("node:fs");
}

function bunRuntime(): Runtime {
  return {
    args: process.argv.slice(2),
    // Not process.stdout.write(): it reports a failed write later, when the program has ended.
    write(stream, bytes) {
      const { writeSync } = nodeFs();
      for (let done = 0; done < bytes.length;) {
        done += writeSync(DESCRIPTORS[stream], bytes.subarray(done));
      }
    },
    exit: (code) => process.exit(code),
    onSignal(listener) {
      for (const signal of SIGNALS) process.on(signal, () => listener(signal));
    },
  };
}
