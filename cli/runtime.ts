/**
 * What a program needs of its runtime: the only file here that names one.
 *
 * @module
 */
import { LoopError } from "../lib/errors.ts";

/** Where a program writes to. */
export type Stream = "stdout" | "stderr";

/** Arguments, output, exit. */
export interface Runtime {
  readonly args: readonly string[];
  /** Writes at least one of the bytes, before it returns; gives how many. Throws LoopError. */
  write(stream: Stream, bytes: Uint8Array): number;
  exit(code: number): never;
  /** Ends by SIGPIPE, which the runtime ignores for itself. */
  endBySigpipe(): never;
}

/** On Deno neither `process` nor `node:`, which cost more than all the rest. */
export async function currentRuntime(): Promise<Runtime> {
  return "Deno" in globalThis ? denoRuntime() : await nodeRuntime();
}

const SIGPIPE = 13;
const SIG_DFL = 0;
/** What a shell calls a program that SIGPIPE has ended. */
const ENDED_BY_SIGPIPE = 128 + SIGPIPE;
const EIO = 5;

function denoRuntime(): Runtime {
  return {
    args: Deno.args,
    write(stream, bytes) {
      try {
        return Deno[stream].writeSync(bytes);
      } catch (error) {
        const [, errno = EIO] = /\(os error (\d+)\)/.exec(String(error)) ?? [];
        throw new LoopError({ errno: Number(errno), syscall: "write", path: stream, cause: error });
      }
    },
    exit: Deno.exit,
    endBySigpipe() {
      try {
        const { symbols } = Deno.dlopen("libc.so.6", {
          signal: { parameters: ["i32", "usize"], result: "usize" },
          raise: { parameters: ["i32"], result: "i32" },
        });
        symbols.signal(SIGPIPE, BigInt(SIG_DFL));
        symbols.raise(SIGPIPE);
      } catch {
        // No permission for FFI.
      }
      Deno.exit(ENDED_BY_SIGPIPE);
    },
  };
}

async function nodeRuntime(): Promise<Runtime> {
  const { default: process } = await import("node:process");
  const { readFileSync, writeSync } = await import("node:fs");
  const { dlopen } = await import("bun:ffi");
  // Of `bun cli.ts -- x` Bun keeps the "--" for itself.
  const args = process.argv.slice(2);
  const words = readFileSync("/proc/self/cmdline", "utf8").split("\0").slice(0, -1);
  if (words.at(-args.length - 1) === "--") args.unshift("--");
  return {
    args,
    write(stream, bytes) {
      try {
        return writeSync(stream === "stdout" ? 1 : 2, bytes);
      } catch (error) {
        const { errno = -EIO } = error as { errno?: number };
        throw new LoopError({ errno: -errno, syscall: "write", path: stream, cause: error });
      }
    },
    exit: (code) => process.exit(code),
    endBySigpipe() {
      const { symbols } = dlopen("libc.so.6", {
        signal: { args: ["i32", "u64"], returns: "u64" },
        raise: { args: ["i32"], returns: "i32" },
      });
      symbols.signal(SIGPIPE, SIG_DFL);
      symbols.raise(SIGPIPE);
      return process.exit(ENDED_BY_SIGPIPE);
    },
  };
}
