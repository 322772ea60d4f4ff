/**
 * What a program needs of its runtime: the only file here that names one.
 *
 * @module
 */

/** Arguments, exit, and a way to write for a program that may not call libc. */
export interface Runtime {
  readonly args: readonly string[];
  /** Throws whatever the runtime throws. */
  write(stream: "stdout" | "stderr", bytes: Uint8Array): void;
  exit(code: number): never;
}

/** On Deno no `process`, on neither `node:`: they cost more than all the rest. */
export function currentRuntime(): Runtime {
  return "Deno" in globalThis ? denoRuntime() : bunRuntime();
}

function denoRuntime(): Runtime {
  return {
    args: Deno.args,
    write: (stream, bytes) => void Deno[stream].writeSync(bytes),
    exit: Deno.exit,
  };
}

function bunRuntime(): Runtime {
  return {
    args: process.argv.slice(2),
    write: (stream, bytes) => void process[stream].write(bytes),
    exit: (code) => process.exit(code),
  };
}
