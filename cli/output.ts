/**
 * Writes as stdio does: in pieces of 4096 bytes, on a terminal line by line.
 *
 * @module
 */
import { check, type Descriptor, encodeName, isErrno, libc, SYS } from "../lib/losetup/list.ts";
import { Failure } from "./failure.ts";
import { environment } from "./program.ts";
import type { Runtime } from "./runtime.ts";
import type { Screen } from "./show.ts";
import { encodeControls } from "./text.ts";

type Stream = "stdout" | "stderr";

/** stdout. */
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

  /** If the reader is gone, the next piece ends the program. */
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
    // After a failure the end of the program flushes once more, and must not fail a second time.
    if (pending.length === 0) return;
    try {
      writeAll(this.#runtime, "stdout", pending);
    } catch (error) {
      throw new Failure("write error", error);
    }
  }
}

/** Says `message` on stderr, behind the program's name. */
export function writeWarning(runtime: Runtime, name: string, message: string): void {
  // A name can have control sequences, which a terminal obeys.
  const safe = terminalWidth("stderr") === undefined ? message : encodeControls(message);
  writeError(runtime, `${name}: ${safe}\n`);
}

/** Writes a line to stderr at once. */
export function writeError(runtime: Runtime, text: string): void {
  writeAll(runtime, "stderr", encodeName(text));
}

/** If the reader is gone the program ends as others do: by SIGPIPE, without a message. */
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

/** Both runtimes ignore SIGPIPE. */
function endBySigpipe(runtime: Runtime): never {
  libc().syscall(SYS("rt_sigaction"), SIGPIPE, DEFAULT_ACTION, 0, 8);
  libc().syscall(SYS("kill"), libc().syscall(SYS("getpid")), SIGPIPE);
  // The exit code with which a shell reports a program that SIGPIPE ended.
  runtime.exit(128 + SIGPIPE);
}

/** Without Deno's permission for FFI there is still an error to write. */
function canCall(): boolean {
  try {
    return Boolean(libc());
  } catch {
    return false;
  }
}

const TIOCGWINSZ = 0x5413;
/** These two are never closed. */
const DESCRIPTORS = { stdout: 1 as Descriptor, stderr: 2 as Descriptor };

/**
 * How wide the terminal is; undefined if it is none. A serial console does not know its width: then
 * COLUMNS counts, or 80.
 */
export function terminalWidth(stream: Stream): number | undefined {
  // struct winsize: rows, columns, and both in pixels
  const winsize = new Uint16Array(new ArrayBuffer(8));
  const bytes = new Uint8Array(winsize.buffer);
  // Without FFI nobody can tell: it is taken for a terminal, to which nothing raw may go.
  if (canCall() && libc().ioctlBuffer(DESCRIPTORS[stream], TIOCGWINSZ, bytes) < 0) return undefined;
  const [, columns] = winsize;
  if (columns > 0) return columns;
  const wanted = environment("COLUMNS") ?? "";
  return /^\s*\+?\d+$/.test(wanted) && Number(wanted) > 0 && Number(wanted) < 2 ** 31
    ? Number(wanted)
    : 80;
}
