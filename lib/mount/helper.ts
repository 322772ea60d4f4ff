/**
 * Shells that this process starts, and that go on when it ends: they read a pipe of which it holds the only
 * write end.
 *
 * @module
 */
import { LoopError, withMore } from "../base/errors.ts";
import type { OpenFile } from "../kernel/file.ts";
import { pipe } from "../kernel/pipe.ts";
import { hasReader, runScript } from "../kernel/program.ts";

const SHELL = "/bin/sh";
/** Not the user's PATH: the shell runs as root, and PATH may name folders that others write to. */
export const TOOLS = "PATH=/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";
/** A script's exit code where a tool of it is missing. */
const WITHOUT_TOOLS = 127;

export interface Helper {
  /** The script. Its descriptor 3 is the pipe's read end, those of `files` follow. */
  readonly text: string;
  /** In a list of processes, and of its pipe in errors. */
  readonly name: string;
  readonly args: readonly string[];
  readonly files: readonly OpenFile[];
  /** Which of its tools an error names. */
  readonly tool: string;
  /** For an error: what it needs, and what for. */
  readonly needs: string;
  /** The pipe has ended before the helper starts: it waits for nothing that this process does. */
  readonly isEnded?: boolean;
}

/**
 * Runs the script, whose background is the helper. Resolves to the pipe's write end, closed with `isEnded`;
 * rejects with LoopError unless the script ends with 0, or was killed when the helper ran already: the end of
 * the pipe would have that one clean up after a process that lives.
 */
export async function startHelper(
  { text, name, args, files, tool, needs, isEnded }: Helper,
): Promise<OpenFile> {
  const { readEnd, writeEnd } = pipe(`the pipe of ${name}`);
  try {
    if (isEnded) writeEnd.close();
    const status = await runScript({
      path: SHELL,
      text,
      name,
      args,
      env: [TOOLS, "LC_ALL=C"],
      files: [readEnd, ...files],
    }).catch((error) => {
      throw withMore(error, needs);
    }).finally(() => readEnd.close());
    // Unknown: whether the helper runs says how the script has ended.
    if (status === 0 || (isEnded ? status === undefined : hasReader(writeEnd))) return writeEnd;
    const how = status === undefined ? "" : ` with exit code ${status}`;
    const [code, path, hint] = status === WITHOUT_TOOLS
      ? ["ENOENT", tool, needs] as const
      : ["EIO", SHELL, `${name} ended${how}; ${needs}`] as const;
    throw new LoopError({ code, syscall: "posix_spawn", path, hint });
  } catch (error) {
    writeEnd.close();
    throw error;
  }
}
