/**
 * What a program needs of its runtime: the only file here that names one.
 *
 * @module
 */

/** Arguments, exit, and a way to write for a program that cannot call libc. */
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

const DESCRIPTORS = { stdout: 1, stderr: 2 };

/** Bun and Node have it; not by an import, which Deno would load, too. */
function nodeFs(): { writeSync(fd: number, bytes: Uint8Array): number } {
  return process.getBuiltinModule("node:fs");
}

function bunRuntime(): Runtime {
  return {
    args: process.argv.slice(2),
    // Not process.stdout.write(): what that cannot write it says later, when the program has ended.
    write(stream, bytes) {
      const { writeSync } = nodeFs();
      for (let done = 0; done < bytes.length;) {
        done += writeSync(DESCRIPTORS[stream], bytes.subarray(done));
      }
    },
    exit: (code) => process.exit(code),
  };
}
