/**
 * What the program prints: as stdio does it, in pieces of 4096 bytes, on a terminal line by line.
 *
 * @module
 */
import { check, type Descriptor, encodeName, isErrno, libc, SYS } from "../lib/losetup/list.ts";
import { Failure } from "./failure.ts";
import { environment } from "./program.ts";
import type { Runtime } from "./runtime.ts";
import type { Screen } from "./show.ts";

type Stream = "stdout" | "stderr";

/** stdout, and what it is. */
export class Output implements Screen {
  readonly #runtime: Runtime;
  readonly #piece = new Uint8Array(4096);
  #used = 0;
  #window: { width: number | undefined } | undefined;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  get terminal(): number | undefined {
    return (this.#window ??= { width: terminalWidth("stdout") }).width;
  }

  get jsonLayout(): Screen["jsonLayout"] {
    const layout = environment("LIBSMARTCOLS_JSON");
    return layout === "compact" || layout === "lines" ? layout : "pretty";
  }

  /** A reader that has gone ends the program at the next piece, whatever is still to come. */
  write(texts: Iterable<string>): void {
    for (const text of texts) {
      for (let bytes = encodeName(text); bytes.length > 0;) {
        const fitting = bytes.subarray(0, this.#piece.length - this.#used);
        this.#piece.set(fitting, this.#used);
        this.#used += fitting.length;
        bytes = bytes.subarray(fitting.length);
        if (this.#used === this.#piece.length) this.flush();
      }
      if (this.terminal !== undefined) this.flush();
    }
  }

  /** Writes what is pending. */
  flush(): void {
    const pending = this.#piece.subarray(0, this.#used);
    this.#used = 0;
    // Without FFI even writing nothing is a call, which fails again where one has failed.
    if (pending.length === 0) return;
    try {
      writeAll(this.#runtime, "stdout", pending);
    } catch (error) {
      throw new Failure("write error", error);
    }
  }
}

/** Writes a line to stderr at once. */
export function writeError(runtime: Runtime, text: string): void {
  writeAll(runtime, "stderr", encodeName(text));
}

/** Where nobody reads any more the program ends as others do, by SIGPIPE and without a word. */
function writeAll(runtime: Runtime, stream: Stream, bytes: Uint8Array): void {
  if (!canCall()) return runtime.write(stream, bytes);
  for (let done = 0; done < bytes.length;) {
    const rest = bytes.subarray(done);
    const written = libc().syscall(SYS("write"), DESCRIPTORS[stream], rest, rest.length);
    if (isErrno(written, "EPIPE")) endBySigpipe(runtime);
    if (!isErrno(written, "EINTR")) done += check(written, "write", stream);
  }
}

const SIGPIPE = 13;
/** The kernel's struct sigaction, 32 bytes: SIG_DFL, no flags, and a mask of eight bytes. */
const DEFAULT_ACTION = new Uint8Array(new ArrayBuffer(32));

/** Both runtimes ignore SIGPIPE for themselves. */
function endBySigpipe(runtime: Runtime): never {
  libc().syscall(SYS("rt_sigaction"), SIGPIPE, DEFAULT_ACTION, 0, 8);
  libc().syscall(SYS("kill"), libc().syscall(SYS("getpid")), SIGPIPE);
  // What a shell calls a program that SIGPIPE has ended.
  runtime.exit(128 + SIGPIPE);
}

/** Without Deno's permission for FFI there is an error to be written all the same. */
function canCall(): boolean {
  try {
    return Boolean(libc());
  } catch {
    return false;
  }
}

const TIOCGWINSZ = 0x5413;
/** Of every process, and never closed. */
const DESCRIPTORS = { stdout: 1 as Descriptor, stderr: 2 as Descriptor };

/**
 * How wide the terminal is; undefined if it is none. A serial console does not know: then COLUMNS
 * says it, or it is 80.
 */
export function terminalWidth(stream: Stream): number | undefined {
  // struct winsize: rows, columns, and both in pixels
  const winsize = new Uint16Array(new ArrayBuffer(8));
  const bytes = new Uint8Array(winsize.buffer);
  // What cannot be known is taken for a terminal, where nothing raw may go.
  if (canCall() && libc().ioctlBuffer(DESCRIPTORS[stream], TIOCGWINSZ, bytes) < 0) return undefined;
  const [, columns] = winsize;
  if (columns > 0) return columns;
  const wanted = environment("COLUMNS") ?? "";
  return /^\s*\+?\d+$/.test(wanted) && Number(wanted) > 0 && Number(wanted) < 2 ** 31
    ? Number(wanted)
    : 80;
}
